"""`certferry sandbox`: the commands that it prints work as they are, in another terminal."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import run_here
from tests.support.waiting import eventually

ALL = re.compile(r"ping this heartbeat:\n\n.*\n.*\n  http://.*\n")
"""The end of what it says."""
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[list[str]]:
    """What the sandbox says beside its configuration, while it runs."""
    said = tmp_path / "said"
    with said.open("w") as stderr:
        command = [sys.executable, "-m", "certferry", "sandbox", "--dir", str(tmp_path / "world")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        assert eventually(lambda: bool(ALL.search(said.read_text())))
        yield said.read_text().splitlines()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_its_init_command_works_as_it_is(printed: list[str], tmp_path: Path) -> None:
    """With the keys that it prints for the environment; the base file needs none of them, since
    the interview asks. The domain without HTTPS is left out.
    """
    [init] = [line.strip() for line in printed if "certferry init" in line]
    exports = (line.strip().removeprefix("export ") for line in printed if "export " in line)
    environ = {**ENVIRONMENT, **dict(line.partition("=")[::2] for line in exports if "=" in line)}
    program, *words = shlex.split(init)

    asked = run_here([*words, "--yes"], ENVIRONMENT, tmp_path)
    done = run_here([*words, "--yes"], environ, tmp_path)

    assert "certferry" == program
    assert 2 == asked.code
    assert "DP_Id: not set: DNSPod token ID" in asked.err
    assert 0 == done.code, done.err
    assert "img.example.com: to be issued for img.example.com\n" in done.out
    assert "a.img.example.com is left out: HTTPS is off there" in done.err
    planned = run_here(["--config", words[-1], "plan"], environ, tmp_path)
    assert 0 == planned.code, planned.err
    assert "1 certificate to issue, 1 deployment." in planned.out
