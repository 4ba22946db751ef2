"""A crontab as bytes: our entry in it, and everything else as it was.

The format is that of crontab(5), as Debian's cron, cronie and busybox read it. A crontab is a
sequence of lines that each end with a line feed; nothing else is assumed of what others wrote, not
even that it is text.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from certferry.core.schedule import DailyTime
from certferry.errors import ScheduleError
from certferry.text import Text

MARK = b"# certferry schedule"
"""Ends our line, and makes it ours. To the shell that cron hands the line to, it is a comment."""

_BLANKS = b" \t\r"  # a carriage return: somebody's editor may have turned all line ends around
_WHEN = re.compile(rb"[ \t]*(@[a-z]+|(?:[^ \t]+[ \t]+){4}[^ \t]+)[ \t]+")
_DAILY = re.compile(rb"([0-5]?\d)[ \t]+([01]?\d|2[0-3])[ \t]+\*[ \t]+\*[ \t]+\*")
_EVERY_DAY = re.compile(rb"@(?:hourly|daily|midnight)|[^ \t]+[ \t]+[^ \t]+(?:[ \t]+\*){3}")

_USUAL_PATH = b"/usr/bin:/bin"
"""What Debian's cron, cronie and busybox put into PATH (`_PATH_DEFPATH`, paths.h)."""
_PATH = re.compile(rb"""[ \t]*(["']?)PATH\1[ \t]*=[ \t]*(?:(["'])(.*)\2|(.*?))[ \t\r]*\n?""")

_SETTING = re.compile(rb"""[ \t]*["']?\w+["']?[ \t]*=""")
_RUN = re.compile(
    # From the program to its command, within one command of the shell's.
    rb"""(?:(?<=[\s;&|("'=])|^)(?:[^\s;&|("'=]*/)?certferry["']?(?=\s)[^;&|]*?\ssync(?![^\s;&|>)"'])"""
)


@dataclass(frozen=True, slots=True)
class Entry:
    """Our line, taken apart: the time as it is written, and the command."""

    when: bytes
    command: bytes

    @property
    def daily(self) -> DailyTime | None:
        """Give the time of day; `None` when somebody has made it something else."""
        match = _DAILY.fullmatch(self.when)
        return DailyTime(int(match[2]), int(match[1])) if match else None

    @property
    def every_day(self) -> bool:
        """Tell whether it starts at least once on each day; false also where that is not clear."""
        return _EVERY_DAY.fullmatch(self.when) is not None

    @property
    def line(self) -> bytes:
        """Write the line."""
        return b" ".join([self.when, self.command, MARK]) + b"\n"


def shell_command(words: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Write a command for an entry: quoted for the shell, and for cron before it.

    Raises `ScheduleError` for words that no line can hold.
    """
    if environment:
        # Not `NAME=value command`: the crontab's SHELL may be one that does not know that.
        assignments = [f"{name}={value}" for name, value in environment.items()]
        words = ["/usr/bin/env", *assignments, *words]
    return os.fsencode(" ".join(map(_quoted, words)))


def words_of(command: bytes) -> tuple[str, ...]:
    """Read what `shell_command` wrote; none where somebody has made it something else."""
    try:
        return tuple(shlex.split(os.fsdecode(command)))
    except ValueError:
        return ()


def search_path(crontab: bytes) -> str:
    """Give where our entry looks for programs: a PATH counts for what stands below it, and nothing
    in it is replaced.
    """
    path = _USUAL_PATH
    for line in _lines(crontab):
        if _is_ours(line):
            break
        setting = _PATH.fullmatch(line)
        if setting is not None:
            path = setting[4] if setting[2] is None else setting[3]
    return os.fsdecode(path)


def own_entry(crontab: bytes) -> Entry | None:
    """Find our entry."""
    return next((_parse(line) for line in _lines(crontab) if _is_ours(line)), None)


def other_entries(crontab: bytes) -> Iterator[Entry]:
    """Find the entries of others that start `certferry sync`, again and again.

    Of their commands that part alone is given: what stands around it may be somebody's secret.
    """
    for line in _lines(crontab):
        if _is_ours(line) or line.lstrip(_BLANKS).startswith(b"#") or _SETTING.match(line):
            continue
        entry = _parse(line)
        run = _RUN.search(entry.command.partition(b" #")[0])
        if run is not None and entry.when not in {b"", b"@reboot"}:
            yield Entry(entry.when, run[0])


def with_entry(crontab: bytes, command: bytes, daily: DailyTime) -> bytes:
    """Give the crontab with our one entry for a command.

    An entry that is there keeps its place and its time. A last line without its end gets one:
    cron accepts no other crontab, and ours would continue it.
    """
    lines = _lines(crontab)
    own = [number for number, line in enumerate(lines) if _is_ours(line)]
    if not own:
        return _joined([*lines, Entry(_written(daily), command).line])
    first, *others = own
    entry = Entry(_parse(lines[first]).when or _written(daily), command)
    wanted = list(lines)
    wanted[first] = entry.line
    wanted = [line for number, line in enumerate(wanted) if number not in others]
    return crontab if wanted == lines else _joined(wanted)


def without_entry(crontab: bytes) -> bytes:
    """Give the crontab without anything of ours; a last line without its end gets one."""
    lines = _lines(crontab)
    kept = [line for line in lines if not _is_ours(line)]
    return crontab if kept == lines else _joined(kept)


def _quoted(word: str) -> str:
    if "\n" in word or "\0" in word:
        raise ScheduleError(
            Text("a crontab cannot hold {word}, which has a line end in it", word=repr(word)),
            hint=Text("give the file another name, or use --systemd"),
        )
    quoted = shlex.quote(word)
    # To cron a bare % is a line end and `\%` a percent sign; a backslash before those two would
    # be read as part of them, so in quotes the sign stands outside (crontab(5), cron's source).
    return quoted.replace("%", "\\%" if quoted == word else "'\\%'")


def _is_ours(line: bytes) -> bool:
    words = line.removesuffix(b"\n").strip(_BLANKS)
    return words.endswith(b" " + MARK) and not words.startswith(b"#")


def _parse(line: bytes) -> Entry:
    words = line.removesuffix(b"\n").strip(_BLANKS).removesuffix(MARK).rstrip(_BLANKS)
    match = _WHEN.match(words)
    if match is None:  # somebody has broken the line: a time is chosen anew
        return Entry(b"", words)
    return Entry(match[1], words[match.end() :])


def _written(daily: DailyTime) -> bytes:
    return b"%d %d * * *" % (daily.minute, daily.hour)


def _lines(crontab: bytes) -> list[bytes]:
    # Not splitlines: to cron a carriage return or a form feed ends no line.
    return [line for line in re.split(rb"(?<=\n)", crontab) if line]


def _joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)
