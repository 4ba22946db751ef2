"""A certificate profile without a common name, for a target that refuses such certificates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry.errors import ConfigError
from certferry.wiring.profiles import load_checked
from tests.cli.consoles import TestConsole
from tests.wiring.packages import TARGET_GROUP, Packages, adapter

FILE = """
[acme]
profile = "{profile}"
[accounts.qiniu]
access_key = "env:AK"
secret_key = "env:SK"
{more}
[accounts.dnspod]
id = "env:ID"
token = "env:TOKEN"
[[certificates]]
name = "img"
{source}
[[certificates.deploy]]
to = "{to}"
{place}
"""
ISSUED = 'names = ["img.example.com"]\ndns = "dnspod"'


def write(
    directory: Path,
    profile: str,
    *,
    more: str = "",
    source: str = ISSUED,
    to: str = "qiniu",
    place: str = "",
) -> Path:
    """Write a configuration, for its owner alone."""
    path = directory / "certferry.toml"
    path.write_text(FILE.format(profile=profile, more=more, source=source, to=to, place=place))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("profile", ["tlsserver", "shortlived"])
def test_it_is_refused_when_the_file_is_read(profile: str, tmp_path: Path) -> None:
    """With file, line, reason and the way out, before any key or service is asked for."""
    path = write(tmp_path, profile)

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert (
        f"{path}:16: [[certificates.deploy]] to: qiniu refuses certificates without a common name,"
        f" and the profile {profile} makes them so"
    ) == str(caught.value)
    assert "accept_no_common_name = true" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("profile", "options"),
    [
        ("classic", {}),
        ("tlsserver", {"more": "accept_no_common_name = true"}),
        ("tlsserver", {"to": "files", "place": 'directory = "ssl"'}),
        ("tlsserver", {"source": 'fullchain = "f.pem"\nprivkey = "k.pem"'}),
    ],
    ids=["a common name", "accepted", "another target", "made elsewhere"],
)
def test_everything_else_is_read(profile: str, options: dict[str, str], tmp_path: Path) -> None:
    """A profile with a common name, an account that takes such, a directory, another's files."""
    assert load_checked(write(tmp_path, profile, **options), {}).certificates


def test_more_names_than_the_profile_has_are_refused(tmp_path: Path) -> None:
    """At Let's Encrypt, whose limit it is; with another profile to choose, that one is taken."""
    names = ", ".join(f'"n{number}.example.com"' for number in range(26))
    there = {"source": f'names = [{names}]\ndns = "dnspod"', "to": "files"}
    path = write(tmp_path, "shortlived", **there, place='directory = "ssl"')

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert f"{path}:13: [[certificates]] names: 26 names; a certificate of the profile" in str(
        caught.value
    )
    assert 'profile = "classic"' in str(caught.value.hint)
    text = path.read_text()
    path.write_text(text.replace('"shortlived"', '["shortlived", "classic"]'))
    [certificate] = load_checked(path, {}).certificates
    assert ("classic",) == certificate.issuance.profiles
    path.write_text(text.replace("[acme]", '[acme]\ndirectory = "https://ca.example/dir"'))
    assert load_checked(path, {}).certificates


def test_certificates_that_live_too_short_are_refused(tmp_path: Path) -> None:
    """Though the account takes them without a common name: they could never be uploaded."""
    path = write(tmp_path, "shortlived", more="accept_no_common_name = true")

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert (
        f"{path}:16: [[certificates.deploy]] to: qiniu takes certificates with at least 30 days"
        " left, and those of the profile shortlived live 6 days"
    ) == str(caught.value)
    more = "accept_no_common_name = true\nmin_remaining_days = 3"
    assert load_checked(write(tmp_path, "shortlived", more=more), {}).certificates


def test_no_command_goes_on(tmp_path: Path) -> None:
    """`plan`, `sync` and `status` end with 2, and certferry asked no service."""
    path = write(tmp_path, "shortlived")

    for command in ("plan", "sync", "status"):
        console = TestConsole()
        assert Exit.USAGE == run(["--config", str(path), command], console.console)
        assert "without a common name" in console.err


def test_target_of_a_package_says_so_as_well(tmp_path: Path) -> None:
    """Without a way out of its own, another profile is the only one."""
    rule = (
        "from certferry.ports.adapter import CommonNameRule\nNEEDS_COMMON_NAME = CommonNameRule()"
    )
    packages = Packages(tmp_path)
    packages.install("certferry-depot", "depot", f"{adapter()}{rule}\n", depot=TARGET_GROUP)
    path = write(tmp_path, "tlsserver", more="[accounts.depot]", to="depot")

    done = subprocess.run(
        [sys.executable, "-m", "certferry", "--config", str(path), "plan"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert Exit.USAGE == done.returncode
    assert "[[certificates.deploy]] to: depot refuses certificates without" in done.stderr
    assert 'hint: set profile = "classic" under [acme]\n' in done.stderr


LISTED = FILE.replace('"{profile}"', "{profile}")


def write_list(directory: Path, profiles: str, deploy: str) -> Path:
    """Write a configuration with a list of profiles, and a second certificate."""
    second = '[[certificates]]\nname = "other"\nnames = ["o.example.com"]\ndns = "dnspod"\n'
    text = LISTED.format(profile=profiles, more="", source=ISSUED, to="qiniu", place="")
    path = directory / "certferry.toml"
    path.write_text(f"{text}{second}[[certificates.deploy]]\n{deploy}\n")
    path.chmod(0o600)
    return path


def test_profiles_that_a_target_could_never_take_are_skipped(tmp_path: Path) -> None:
    """By certificate: what goes to a directory has the first one, what goes to the CDN the next."""
    path = write_list(
        tmp_path, '["shortlived", "tlsserver", "classic"]', 'to = "files"\ndirectory = "ssl"'
    )

    cdn, directory = load_checked(path, {}).declared

    assert ("classic",) == cdn.issuance.profiles
    assert ("shortlived", "tlsserver", "classic") == directory.issuance.profiles


def test_list_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    """Each of the profiles is told with what is against it."""
    path = write_list(tmp_path, '["shortlived", "tlsserver"]', 'to = "files"\ndirectory = "ssl"')

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert ["shortlived", "tlsserver"] == [
        line.partition("the profile ")[2].partition(" ")[0]
        for line in str(caught.value.message).splitlines()
    ]
