"""`scripts/install` puts certferry where root's cron, or one user, finds it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.house.tree import ROOT, relative
from tests.support.tiers import thorough

LONGEST = 600  # seconds
SCRIPT = "./scripts/install"
MANUALS = (
    *(ROOT / name for name in ("README.md", "README.zh-CN.md")),
    *sorted((ROOT / "docs" / "how-to").glob("from-acme-sh*.md")),
    *sorted((ROOT / "docs" / "how-to").glob("upgrade*.md")),
)


def install(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Install into `home`, and link into `bin` beside it."""
    places = {"CERTFERRY_HOME": str(home), "CERTFERRY_BIN": str(home.parent / "bin")}
    return subprocess.run(
        [SCRIPT, *words],
        cwd=ROOT,
        env={**os.environ, **places, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )


@pytest.mark.parametrize("manual", MANUALS, ids=relative)
def test_a_manual_installs_by_one_command(manual: Path) -> None:
    """It is the same everywhere, and no manual has pip's commands beside it."""
    text = manual.read_text(encoding="utf-8")

    assert f"# {SCRIPT}\n" in text
    assert "bin/pip install" not in text


def test_libraries_are_installed_by_their_hashes() -> None:
    """No mirror can put another file in the place of the one that certferry was tested with."""
    installing = [
        line
        for line in (ROOT / SCRIPT).read_text(encoding="utf-8").splitlines()
        if line.startswith("pip install")
    ]

    assert [
        'pip install --require-hashes "${wanted[@]}"',
        'pip install --no-build-isolation --no-deps --force-reinstall "${packages[@]}"',
    ] == installing


def test_what_lies_there_already_is_not_touched(tmp_path: Path) -> None:
    """A directory of something else is named; nothing in it changes."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "theirs").write_text("kept")

    done = install(home)

    assert 1 == done.returncode
    assert f"install: {home} is something else" in done.stderr
    assert ["theirs"] == [one.name for one in home.iterdir()]


@pytest.mark.parametrize("words", [("--with",), ("--without", "x"), ("keyring",)])
def test_other_words_are_answered_with_the_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Nothing is made."""
    done = install(tmp_path / "home", *words)

    assert 2 == done.returncode
    assert "usage: scripts/install [--with EXTRA]..." in done.stderr
    assert not (tmp_path / "home").exists()


def test_an_extra_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    """Nothing is made."""
    done = install(tmp_path / "home", "--with", "postgres")

    assert 1 == done.returncode
    assert "there is no extra postgres" in done.stderr
    assert "keyring.txt" in done.stderr


@thorough
@pytest.mark.timeout(3 * LONGEST)
def test_the_script_installs_certferry_and_upgrades_it(tmp_path: Path) -> None:
    """The command that is linked runs, also after a second time with an extra. With that of the
    sandbox, by its old name, the sandbox's commands are there too.
    """
    home = tmp_path / "home"
    for words in ((), ("--with", "keyring"), ("--with", "sandbox")):
        done = install(home, *words)
        if "Could not find a version" in done.stderr:
            pytest.skip("no package registry can be reached")
        assert 0 == done.returncode, done.stderr
        linked = [str(tmp_path / "bin" / "certferry"), "--version"]
        said = subprocess.run(linked, capture_output=True, text=True, check=True, timeout=LONGEST)
        assert said.stdout.startswith("certferry "), said.stderr
    practise = [linked[0], "demo", "--help"]
    assert 0 == subprocess.run(practise, check=False, timeout=LONGEST).returncode
