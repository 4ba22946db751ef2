"""The user's crontab, through the program `crontab`: the one way in that every cron has."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from certferry.adapters.schedule import crontab
from certferry.adapters.schedule.crontab import Entry
from certferry.core.schedule import NIGHT_MOMENTS, Change, DailyTime, Job, Scheduled
from certferry.errors import ScheduleError
from certferry.text import Text

_TIMEOUT = timedelta(seconds=30)
"""For a program that reads or writes one small file, perhaps on a home that is mounted."""

# Debian's cron, cronie and macOS say the first, busybox the second.
_NO_CRONTAB = re.compile(rb"no crontab for |can't open .*: No such file or directory")
_LONGEST_COMPLAINT = 300  # characters

UNCHANGED = Text(
    "the crontab is as it was; look at it with `crontab -l`, mend it with `crontab -e`"
)


class Cron:
    """Keeps one line in the crontab of whoever runs this.

    `pick(n)` gives a random number below n, `now()` the moment; `environ` says where programs are.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        pick: Callable[[int], int],
        now: Callable[[], datetime],
    ) -> None:
        # Messages are looked at, so they must be in English. Debian's crontab puts a header before
        # what it stores, and leaves it out again only with the variable as it is by default.
        self._environ = {**environ, "LC_ALL": "C", "CRONTAB_NOHEADER": "Y"}
        self._pick = pick
        self._now = now

    def install(self, job: Job) -> Change:
        """See `ports.scheduler.Scheduler.install`."""
        command = crontab.shell_command(job.command, job.environment)
        before = self._read()
        daily = DailyTime.at_night(self._pick(NIGHT_MOMENTS))
        after = crontab.with_entry(before, command, daily)
        if after == before:
            return Change.UNCHANGED
        self._write(after)
        return Change.REPLACED if crontab.own_entry(before) else Change.INSTALLED

    def remove(self) -> Scheduled | None:
        """See `ports.scheduler.Scheduler.remove`."""
        before = self._read()
        entry = crontab.own_entry(before)
        if entry is None:
            return None
        self._write(crontab.without_entry(before))
        return self._scheduled(entry)

    def find(self) -> Scheduled | None:
        """See `ports.scheduler.Scheduler.find`."""
        entry = crontab.own_entry(self._read())
        return None if entry is None else self._scheduled(entry)

    def _scheduled(self, entry: Entry) -> Scheduled:
        daily = entry.daily
        return Scheduled(
            place=Text("the crontab of {user}", user=_user()),
            command=entry.command.decode(errors="backslashreplace"),
            when=_told(entry),
            next_run=None if daily is None else next_run(daily, self._now()),
        )

    def _read(self) -> bytes:
        """Give the crontab; nothing when there is none."""
        result = self._run("-l")
        if result.returncode == 0:
            return result.stdout
        if _NO_CRONTAB.search(result.stderr):
            return b""
        raise ScheduleError(
            Text("the crontab cannot be read: {problem}", problem=_complaint(result)),
            hint=_advice(result),
        )

    def _write(self, content: bytes) -> None:
        """Replace the crontab as a whole, as `crontab` does it; without a line left, remove it."""
        result = self._run("-", content) if content else self._run("-r")
        if result.returncode != 0:
            raise ScheduleError(
                Text("the crontab cannot be written: {problem}", problem=_complaint(result)),
                hint=_advice(result),
            )
        if self._read() != content:
            raise ScheduleError(
                Text("the crontab does not hold what was written into it"),
                hint=Text("another program writes it too; look with `crontab -l`, and try again"),
            )

    def _run(self, option: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ["crontab", option],
                input=content,
                capture_output=True,
                env=self._environ,
                timeout=_TIMEOUT.total_seconds(),
                check=False,
            )
        except FileNotFoundError:
            raise ScheduleError(
                Text("there is no program `crontab` here"),
                hint=Text(
                    "install cron, or let systemd do it: certferry schedule install --systemd"
                ),
            ) from None
        except subprocess.TimeoutExpired:
            raise ScheduleError(
                Text(
                    "`crontab {option}` was still running after {time}",
                    option=option,
                    time=_TIMEOUT,
                )
            ) from None
        except OSError as exc:
            raise ScheduleError(
                Text("`crontab` cannot be run: {problem}", problem=exc.strerror or str(exc)),
                hint=Text("let systemd do it: certferry schedule install --systemd"),
            ) from exc


def is_here(environ: Mapping[str, str]) -> bool:
    """Tell whether there is a `crontab` to be asked."""
    return shutil.which("crontab", path=environ.get("PATH")) is not None


def next_run(daily: DailyTime, now: datetime) -> datetime:
    """Give the next moment at which the machine's clock shows a time of day, in UTC.

    On the day on which clocks are put forward over that time, cron catches up a little later.
    """
    local = now.astimezone().replace(tzinfo=None)
    today = local.replace(hour=daily.hour, minute=daily.minute, second=0, microsecond=0)
    due = today if today > local else today + timedelta(days=1)
    return due.astimezone(UTC)


def _told(entry: Entry) -> Text:
    if entry.daily is not None:
        time = f"{entry.daily.hour:02}:{entry.daily.minute:02}"
        return Text("every day at {time}, by this machine's clock", time=time)
    fields = entry.when.decode(errors="backslashreplace")
    return Text("as written by hand: {fields}", fields=fields)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _complaint(result: subprocess.CompletedProcess[bytes]) -> Text | str:
    words = " ".join(result.stderr.decode(errors="replace").split())
    if not words:
        return Text("`crontab` ended with {code} and said nothing", code=result.returncode)
    return words[:_LONGEST_COMPLAINT]


def _advice(result: subprocess.CompletedProcess[bytes]) -> Text:
    if b"not allowed" in result.stderr:
        return Text(
            "/etc/cron.allow and /etc/cron.deny say who has a crontab; with systemd none is needed:"
            " certferry schedule install --systemd"
        )
    return UNCHANGED
