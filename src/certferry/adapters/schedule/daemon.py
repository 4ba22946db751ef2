"""Whether something starts what the crontabs say."""

from __future__ import annotations

from pathlib import Path

from certferry.text import Text

_NAMES = {"cron", "crond", "fcron", "bcron-sched"}
"""Debian's cron; cronie, dcron and busybox; fcron; bcron."""

_PID_FILES = ("run/crond.pid", "run/cron.pid", "var/run/crond.pid", "var/run/cron.pid")

_GENERATORS = ("usr/lib/systemd/system-generators", "lib/systemd/system-generators")
_GENERATOR = "systemd-crontab-generator"
"""Belongs to systemd-cron, which has a `crontab` and makes timers of what it is told."""


def to_do(root: Path = Path("/")) -> Text | None:
    """Say how to start the cron daemon, where it surely does not run.

    `root` is where the system's files are. Where processes cannot be seen, as on systems without
    /proc or with its option `hidepid`, nothing is said.
    """
    if not _sees_processes(root) or _runs(root):
        return None
    service = "crond" if (root / "usr/sbin/crond").exists() else "cron"
    booted = (root / "run/systemd/system").is_dir()  # sd_booted(3)
    return Text(
        "start the cron daemon, which does not seem to run: {command}",
        command=f"systemctl enable --now {service}" if booted else f"service {service} start",
    )


def _sees_processes(root: Path) -> bool:
    return _name(root / "proc/1") is not None


def _runs(root: Path) -> bool:
    processes = (path for path in (root / "proc").iterdir() if path.name.isdecimal())
    return (
        any((root / folder / _GENERATOR).exists() for folder in _GENERATORS)
        or any(_name(process) in _NAMES for process in processes)
        # A daemon of another name.
        or any(_is_alive(root, root / file) for file in _PID_FILES)
    )


def _name(process: Path) -> str | None:
    """Give what a process is called (proc_pid_comm(5)); `None` when it is gone or hidden."""
    try:
        name = (process / "comm").read_text(errors="replace").strip()
        if name == "busybox":  # `busybox crond`
            name = (process / "cmdline").read_text(errors="replace").split("\0")[1]
    except (OSError, IndexError):
        return None
    return name


def _is_alive(root: Path, pid_file: Path) -> bool:
    try:
        number = pid_file.read_text(errors="replace").strip()
    except OSError:
        return False
    return number.isdecimal() and (root / "proc" / number).is_dir()
