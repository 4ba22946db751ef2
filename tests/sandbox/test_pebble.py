"""Pebble as a process: what it takes over, that it ends with its parent, and how it fails."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from certferry.errors import CaUnavailable, ConfigError
from certferry_sandbox.pebble import Pebble

NOWHERE = "127.0.0.1:9"  # the discard port: for a CA that is not asked to prove anything
DEADLINE = 10.0


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a shell script in Pebble's place."""

    def write(script: str) -> None:
        program = tmp_path / "pebble"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return write


def until(condition: Callable[[], bool]) -> bool:
    """Poll until the condition holds, or the deadline has passed."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def processes_of(directory: Path) -> list[int]:
    """The processes whose command line speaks of Pebble's files."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_settings_of_the_environment_are_not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that makes every challenge valid would make every test of DNS worthless."""
    monkeypatch.setenv("PEBBLE_VA_ALWAYS_VALID", "1")
    with Pebble(NOWHERE) as pebble:
        assert "ALWAYS" not in pebble.log.upper()


def test_it_dies_with_a_parent_that_was_killed() -> None:
    """Not even SIGKILL leaves a certificate authority or its files behind."""
    program = (
        "import sys, time\n"
        "from certferry_sandbox.pebble import Pebble\n"
        f"pebble = Pebble({NOWHERE!r}).start()\n"
        "print(pebble.ca_bundle, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        directory = Path(parent.stdout.readline().decode().strip()).parent
        assert processes_of(directory)
        parent.send_signal(signal.SIGKILL)

    assert until(lambda: not processes_of(directory))
    assert until(lambda: not directory.exists())


def test_missing_program_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="`pebble` is not installed") as caught:
        Pebble(NOWHERE).start()
    assert "apt install pebble" in str(caught.value.hint)


def test_process_that_breaks_is_told_with_its_last_words(
    programs: Callable[[str], None], tmp_path: Path
) -> None:
    """The error carries the log, and nothing stays behind."""
    programs(f'echo "$2" > {tmp_path}/config; echo out of luck; exit 3')

    with pytest.raises(CaUnavailable, match="out of luck"):
        Pebble(NOWHERE).start()
    assert not Path((tmp_path / "config").read_text().strip()).parent.exists()
