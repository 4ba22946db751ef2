"""Whether a cron daemon runs, which starts what the crontabs say."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from certferry.text import Text

_NAMES = {"cron", "crond"}
"""Debian's cron; cronie, dcron and busybox."""


def to_do(processes: Path = Path("/proc")) -> Text | None:
    """Say how to start the cron daemon, when there is none among the processes (proc(5)).

    Where the processes of other users are hidden, nothing is said.
    """
    names = set()
    for path in processes.glob("[0-9]*/comm"):
        with suppress(OSError):  # it has ended meanwhile
            names.add(path.read_text(errors="replace").strip())
    if _NAMES & names or not os.access(processes / "1/comm", os.R_OK):
        return None
    service = "crond" if Path("/usr/sbin/crond").exists() else "cron"
    return Text(
        "start the cron daemon, which does not seem to run: {command}",
        command=f"service {service} start",
    )
