"""A crontab as bytes: our entry in it, and everything else as it was.

The format is that of crontab(5), as Debian's cron, cronie and busybox read it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time

MARK = b"# certferry schedule"
"""Ends our line, and makes it ours. To the shell that cron hands the line to, it is a comment."""

_OWN = re.compile(
    rb"^[ \t]*(?P<when>@[a-z]+|[\d*~]\S*(?:[ \t]+\S+){4})[ \t]+(?P<command>.*) "
    + MARK
    + rb"[ \t]*(?:\n|\Z)",
    re.MULTILINE,
)
_DAILY = re.compile(rb"([0-5]?\d)[ \t]+([01]?\d|2[0-3])[ \t]+\*[ \t]+\*[ \t]+\*")
_PATH = re.compile(rb"""^[ \t]*PATH[ \t]*=[ \t]*(["']?)(.*?)\1[ \t]*$""", re.MULTILINE)
_USUAL_PATH = "/usr/bin:/bin"
"""What Debian's cron, cronie and busybox put into PATH (`_PATH_DEFPATH`, paths.h)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Our line: the time as it is written, the command, and where that looks for programs."""

    when: bytes
    command: bytes
    path: str = _USUAL_PATH

    @property
    def daily(self) -> time | None:
        """Give the time of day; `None` when the operator has made it something else."""
        match = _DAILY.fullmatch(self.when)
        return time(int(match[2]), int(match[1])) if match else None

    @property
    def line(self) -> bytes:
        """Write the line, without its end."""
        return b" ".join([self.when, self.command, MARK])


def shell_command(words: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Write a command for an entry: quoted for the shell, and for cron before it."""
    if environment:
        # Not `NAME=value command`: the crontab's SHELL may be one that does not know that.
        assignments = [f"{name}={value}" for name, value in environment.items()]
        words = ["/usr/bin/env", *assignments, *words]
    return os.fsencode(" ".join(map(_quoted, words)))


def own_entries(crontab: bytes) -> list[Entry]:
    """Find our entry; more than one where the operator has copied it."""
    return [
        Entry(own["when"], own["command"], _path_below(crontab[: own.start()]))
        for own in _OWN.finditer(crontab)
    ]


def with_entry(crontab: bytes, command: bytes, daily: time) -> bytes:
    """Give the crontab with our entry for a command.

    An entry that is there keeps its place and its time. A last line without its end gets one:
    cron accepts no other crontab, and ours would continue it.
    """
    if _OWN.search(crontab):
        return _OWN.sub(lambda own: Entry(own["when"], command).line + b"\n", crontab)
    end = b"\n" if crontab and not crontab.endswith(b"\n") else b""
    entry = Entry(b"%d %d * * *" % (daily.minute, daily.hour), command)
    return crontab + end + entry.line + b"\n"


def without_entry(crontab: bytes) -> bytes:
    """Give the crontab without anything of ours."""
    return _OWN.sub(b"", crontab)


def _path_below(above: bytes) -> str:
    """Give where an entry looks for programs, from what stands above it."""
    paths = [os.fsdecode(path[2]) for path in _PATH.finditer(above)]
    return paths[-1] if paths else _USUAL_PATH


def _quoted(word: str) -> str:
    quoted = shlex.quote(word)
    # To cron a bare % is a line end and `\%` a percent sign; a backslash before those two would
    # be read as part of them, so in quotes the sign stands outside (crontab(5), cron's source).
    return quoted.replace("%", "\\%" if quoted == word else "'\\%'")
