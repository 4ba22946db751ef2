"""`domains` and `exclude` of a deployment: what they may hold, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.config.load import load
from certferry.core.desired.certificate import DesiredDeployment
from certferry.errors import ConfigError

FILE = """\
[accounts.qiniu]
[accounts.dnspod]
[[certificates]]
name = "img"
{source}
[[certificates.deploy]]
to = "qiniu"
"""
ISSUED = 'names = ["example.com", "*.example.com"]\ndns = "dnspod"'
FERRIED = 'fullchain = "a/f.pem"\nprivkey = "a/k.pem"'


def read(tmp_path: Path, *lines: str, source: str = ISSUED) -> DesiredDeployment:
    """Read the one deployment of a file with these lines; the first is line 9."""
    path = tmp_path / "certferry.toml"
    path.write_text(FILE.format(source=source) + "\n".join(lines) + "\n")
    [certificate] = load(path, {"HOME": "/nowhere"}).certificates
    [deployment] = certificate.deployments
    return deployment


def problem(tmp_path: Path, *lines: str, source: str = ISSUED) -> str:
    """Give what is said of these lines, without the path."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, *lines, source=source)
    return str(caught.value).removeprefix(f"{tmp_path / 'certferry.toml'}:")


def test_names_wildcard_domains_and_globs(tmp_path: Path) -> None:
    """Each kind of pattern in its place, in one spelling, once."""
    deployment = read(
        tmp_path,
        'domains = ["*.Example.com", "img.example.com", ".example.com", "*.example.com.", "img*"]',
        'exclude = [".img.example.com", "test.example.com", "test.example.com", "x*"]',
    )

    assert ("img.example.com", "*.example.com") == deployment.domains
    assert ("*.example.com", "img*") == deployment.globs
    assert (".img.example.com", "test.example.com", "x*") == deployment.exclude


@pytest.mark.parametrize("domains", [[], ['domains = "auto"']])
def test_exclude_alone(domains: list[str], tmp_path: Path) -> None:
    """Of all that the certificate covers."""
    deployment = read(tmp_path, *domains, 'exclude = ["test.example.com"]')

    assert (None, ()) == (deployment.domains, deployment.globs)
    assert ("test.example.com",) == deployment.exclude


def test_exclude_takes_names_out(tmp_path: Path) -> None:
    """It counts for more than `domains`, and an empty one says nothing."""
    both = read(
        tmp_path,
        'domains = ["img.example.com", "test.example.com", "*.test.example.com"]',
        'exclude = ["*test.example.com"]',
    )
    plain = read(tmp_path, 'domains = ["img.example.com"]', "exclude = []")

    assert (("img.example.com",), ()) == (both.domains, both.globs)
    assert (("img.example.com",), ()) == (plain.domains, plain.exclude)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ['domains = ["img.example.com"]', 'exclude = ["img.*"]'],
            (
                "10: [[certificates.deploy]] exclude: excludes every domain of `domains`"
                " (img.example.com); remove those that are to be served"
            ),
        ),
        (
            ['domains = ["*.example.com", ".example.com"]', 'exclude = ["*.com"]'],
            (
                "10: [[certificates.deploy]] exclude: excludes every domain of `domains`"
                " (*.example.com, .example.com); remove those that are to be served"
            ),
        ),
        (
            ['exclude = ["*"]'],
            (
                "9: [[certificates.deploy]] exclude: excludes every domain that the certificate"
                " covers; remove those that are to be served"
            ),
        ),
        (
            ['exclude = ["*.example.com", "example.com"]'],
            (
                "9: [[certificates.deploy]] exclude: excludes every domain that the certificate"
                " covers; remove those that are to be served"
            ),
        ),
        (
            ["domains = [", '  "img.example.com",', '  "img[12].example.com"]'],
            (
                "11: [[certificates.deploy]] domains: 'img[12].example.com' is not understood;"
                " only * stands for other characters, as in img-*.example.com"
            ),
        ),
        (
            ['exclude = ["test"]'],
            (
                "9: [[certificates.deploy]] exclude: 'test' is not a domain name; write it like"
                " img.example.com or *.example.com, without https:// or a path"
            ),
        ),
        (
            ["exclude = [7]"],
            "9: [[certificates.deploy]] exclude: must be a string, and is a number",
        ),
        (
            ['exclude = "test.example.com"'],
            (
                "9: [[certificates.deploy]] exclude: must be a list, and is a string:"
                ' write ["test.example.com"]'
            ),
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(lines: list[str], said: str, tmp_path: Path) -> None:
    """And with what to write."""
    assert said == problem(tmp_path, *lines)


def test_names_in_files_are_not_known_yet(tmp_path: Path) -> None:
    """Whether something is left of what they cover is seen when they have been read."""
    assert ("*.example.com",) == read(
        tmp_path, 'exclude = ["*.example.com"]', source=FERRIED
    ).exclude
    assert "excludes every domain" in problem(
        tmp_path, 'domains = ["x.cn"]', 'exclude = ["x.cn"]', source=FERRIED
    )


def test_receivers_have_no_domains(tmp_path: Path) -> None:
    """A directory takes the certificate whole."""
    path = tmp_path / "certferry.toml"
    text = FILE.format(source=ISSUED).replace('to = "qiniu"', 'to = "files"\ndirectory = "/a"')
    path.write_text(f'{text}exclude = ["x.cn"]\n')

    with pytest.raises(ConfigError, match="exclude: unknown key"):
        load(path, {"HOME": "/nowhere"})


def test_domain_that_two_deployments_of_one_certificate_name(tmp_path: Path) -> None:
    """Which of them is to serve it, and how, must be said once."""
    said = problem(
        tmp_path,
        'domains = ["img.example.com"]',
        "[[certificates.deploy]]",
        'to = "qiniu"',
        'domains = ["img.example.com", "*.example.com"]',
    )

    assert said.endswith("deploy: two deployments to qiniu name img.example.com")
