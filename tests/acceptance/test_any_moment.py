"""A signal at any moment of the process's life ends it quietly: 130, and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from tests.support.tiers import sampled

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
COMMANDS = {"help": ["--help"], "history": ["--config", "certferry.toml", "history"]}
MOMENTS = 40
"""Into how many moments a life is cut; the gate tries the first, the last and some between."""

QUIET = {"", "stopped\n", "\n"}
DEADLINE = 60.0  # seconds


def begun(directory: Path, command: list[str]) -> subprocess.Popen[str]:
    """Start the program. It is not measured: coverage handles signals before our first line."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    return subprocess.Popen(
        [sys.executable, "-m", "certferry", *command],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def catches(process: subprocess.Popen[str], number: int) -> bool:
    """Tell whether a process has a handler for a signal by now (proc(5), SigCgt)."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    except OSError:
        return False
    masks = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def lived_for(directory: Path, command: list[str]) -> tuple[float, int, str]:
    """Measure how long it lives from its first line on; give its own end, too."""
    with begun(directory, command) as process:
        while not catches(process, signal.SIGTERM) and process.poll() is None:
            os.sched_yield()
        since = time.monotonic()
        _, said = process.communicate(timeout=DEADLINE)
        return time.monotonic() - since, process.returncode, said


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a configuration that names no certificate."""
    tmp_path.joinpath("certferry.toml").write_text('[state]\nurl = "sqlite:///state.db"\n')
    return tmp_path


LIVES = [
    (name, how, moment) for moment in range(MOMENTS + 1) for how in SIGNALS for name in COMMANDS
]


@pytest.mark.parametrize(("name", "how", "moment"), sampled(LIVES, 6))
def test_from_its_first_line_to_its_last(
    directory: Path, name: str, how: signal.Signals, moment: int
) -> None:
    """It ends with 130 and says no more than that it stopped; or it was faster, and is whole."""
    life, code, own = lived_for(directory, COMMANDS[name])

    with begun(directory, COMMANDS[name]) as process:
        while not catches(process, signal.SIGTERM):
            os.sched_yield()
        end = time.monotonic() + life * moment / MOMENTS
        while time.monotonic() < end:
            os.sched_yield()
        process.send_signal(how)
        _, said = process.communicate(timeout=DEADLINE)

    assert (process.returncode, said) in {(Exit.STOPPED, quiet) for quiet in QUIET} | {(code, own)}


@pytest.mark.parametrize("milliseconds", sampled(range(30), 3))
def test_before_its_first_line(directory: Path, milliseconds: int) -> None:
    """Until the interpreter runs certferry, the system ends it (143 in a shell), as quietly."""
    with begun(directory, COMMANDS["help"]) as process:
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE)

    assert "" == said
    assert process.returncode in {-signal.SIGTERM, Exit.STOPPED, 0}
