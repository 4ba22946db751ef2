"""The user's crontab, through the program `crontab`, the one way in that every cron has, and
whether a daemon follows it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from certferry.adapters.schedule import crontab
from certferry.adapters.schedule.crontab import Entry
from certferry.adapters.schedule.tools import call, complaint
from certferry.core.schedule import NIGHT_MOMENTS, Installation, Job, Scheduled, night_time
from certferry.errors import ScheduleError
from certferry.file_trust import user_name
from certferry.text import Text

_TIMEOUT = timedelta(seconds=30)
"""For a program that reads or writes one small file, perhaps on a home that is mounted."""

# Debian's cron, cronie and macOS say the first, busybox the second.
_NO_CRONTAB = re.compile(rb"no crontab for |can't open .*: No such file or directory")

_DAEMONS = {"cron", "crond"}
"""Debian's cron; cronie, dcron and busybox."""

_ANOTHER_WAY = Text(
    "nothing was changed; systemd needs no cron: certferry schedule install --systemd"
)


def daemon_to_start(processes: Path = Path("/proc")) -> Text | None:
    """Say how to start the cron daemon, when there is none among the processes (proc(5)).

    Where the processes of other users are hidden, nothing is said.
    """
    names = set()
    for path in processes.glob("[0-9]*/comm"):
        with suppress(OSError):  # it has ended meanwhile
            names.add(path.read_text(errors="replace").strip())
    if _DAEMONS & names or not os.access(processes / "1/comm", os.R_OK):
        return None
    service = "crond" if Path("/usr/sbin/crond").exists() else "cron"
    return Text(
        "start the cron daemon, which does not seem to run: {command}",
        command=f"service {service} start",
    )


class Cron:
    """Keeps one line in the user's crontab.

    `pick(n)` gives a random number below n, `now()` the moment; `environ` says where programs are,
    and `to_do()` what is to be done before crontabs are followed at all.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        pick: Callable[[int], int],
        now: Callable[[], datetime],
        to_do: Callable[[], Text | None] = daemon_to_start,
    ) -> None:
        self._environ = environ
        self._pick = pick
        self._now = now
        self._to_do = to_do

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        """See `ports.scheduler.Scheduler.install`."""
        before = self._read()
        moment = night_time(self._pick(NIGHT_MOMENTS))
        words = job.command
        if job.on_failure:
            words = crontab.watched(job.command, job.on_failure)
        command = crontab.shell_command(words, job.environment)
        after = crontab.with_entry(before, command, moment)
        scheduled = self._scheduled(crontab.own_entries(after)[0])
        if after == before:
            return Installation.UNCHANGED, scheduled
        self._write(after)
        replaced = bool(crontab.own_entries(before))
        return (Installation.REPLACED if replaced else Installation.INSTALLED), scheduled

    def remove(self) -> Text | None:
        """See `ports.scheduler.Scheduler.remove`."""
        before = self._read()
        after = crontab.without_entry(before)
        if after == before:
            return None
        self._write(after)
        return _place()

    def find(self) -> Scheduled | None:
        """See `ports.scheduler.Scheduler.find`."""
        entries = crontab.own_entries(self._read())
        return self._scheduled(entries[0]) if entries else None

    def _scheduled(self, entry: Entry) -> Scheduled:
        times, to_do = entry.times, self._to_do()
        return Scheduled(
            place=_place(),
            command=entry.command.decode(errors="backslashreplace"),
            when=_when(entry),
            next_run=None if to_do or not times else next_run(times, self._now()),
            to_do=to_do,
            path=entry.path,
        )

    def _read(self) -> bytes:
        """Give the crontab as it is listed; nothing when there is none, or no cron at all."""
        if not is_here(self._environ):
            return b""
        result = self._run("-l")
        if result.returncode == 0:
            return result.stdout
        if _NO_CRONTAB.search(result.stderr):
            return b""
        raise ScheduleError(
            Text("the crontab cannot be read: {problem}", problem=complaint(result)),
            hint=_ANOTHER_WAY,
        )

    def _write(self, after: bytes) -> None:
        """Replace the crontab as a whole, as `crontab` does it; without a line left, remove it."""
        result = self._run("-", after) if after else self._run("-r")
        if result.returncode != 0:
            raise ScheduleError(
                Text("the crontab cannot be written: {problem}", problem=complaint(result)),
                hint=_ANOTHER_WAY,
            )

    def _run(self, option: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return call(["crontab", option], self._environ, _TIMEOUT, _ANOTHER_WAY, content)


def is_here(environ: Mapping[str, str]) -> bool:
    """Tell whether there is a `crontab` to be asked."""
    return shutil.which("crontab", path=environ.get("PATH")) is not None


def next_run(times: Sequence[time], now: datetime) -> datetime:
    """Give the next moment at which the machine's clock shows one of these times of day, in UTC.

    On the day on which clocks are put forward over that time, cron catches up a little later.
    """
    local = now.astimezone().replace(tzinfo=None)
    today = [datetime.combine(local, each) for each in times]
    ahead = (each if each > local else each + timedelta(days=1) for each in today)
    return min(ahead).astimezone(UTC)


def _when(entry: Entry) -> Text:
    match entry.times:
        case [once]:
            return Text("every day at {time}, by this machine's clock", time=_written(once))
        case [first, second]:
            return Text(
                "every day at {first} and {second}, by this machine's clock",
                first=_written(first),
                second=_written(second),
            )
        case _:
            fields = entry.when.decode(errors="backslashreplace")
            return Text("as written by hand: {fields}", fields=fields)


def _written(moment: time) -> str:
    return f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"


def _place() -> Text:
    return Text("the crontab of {user}", user=user_name(os.getuid()))
