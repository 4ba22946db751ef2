"""Whether a cron daemon runs: told only where it can be seen that there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from certferry.adapters.schedule import daemon
from tests.adapters.schedule.crontab_owner import cron_daemon


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system's files, with its first process."""
    run(tmp_path, 1, "systemd")
    run(tmp_path, 17, "cron-helper")
    (tmp_path / "proc/uptime").touch()
    return tmp_path


def run(root: Path, number: int, name: str, *words: str) -> None:
    """Add a process."""
    process = root / "proc" / str(number)
    process.mkdir(parents=True)
    (process / "comm").write_text(f"{name}\n")
    (process / "cmdline").write_text("".join(f"{word}\0" for word in (name, *words)))


def write(path: Path, content: str = "") -> None:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_a_machine_without_one_is_told_how_to_start_it(root: Path) -> None:
    """By systemd where that runs, and by the name that the service has there."""
    said = "start the cron daemon, which does not seem to run: "

    assert said + "service cron start" == str(daemon.to_do(root))
    (root / "run/systemd/system").mkdir(parents=True)
    assert said + "systemctl enable --now cron" == str(daemon.to_do(root))
    write(root / "usr/sbin/crond")
    assert said + "systemctl enable --now crond" == str(daemon.to_do(root))


@pytest.mark.parametrize("words", [("cron",), ("crond",), ("fcron",), ("busybox", "crond", "-f")])
def test_a_daemon_that_runs_is_seen(root: Path, words: tuple[str, ...]) -> None:
    """By the name of its process."""
    run(root, 4711, *words)

    assert daemon.to_do(root) is None


def test_another_busybox_is_none(root: Path) -> None:
    """Its first word says which program it is, if there is one."""
    run(root, 4711, "busybox", "sh", "crond")
    run(root, 4712, "busybox")

    assert daemon.to_do(root) is not None


def test_a_daemon_of_another_name_is_known_by_its_number(root: Path) -> None:
    """A file with the number of a process counts as long as there is such a process."""
    write(root / "run/crond.pid", "4711\n")
    assert daemon.to_do(root) is not None

    run(root, 4711, "guile")
    assert daemon.to_do(root) is None


def test_systemd_cron_needs_no_daemon(root: Path) -> None:
    """It makes timers of crontabs."""
    write(root / "usr/lib/systemd/system-generators/systemd-crontab-generator")

    assert daemon.to_do(root) is None


def test_where_processes_are_hidden_nothing_is_said(root: Path, tmp_path: Path) -> None:
    """No /proc, or one without the processes of others."""
    (root / "proc/1/comm").unlink()

    assert daemon.to_do(root) is None
    assert daemon.to_do(tmp_path / "none") is None


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_a_real_process_is_seen() -> None:
    """On this machine, with a process that is called so."""
    with cron_daemon():
        assert daemon.to_do() is None
