"""The file by which acme.sh calls certferry, and what a shell makes of it."""

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
    """The home of an acme.sh that has done nothing yet."""
    (tmp_path / "account.conf").touch()
    return tmp_path


def deployed(hook: Path, *arguments: str, before: str = "") -> tuple[int, list[object]]:
    """Read the hook into a shell and deploy, as acme.sh does."""
    script = f'{before}\n. "$0"\ncertferry_deploy "$@"\n'
    done = subprocess.run(
        ["sh", "-euc", script, str(hook), *arguments],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


@settings(max_examples=15, deadline=None)
@given(
    words=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12),
        max_size=3,
    )
)
def test_command_reaches_the_program_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    """Whatever a path holds, the shell hands it on; the exit code comes back."""
    home = tmp_path_factory.mktemp("home")
    (home / "account.conf").touch()
    path, _ = install(home, [sys.executable, "-c", SAYS, *words])

    code, said = deployed(path, "d", "k", "c", "a", "f")

    assert 7 == code
    assert words == said[0]


def test_hook_exports_what_a_reload_command_is_given(home: Path) -> None:
    """The five arguments become acme.sh's variables; keys that it kept with a domain go along."""
    path, changed = install(home, [sys.executable, "-c", SAYS])

    _, said = deployed(path, "*.a.cn", "/x y/k", "c", "a", "f", before="QINIU_AK=1; QINIU_SK='2 3'")
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
    assert {**files, "QINIU_AK": "1", "QINIU_SK": "2 3"} == said[1]
    assert {**files, "QINIU_AK": None, "QINIU_SK": None} == without[1]


def test_a_second_time_nothing_is_written(home: Path) -> None:
    """The same command is the same file; another one replaces it and leaves nothing behind."""
    path, _ = install(home, ["/bin/certferry", "hook"])
    first = path.stat()

    assert (path, False) == install(home, ["/bin/certferry", "hook"])
    assert first == path.stat()
    assert 0o644 == stat.S_IMODE(first.st_mode)

    assert (path, True) == install(home, ["/bin/certferry", "hook", "--no-wait"])
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_where_acme_sh_is_not_at_home(tmp_path: Path, place: str) -> None:
    """No directory, or one that every user can write: nothing is made there, and the hint says how
    to name its home.
    """
    with pytest.raises(ConfigError) as caught:
        install(tmp_path / place, ["certferry"])

    assert f"{tmp_path / place}: no acme.sh found there (no account.conf)" == str(caught.value)
    assert "--home DIR" in str(caught.value.hint)
    assert [] == list(tmp_path.iterdir())


@needs("acme.sh")
@pytest.mark.parametrize("installed", [True, False])
def test_fresh_home_is_one(tmp_path: Path, *, installed: bool) -> None:
    """The real acme.sh leaves what it is known by, installed or first run from its package."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    home = tmp_path / ".acme.sh"
    if installed:
        words = ["./acme.sh", "--install", "--nocron", "--noprofile", "--home", str(home)]
    else:
        home.mkdir()
        words = ["./acme.sh", "--set-default-ca", "--server", "letsencrypt"]
    subprocess.run(words, cwd="/usr/share/acme.sh", env=environ, check=True, capture_output=True)

    assert (home / "deploy" / "certferry.sh", True) == install(home, ["certferry"])


def test_file_that_cannot_be_written(home: Path) -> None:
    """A file in the way of the directory is reported with its path, and left as it is."""
    (home / "deploy").write_text("mine")

    with pytest.raises(ConfigError) as caught:
        install(home, ["certferry"])

    assert "deploy/certferry.sh cannot be written" in str(caught.value)
    assert "mine" == (home / "deploy").read_text()


def test_place_that_is_taken_by_a_directory(home: Path) -> None:
    """What stands in its place stays, and no draft is left beside it."""
    place = home / "deploy" / "certferry.sh"
    place.mkdir(parents=True)

    with pytest.raises(ConfigError):
        install(home, ["certferry"])

    assert [place] == list(place.parent.iterdir())


@as_root
@pytest.mark.parametrize("whose", [".", "deploy"])
def test_home_of_another_user(tmp_path: Path, whose: str) -> None:
    """Root writes nothing there: a link in a file's place would lead it to another."""
    (tmp_path / "account.conf").touch()
    (tmp_path / "deploy").mkdir()
    given_away(tmp_path / whose)

    with pytest.raises(ConfigError, match="belongs to nobody, who can change it") as caught:
        install(tmp_path, ["certferry"])

    assert "run the command as acme.sh's user" == str(caught.value.hint)
    assert [] == list((tmp_path / "deploy").iterdir())
