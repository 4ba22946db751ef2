"""A crontab as bytes: our entry in it, and everything else as it was.

The format is that of crontab(5), as Debian's cron, cronie and busybox read it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import time
from itertools import takewhile

from certferry.core.schedule import twice
from certferry.errors import ScheduleError
from certferry.text import Text

MARK = b"# certferry schedule"
"""Ends our line, and makes it ours. To the shell that cron hands the line to, it is a comment."""

_OWN = re.compile(
    rb"^[ \t]*(?P<when>@[a-z]+|[\d*~]\S*(?:[ \t]+\S+){4})[ \t]+(?P<command>.*) "
    + MARK
    + rb"[ \t]*(?:\n|\Z)",
    re.MULTILINE,
)
_HOUR = rb"(?:[01]?\d|2[0-3])"
_TIMES = re.compile(rb"([0-5]?\d)[ \t]+(%b(?:,%b)?)[ \t]+\*[ \t]+\*[ \t]+\*" % (_HOUR, _HOUR))
_DELAY = re.compile(rb"/bin/sleep ([0-5]?\d); ")
"""Stands before our command, since cron knows no seconds: in this form to every shell the same."""
_SCHEDULED = b" --scheduled"
"""A command without it is that of an earlier version, whose line ran once a day."""
_PATH = re.compile(rb"""^[ \t]*PATH[ \t]*=[ \t]*(["']?)(.*?)\1[ \t]*$""", re.MULTILINE)
_USUAL_PATH = "/usr/bin:/bin"
"""What Debian's cron, cronie and busybox put into PATH (`_PATH_DEFPATH`, paths.h)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Our line: the time as it is written, the command, where that looks for programs, and how many
    seconds after the minute it begins.
    """

    when: bytes
    command: bytes
    path: str = _USUAL_PATH
    delay: int = 0

    @property
    def times(self) -> tuple[time, ...]:
        """Give the times of day, one or two; none when the operator has made it something else."""
        match = _TIMES.fullmatch(self.when)
        if match is None:
            return ()
        return tuple(time(int(hour), int(match[1]), self.delay) for hour in match[2].split(b","))

    @property
    def line(self) -> bytes:
        """Write the line, without its end."""
        delayed = b"/bin/sleep %d; " % self.delay if self.delay else b""
        return b" ".join([self.when, delayed + self.command, MARK])


def shell_command(words: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Write a command for an entry: quoted for the shell, and for cron before it.

    Raises `ScheduleError` for a word with a line end: what follows it would be an entry of its own.
    """
    if environment:
        # Not `NAME=value command`: the crontab's SHELL may be one that does not know that.
        assignments = [f"{name}={value}" for name, value in environment.items()]
        words = ["/usr/bin/env", *assignments, *words]
    return os.fsencode(" ".join(map(_quoted, words)))


def watched(command: Sequence[str], on_failure: Sequence[str]) -> tuple[str, ...]:
    """Write a command after whose failure another is run, which is told the exit status as systemd
    does (`$MONITOR_EXIT_STATUS`, systemd.exec(5)). What both begin with stands there once, since
    Debian's cron takes a line of 1000 characters at most. A shell of its own reads it: the
    crontab's SHELL may be any.
    """
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(command, on_failure, strict=False))
    both = [word for word, _ in pairs]
    first, second = (shlex.join(words[len(both) :]) for words in (command, on_failure))
    script = f'"$@" {first} || {{ s=$?; MONITOR_EXIT_STATUS=$s "$@" {second}; exit $s; }}'
    return ("/bin/sh", "-c", script, "sh", *both)


def own_entries(crontab: bytes) -> list[Entry]:
    """Find our entry; more than one where the operator has copied it."""
    return [
        replace(_entry(own), path=_path_below(crontab[: own.start()]))
        for own in _OWN.finditer(crontab)
    ]


def with_entry(crontab: bytes, command: bytes, moment: time) -> bytes:
    """Give the crontab with our entry for a command, twice a day, at a moment and half a day from
    it.

    An entry that is there keeps its place and its time; one of an earlier version, which ran once a
    day, its minute. A last line without its end gets one: cron accepts no other crontab, and ours
    would continue it.
    """

    def renewed(own: re.Match[bytes]) -> bytes:
        entry = _entry(own)
        if len(entry.times) == 1 and _SCHEDULED not in entry.command:
            entry = _twice_a_day(entry.times[0].replace(second=moment.second))
        return replace(entry, command=command).line + b"\n"

    if _OWN.search(crontab):
        return _OWN.sub(renewed, crontab)
    end = b"\n" if crontab and not crontab.endswith(b"\n") else b""
    return crontab + end + replace(_twice_a_day(moment), command=command).line + b"\n"


def _entry(own: re.Match[bytes]) -> Entry:
    delay = _DELAY.match(own["command"])
    if delay is None:
        return Entry(own["when"], own["command"])
    command = own["command"][delay.end() :]
    return Entry(own["when"], command, delay=int(delay[1]))


def _twice_a_day(moment: time) -> Entry:
    first, second = twice(moment)
    when = b"%d %d,%d * * *" % (first.minute, first.hour, second.hour)
    return Entry(when, b"", delay=first.second)


def without_entry(crontab: bytes) -> bytes:
    """Give the crontab without anything of ours."""
    return _OWN.sub(b"", crontab)


def _path_below(above: bytes) -> str:
    """Give where an entry looks for programs, from what stands above it."""
    paths = [os.fsdecode(path[2]) for path in _PATH.finditer(above)]
    return paths[-1] if paths else _USUAL_PATH


def _quoted(word: str) -> str:
    if "\n" in word:
        raise ScheduleError(
            Text("a crontab cannot hold {word}: it has a line end", word=repr(word)),
            hint=Text("rename the file, or set the variable anew, without it; nothing was changed"),
        )
    quoted = shlex.quote(word)
    # To cron a bare % is a line end and `\%` a percent sign; a backslash before those two would
    # be read as part of them, so in quotes the sign stands outside (crontab(5), cron's source).
    return quoted.replace("%", "\\%" if quoted == word else "'\\%'")
