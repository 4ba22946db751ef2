"""What operators install is known by its hash, and the oldest libraries that are allowed do."""

from __future__ import annotations

import subprocess
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.house import constraints
from tests.house.tree import ROOT
from tests.support.tiers import thorough

LONGEST = 600  # seconds
NEEDED = ("hypothesis", "pytest", "pytest-timeout", "pytest-xdist", "trustme")
"""What the tests that are run with the oldest libraries import themselves."""
WITH_FLOORS = ("tests/core", "tests/adapters/probe", "tests/adapters/http/test_client.py")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Give a fresh environment. Skips where no registry can be reached."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    asked = pip(python, "download", "--no-deps", "--dest", str(tmp_path / "asked"), "idna")
    if asked.returncode:
        pytest.skip(f"no package registry can be reached: {asked.stderr.strip()[-200:]}")
    return python


def pip(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pip in the checkout, to its end."""
    return run([str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *words])


def run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program in the checkout, to its end."""
    return subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LONGEST
    )


def test_the_files_are_those_of_the_project() -> None:
    """They were made from what `pyproject.toml` asks for now, and every pin has hashes."""
    assert [] == list(constraints.breaches())


def test_the_files_name_no_registry() -> None:
    """Where the files come from is for each machine to say."""
    written = [one.path.read_text(encoding="utf-8") for one in constraints.wanted()]

    assert [] == [text for text in written if "://" in text or "index-url" in text]


def test_a_file_that_is_not_in_order_is_told() -> None:
    """One without a hash, and one that was made from other floors."""
    one = constraints.wanted()[0]
    text = one.path.read_text(encoding="utf-8")
    older = replace(one, requirements=("urllib3>=2.5", *one.requirements[1:]))

    assert "" == constraints.problem_of(one, text)
    assert "no pin with its hashes: idna==3" == constraints.problem_of(one, f"{text}idna==3\n")
    assert "no pin" in constraints.problem_of(one, text.replace("--hash=sha256:", "--hash=md5:", 1))
    assert "something else" in constraints.problem_of(older, text)


@thorough
@pytest.mark.timeout(2 * LONGEST)
def test_the_oldest_libraries_that_are_allowed(environment: Path) -> None:
    """Each at its floor, the tests of what they do for us pass."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floors = [requirement.replace(">=", "==") for requirement in project["dependencies"]]
    installed = pip(environment, "install", *floors, *NEEDED, str(ROOT))
    assert 0 == installed.returncode, installed.stderr

    tested = run([str(environment), "-m", "pytest", "-q", "-n", "2", *WITH_FLOORS])

    assert 0 == tested.returncode, tested.stdout[-4000:]
