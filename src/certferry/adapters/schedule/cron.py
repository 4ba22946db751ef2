"""The schedule by cron: an entry in the user's crontab, and the check for a cron daemon."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import takewhile
from pathlib import Path

from msgspec import Struct

from certferry.adapters.schedule.tools import call, complaint
from certferry.core.schedule import NIGHT_MOMENTS, Installation, Job, Scheduled, night_time, twice
from certferry.errors import ScheduleError
from certferry.file_trust import user_name
from certferry.text import Text
from certferry.values import replace

_TIMEOUT = timedelta(seconds=30)
"""How long `crontab` may take for one small file, perhaps on a network mount."""

# The messages of `crontab -l` without a crontab: of Debian's cron, cronie and macOS, and of
# busybox.
_NO_CRONTAB = re.compile(rb"no crontab for |can't open .*: No such file or directory")

_DAEMONS = {"cron", "crond"}  # Debian's cron; cronie, dcron and busybox

_ANOTHER_WAY = Text(
    "nothing was changed; systemd works without cron: certferry schedule install --systemd"
)


def daemon_to_start(processes: Path = Path("/proc")) -> Text | None:
    """Return the advice to start the cron daemon. Return `None` if the daemon runs, or if that is
    unknown, because /proc hides other users' processes (proc(5)).
    """
    names = set()
    for path in processes.glob("[0-9]*/comm"):
        with suppress(OSError):  # the process has ended meanwhile
            names.add(path.read_text(errors="replace").strip())
    if _DAEMONS & names or not os.access(processes / "1/comm", os.R_OK):
        return None
    service = "crond" if Path("/usr/sbin/crond").exists() else "cron"
    return Text(
        "start the cron daemon, which does not seem to run: {command}",
        command=f"service {service} start",
    )


@dataclass(frozen=True)
class Cron:
    """The `Scheduler` that keeps one line in the user's crontab."""

    #: The environment in which `crontab` runs.
    environ: Mapping[str, str]
    #: `pick(n)` returns a random number from 0 to n - 1.
    pick: Callable[[int], int]
    #: The present time, for the moment of the next run.
    now: Callable[[], datetime]
    #: Returns what an operator must do before cron runs any crontab.
    to_do: Callable[[], Text | None] = daemon_to_start

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        before = self._read()
        words = watched(job.command, job.on_failure) if job.on_failure else job.command
        command = shell_command(words, job.environment)
        after = with_entry(before, command, night_time(self.pick(NIGHT_MOMENTS)))
        scheduled = self._scheduled(own_entries(after)[0])
        if after == before:
            return Installation.UNCHANGED, scheduled
        self._write(after)
        is_new = not own_entries(before)
        return (Installation.INSTALLED if is_new else Installation.REPLACED), scheduled

    def remove(self) -> Text | None:
        before = self._read()
        after = without_entry(before)
        if after == before:
            return None
        self._write(after)
        return _place()

    def find(self) -> Scheduled | None:
        entries = own_entries(self._read())
        return self._scheduled(entries[0]) if entries else None

    def _scheduled(self, entry: CronEntry) -> Scheduled:
        times, to_do = entry.times, self.to_do()
        return Scheduled(
            place=_place(),
            command=entry.command.decode(errors="backslashreplace"),
            when=_when(entry),
            next_run=None if to_do or not times else next_run(times, self.now()),
            to_do=to_do,
            path=entry.path,
        )

    def _read(self) -> bytes:
        """Return the crontab as printed by `crontab -l`; empty without a crontab or without cron.
        Raises `ScheduleError`.
        """
        if shutil.which("crontab", path=self.environ.get("PATH")) is None:
            return b""
        result = self._run("-l")
        if result.returncode == 0:
            return result.stdout
        if _NO_CRONTAB.search(result.stderr):
            return b""
        problem = Text("the crontab cannot be read: {problem}", problem=complaint(result))
        raise ScheduleError(problem, hint=_ANOTHER_WAY)

    def _write(self, after: bytes) -> None:
        """Replace the whole crontab; remove an empty crontab."""
        result = self._run("-", after) if after else self._run("-r")
        if result.returncode != 0:
            problem = Text("the crontab cannot be written: {problem}", problem=complaint(result))
            raise ScheduleError(problem, hint=_ANOTHER_WAY)

    def _run(self, option: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return call(["crontab", option], self.environ, _TIMEOUT, _ANOTHER_WAY, content)


def next_run(times: Sequence[time], now: datetime) -> datetime:
    """Return the next moment of the daily `times` (local time), in UTC. If the local clock skips
    that moment for summer time, cron starts the run later than returned.
    """
    local = now.astimezone().replace(tzinfo=None)
    today = [datetime.combine(local, each) for each in times]
    ahead = (each if each > local else each + timedelta(days=1) for each in today)
    return min(ahead).astimezone(UTC)


def _when(entry: CronEntry) -> Text:
    moments = [f"{t:%H:%M:%S}" if t.second else f"{t:%H:%M}" for t in entry.times]
    match moments:
        case [once]:
            return Text("every day at {time}, by this host's clock", time=once)
        case [first, second]:
            sentence = Text("every day at {first} and {second}, by this host's clock")
            return sentence.filled(first=first, second=second)
        case _:
            fields = entry.when.decode(errors="backslashreplace")
            return Text("as edited by hand: {fields}", fields=fields)


def _place() -> Text:
    return Text("the crontab of {user}", user=user_name(os.getuid()))


MARK = b"# certferry schedule"
"""The end of certferry's line, by which certferry recognises the line. For the shell, a comment."""

_OWN = re.compile(
    rb"^[ \t]*(?P<when>@[a-z]+|[\d*~]\S*(?:[ \t]+\S+){4})[ \t]+(?P<command>.*) "
    + MARK
    + rb"[ \t]*(?:\n|\Z)",
    re.MULTILINE,
)
_HOUR = rb"(?:[01]?\d|2[0-3])"
_TIMES = re.compile(rb"([0-5]?\d)[ \t]+(%b(?:,%b)?)[ \t]+\*[ \t]+\*[ \t]+\*" % (_HOUR, _HOUR))
_DELAY = re.compile(rb"/bin/sleep ([0-5]?\d); ")
"""certferry's command begins with a sleep, because cron has no seconds. Every shell accepts
`/bin/sleep`."""
_PATH = re.compile(rb"""^[ \t]*PATH[ \t]*=[ \t]*(["']?)(.*?)\1[ \t]*$""", re.MULTILINE)
_USUAL_PATH = "/usr/bin:/bin"
"""PATH as set by Debian's cron, cronie and busybox (`_PATH_DEFPATH`, paths.h)."""


class CronEntry(Struct, frozen=True):
    """certferry's line in a crontab."""

    #: The five fields of the time, as written.
    when: bytes
    #: The command, without delay and mark.
    command: bytes
    #: The PATH of the command.
    path: str = _USUAL_PATH
    #: Seconds to sleep after the minute begins.
    delay: int = 0

    @property
    def times(self) -> tuple[time, ...]:
        """The one or two times of day; empty for any other schedule, which an operator wrote."""
        match = _TIMES.fullmatch(self.when)
        if match is None:
            return ()
        return tuple(time(int(hour), int(match[1]), self.delay) for hour in match[2].split(b","))

    @property
    def line(self) -> bytes:
        """The whole line, without the newline."""
        delayed = b"/bin/sleep %d; " % self.delay if self.delay else b""
        return b" ".join([self.when, delayed + self.command, MARK])


def shell_command(words: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Return a command with `environment`, quoted for shell and cron. Raises `ScheduleError` for a
    newline.
    """
    if environment:
        # `env`, because the crontab's SHELL may lack the syntax `NAME=value command`.
        assignments = [f"{name}={value}" for name, value in environment.items()]
        words = ["/usr/bin/env", *assignments, *words]
    return os.fsencode(" ".join(map(_quoted, words)))


def watched(command: Sequence[str], on_failure: Sequence[str]) -> tuple[str, ...]:
    """Return a command that runs `on_failure` after a failure of `command`.

    `on_failure` gets the exit code in `$MONITOR_EXIT_STATUS`, as under systemd. The common
    beginning of both commands is written only once, because Debian's cron allows 1000 characters in
    a line. /bin/sh runs the command, because the crontab's SHELL may be any shell.
    """
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(command, on_failure, strict=False))
    both = [word for word, _ in pairs]
    first, second = (shlex.join(words[len(both) :]) for words in (command, on_failure))
    script = f'"$@" {first} || {{ s=$?; MONITOR_EXIT_STATUS=$s "$@" {second}; exit $s; }}'
    return ("/bin/sh", "-c", script, "sh", *both)


def own_entries(crontab: bytes) -> list[CronEntry]:
    """Return certferry's entries: none, one, or more if an operator copied the line."""
    entries = []
    for own in _OWN.finditer(crontab):
        above = [os.fsdecode(path[2]) for path in _PATH.finditer(crontab[: own.start()])]
        entries.append(replace(_entry(own), path=above[-1] if above else _USUAL_PATH))
    return entries


def with_entry(crontab: bytes, command: bytes, moment: time) -> bytes:
    """Return the crontab with an entry that runs a command twice a day, half a day apart.

    An existing entry of certferry keeps its place and its time, and gets the command. A new entry
    is added at the end, after a newline if the crontab lacks the last newline.
    """

    def renewed(own: re.Match[bytes]) -> bytes:
        return replace(_entry(own), command=command).line + b"\n"

    if _OWN.search(crontab):
        return _OWN.sub(renewed, crontab)
    end = b"\n" if crontab and not crontab.endswith(b"\n") else b""
    return crontab + end + replace(_twice_a_day(moment), command=command).line + b"\n"


def _entry(own: re.Match[bytes]) -> CronEntry:
    delay = _DELAY.match(own["command"])
    start, seconds = (delay.end(), int(delay[1])) if delay else (0, 0)
    return CronEntry(own["when"], own["command"][start:], delay=seconds)


def _twice_a_day(moment: time) -> CronEntry:
    first, second = twice(moment)
    when = b"%d %d,%d * * *" % (first.minute, first.hour, second.hour)
    return CronEntry(when, b"", delay=first.second)


def without_entry(crontab: bytes) -> bytes:
    """Return the crontab without certferry's entries."""
    return _OWN.sub(b"", crontab)


def _quoted(word: str) -> str:
    if "\n" in word:
        raise ScheduleError(
            Text("a crontab cannot hold {word}: the value contains a line end", word=repr(word)),
            hint=Text(
                "rename the file, or set the variable without a line end; nothing was changed"
            ),
        )
    quoted = shlex.quote(word)
    # Cron takes a bare % for a newline, and `\%` for a percent sign. Within the shell's quotes the
    # backslash would stay, so `\%` is placed outside the quotes (crontab(5), cron's source).
    return quoted.replace("%", "\\%" if quoted == word else "'\\%'")
