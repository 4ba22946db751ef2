"""The deploy hook that certferry installs for acme.sh, as a shell runs the hook."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.errors import ConfigError
from certferry.migration import acme_sh
from tests.another_user import as_root, given_away
from tests.support.programs import needs

SAYS = """
import json, os, sys
from tests.support.programs import needs
names = ("Le_Domain", "CERT_KEY_PATH", "CERT_PATH", "CA_CERT_PATH", "CERT_FULLCHAIN_PATH",
         "QINIU_AK", "QINIU_SK")
print(json.dumps([sys.argv[1:], {name: os.environ.get(name) for name in names}]))
sys.exit(7)
"""


install = partial(acme_sh.install, exported=["QINIU_AK", "QINIU_SK"])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the home of a newly installed acme.sh."""
    (tmp_path / "account.conf").touch()
    return tmp_path


def deployed(hook: Path, *arguments: str, before: str = "") -> tuple[int, list[object]]:
    """Source the hook in a shell and deploy, as acme.sh does. Return the exit code, and the
    arguments and variables of the program.
    """
    script = f'{before}\n. "$0"\ncertferry_deploy "$@"\n'
    shell = subprocess.run(
        ["sh", "-euc", script, str(hook), *arguments],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    return shell.returncode, json.loads(shell.stdout)


@settings(max_examples=15, deadline=None)
@given(
    words=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12),
        max_size=3,
    )
)
def test_arguments_reach_the_program_unchanged(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    """The shell passes every argument to the program, and returns the program's exit code."""
    home = tmp_path_factory.mktemp("home")
    (home / "account.conf").touch()
    path, _ = install(home, [sys.executable, "-c", SAYS, *words])

    code, answer = deployed(path, "d", "k", "c", "a", "f")

    assert 7 == code
    assert words == answer[0]


def test_hook_exports_the_variables_of_a_reload_command(home: Path) -> None:
    """The five arguments become acme.sh's variables, together with keys that acme.sh stored for the
    domain.
    """
    path, changed = install(home, [sys.executable, "-c", SAYS])

    _, answer = deployed(
        path, "*.a.cn", "/x y/k", "c", "a", "f", before="QINIU_AK=1; QINIU_SK='2 3'"
    )
    _, without = deployed(path, "*.a.cn", "/x y/k", "c", "a", "f")

    files = {
        "Le_Domain": "*.a.cn",
        "CERT_KEY_PATH": "/x y/k",
        "CERT_PATH": "c",
        "CA_CERT_PATH": "a",
        "CERT_FULLCHAIN_PATH": "f",
    }
    assert changed
    assert home / "deploy" / "certferry.sh" == path
    assert {**files, "QINIU_AK": "1", "QINIU_SK": "2 3"} == answer[1]
    assert {**files, "QINIU_AK": None, "QINIU_SK": None} == without[1]


def test_second_installation_writes_nothing(home: Path) -> None:
    """The same command leaves the file unchanged; another command replaces the file and leaves only
    the new file.
    """
    path, _ = install(home, ["/bin/certferry", "hook"])
    first = path.stat()

    assert (path, False) == install(home, ["/bin/certferry", "hook"])
    assert first == path.stat()
    assert 0o644 == stat.S_IMODE(first.st_mode)

    assert (path, True) == install(home, ["/bin/certferry", "hook", "--no-wait"])
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_directory_that_is_no_home_of_acme_sh(tmp_path: Path, place: str) -> None:
    """In a missing directory, or in a directory that every user can write, nothing is created; the
    hint names the option for the home.
    """
    with pytest.raises(ConfigError) as caught:
        install(tmp_path / place, ["certferry"])

    assert f"{tmp_path / place}: no acme.sh found there (no account.conf)" == str(caught.value)
    assert "--home DIR" in str(caught.value.hint)
    assert [] == list(tmp_path.iterdir())


@needs("acme.sh")
@pytest.mark.parametrize("installed", [True, False])
def test_new_home_of_the_real_acme_sh(tmp_path: Path, *, installed: bool) -> None:
    """The real acme.sh leaves the file by which certferry recognizes a home, after an installation
    and after a first run of the distribution's package.
    """
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    home = tmp_path / ".acme.sh"
    if installed:
        words = ["./acme.sh", "--install", "--nocron", "--noprofile", "--home", str(home)]
    else:
        home.mkdir()
        words = ["./acme.sh", "--set-default-ca", "--server", "letsencrypt"]
    subprocess.run(words, cwd="/usr/share/acme.sh", env=environ, check=True, capture_output=True)

    assert (home / "deploy" / "certferry.sh", True) == install(home, ["certferry"])


def test_file_in_the_place_of_the_directory(home: Path) -> None:
    """The error names the path, and the file stays unchanged."""
    (home / "deploy").write_text("mine")

    with pytest.raises(ConfigError) as caught:
        install(home, ["certferry"])

    assert "deploy/certferry.sh cannot be written" in str(caught.value)
    assert "mine" == (home / "deploy").read_text()


def test_directory_in_the_place_of_the_hook(home: Path) -> None:
    """The directory stays, and the folder contains nothing else."""
    place = home / "deploy" / "certferry.sh"
    place.mkdir(parents=True)

    with pytest.raises(ConfigError):
        install(home, ["certferry"])

    assert [place] == list(place.parent.iterdir())


@as_root
@pytest.mark.parametrize("whose", [".", "deploy"])
def test_home_of_another_user(tmp_path: Path, whose: str) -> None:
    """Root writes nothing there: the other user could replace a file by a link to any path."""
    (tmp_path / "account.conf").touch()
    (tmp_path / "deploy").mkdir()
    given_away(tmp_path / whose)

    with pytest.raises(ConfigError, match="belongs to nobody, who can change it") as caught:
        install(tmp_path, ["certferry"])

    assert "run the command as acme.sh's user" == str(caught.value.hint)
    assert [] == list((tmp_path / "deploy").iterdir())
