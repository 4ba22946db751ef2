"""The real programs that tests start; `programs.txt` lists the programs and their packages.

If a distribution lacks a package, the program's tests are skipped there with the reason. If apt has
the package, a test without the program fails, so that no possible test is skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

TABLE = Path(__file__).with_name("programs.txt")
_OFFERED = re.compile(r"^  Candidate: (?!\(none\))", re.MULTILINE)


@cache
def packages() -> Mapping[tuple[str, ...], Sequence[str]]:
    """Return the packages of apt, by programs; any program of a tuple is enough."""
    lines = TABLE.read_text("utf-8").splitlines()
    rows = [line.split() for line in lines if line and line[0] not in "#["]
    return {tuple(names.split("|")): wanted for names, *wanted in rows}


def program_path(name: str) -> str:
    """Return the path of a program of the table. Skip the test if the system has no package, and
    fail the test if the package is only missing.
    """
    path, reason = _find(name, os.environ["PATH"])
    if path is not None:
        return path
    if reason is not None:
        pytest.skip(reason)
    pytest.fail(f"{name} is not here, and apt has its package: run ./scripts/setup")


@cache
def _find(name: str, search: str) -> tuple[str | None, str | None]:
    [(names, wanted)] = [(names, wanted) for names, wanted in packages().items() if name in names]
    for candidate in names:
        # A user's PATH may lack the administrator's folders.
        if path := shutil.which(candidate, path=f"{search}:/usr/sbin"):
            return path, None
    lacks = [package for package in wanted if not is_offered(package)]
    return None, f"{name}: this system has no package {lacks[0]}" if lacks else None


def is_offered(package: str) -> bool:
    """Return whether apt could install a package."""
    try:
        answer = subprocess.run(
            ["apt-cache", "policy", package],
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return False
    return _OFFERED.search(answer.stdout) is not None


@cache
def _knows_renewal_info() -> bool:
    pebble = shutil.which("pebble")
    return pebble is None or b"renewalInfo" in Path(pebble).read_bytes()


with_renewal_info = pytest.mark.skipif(
    not _knows_renewal_info(), reason="this system's Pebble is one without renewal information"
)
"""Mark a test of renewal information, which needs a CA such as Debian 13's Pebble; the Pebble of
Debian 12 and Ubuntu 24.04 (2.4) is older.
"""


def needs(name: str) -> pytest.MarkDecorator:
    """Mark a test that starts a program of the table: see `program_path`."""
    return pytest.mark.needs(name)
