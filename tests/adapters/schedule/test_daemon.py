"""Whether a cron daemon runs: told only where it can be seen that there is none."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from certferry.adapters.schedule.cron import daemon_to_start
from tests.adapters.schedule.crontab_owner import cron_daemon


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    """The processes of a system: its first one, and another."""
    run(tmp_path, 1, "systemd")
    run(tmp_path, 17, "cron-helper")
    (tmp_path / "uptime").touch()
    return tmp_path


def run(processes: Path, number: int, name: str) -> None:
    """Add a process."""
    process = processes / str(number)
    process.mkdir()
    (process / "comm").write_text(f"{name}\n")


def test_a_machine_without_one_is_told_how_to_start_it(processes: Path) -> None:
    """By the name that the service has there."""
    assert re.fullmatch(
        "start the cron daemon, which does not seem to run: service crond? start",
        str(daemon_to_start(processes)),
    )


@pytest.mark.parametrize("name", ["cron", "crond"])
def test_a_daemon_that_runs_is_seen(processes: Path, name: str) -> None:
    """By the name of its process; one that ends meanwhile does not matter."""
    run(processes, 4711, name)
    (processes / "4712/comm").mkdir(parents=True)

    assert daemon_to_start(processes) is None


def test_where_processes_are_hidden_nothing_is_said(processes: Path) -> None:
    """No /proc, or one without the processes of others."""
    (processes / "1/comm").unlink()

    assert daemon_to_start(processes) is None
    assert daemon_to_start(processes / "none") is None


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_a_real_process_is_seen() -> None:
    """On this machine, with a process that is called so."""
    with cron_daemon():
        assert daemon_to_start() is None
