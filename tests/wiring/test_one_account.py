"""A domain that a file names for two accounts of one service."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.errors import ConfigError
from certferry.wiring.settings import load_checked

HEAD = """\
[acme]
profile = "{profile}"
[accounts.one]
type = "{type}"
[accounts.two]
type = "{type}"
[accounts.dnspod]
[[certificates]]
name = "img"
names = ["img.example.com", "*.example.com"]
dns = "dnspod"
"""
DEPLOY = "[[certificates.deploy]]\nto = '{}'\ndomains = {}\n"


def write(
    tmp_path: Path,
    *deployments: tuple[str, list[str]],
    type_: str = "qiniu",
    profile: str = "classic",
) -> Path:
    """Write a file whose certificate is deployed so, for its owner alone."""
    path = tmp_path / "certferry.toml"
    tables = "".join(DEPLOY.format(to, domains) for to, domains in deployments)
    path.write_text(HEAD.format(type=type_, profile=profile) + tables)
    path.chmod(0o600)
    return path


def test_it_is_refused_with_both_lines(tmp_path: Path) -> None:
    """Before any key is asked for."""
    path = write(
        tmp_path, ("one", ["*.example.com", "img.example.com"]), ("two", ["img.example.com"])
    )

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert (
        f"{path}:17: [[certificates.deploy]] domains: img.example.com is named for the account one"
        " as well, at line 12, and Qiniu has a domain at one account only; take it out of one"
    ) == str(caught.value)


def test_it_is_told_beside_the_rest(tmp_path: Path) -> None:
    """All mistakes at once."""
    path = write(
        tmp_path,
        ("one", ["img.example.com"]),
        ("two", ["img.example.com"]),
        profile="shortlived",
    )

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert "img.example.com is named for the account one" in str(caught.value)
    assert "without a common name" in str(caught.value)


@pytest.mark.parametrize(
    ("two", "type_"),
    [(["a.example.com"], "qiniu"), (["*.example.com"], "qiniu"), (["img.example.com"], "nothing")],
    ids=["another domain", "a glob", "a service that is not known"],
)
def test_everything_else_is_read(two: list[str], type_: str, tmp_path: Path) -> None:
    """Globs find what each account has; a type that is not known is told when it is connected."""
    path = write(tmp_path, ("one", ["img.example.com"]), ("two", two), type_=type_)

    assert load_checked(path, {}).certificates
