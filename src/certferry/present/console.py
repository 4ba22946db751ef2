"""Write a run's output: data to stdout, everything else to stderr, colour only on terminals."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from typing import TextIO

from certferry.present import layout
from certferry.present.language import Voice
from certferry.present.run_log import RunLog
from certferry.values import replace

_DUMB = {"", "dumb", "unknown"}
"""Values of `$TERM` that mean a terminal without colour and cursor movement."""


class Verbosity(Enum):
    """How much a run prints beside the run's data."""

    QUIET = "quiet"  #: only errors and refusals
    NORMAL = "normal"  #: also the progress of the run
    VERBOSE = "verbose"  #: also the debug log


@dataclass(frozen=True, slots=True)
class Console:
    """The two output streams of a command, with its environment, voice and log."""

    #: The stream for the command's data.
    stdout: TextIO
    #: The stream for everything else.
    stderr: TextIO
    #: The environment variables; may hold secrets, so never printed.
    environ: Mapping[str, str] = field(repr=False)
    #: The voice for both streams.
    voice: Voice = field(default_factory=Voice)
    #: The log file, open or not.
    run_log: RunLog = field(default_factory=lambda: RunLog(Voice()))

    def with_voice(self, voice: Voice) -> Console:
        """Return a copy that speaks with `voice`, with a new log that is not open yet."""
        return replace(self, voice=voice, run_log=RunLog(voice))

    def print(self, lines: Iterable[layout.Line]) -> None:
        """Write lines for a person to stdout."""
        self._write(self.stdout, lines)

    def print_wrapped(self, lines: Iterable[layout.Line]) -> None:
        """Write sentences for a person to stdout. On a terminal (`draws_on`), a line wider than the
        terminal is broken between words.
        """
        self.print(self._folded(self.stdout, lines))

    def print_table(self, table: layout.TextTable, below: Iterable[layout.Line] = ()) -> None:
        """Write a table for a person to stdout. On a terminal, the table is laid out to fit the
        width if possible. If there are remarks (`below`), write an empty line and the remarks after
        the table.
        """
        self.print(_as_wide_as(self.stdout, table))
        remarks = list(below)
        if remarks:
            self.print_wrapped([layout.line(), *remarks])

    def print_stderr_table(self, table: layout.TextTable) -> None:
        """Write to stderr a table that is not the command's data, then an empty line."""
        self.print_stderr([*_as_wide_as(self.stderr, table), layout.line()])

    def print_json(self, document: Mapping[str, object], *, on_one_line: bool = False) -> None:
        """Write data for a program to stdout: a JSON document, on several lines or on one. Unless
        stdout is UTF-8, characters outside ASCII are escaped.
        """
        utf8 = (self.stdout.encoding or "").lower().replace("-", "") == "utf8"
        indent = None if on_one_line else 2
        say = self.voice.say
        json_text = layout.as_json(document, say, indent=indent, ascii_only=not utf8)
        self.stdout.write(json_text + "\n")

    def print_stderr(self, lines: Iterable[layout.Line]) -> None:
        """Write to stderr sentences that are not the command's data. On a terminal (`draws_on`), a
        line wider than the terminal is broken between words.
        """
        self._write(self.stderr, self._folded(self.stderr, lines))

    def flush(self) -> None:
        """Flush both streams."""
        self.stdout.flush()
        self.stderr.flush()

    def draws_on(self, stream: TextIO) -> bool:
        """Return whether the stream is a terminal with colour and cursor movement."""
        return stream.isatty() and self.environ.get("TERM", "") not in _DUMB

    def _folded(self, stream: TextIO, lines: Iterable[layout.Line]) -> Iterator[layout.Line]:
        """Break lines that are wider than the terminal. If the stream is not a terminal for
        `draws_on`, return the lines as given.
        """
        if not self.draws_on(stream):
            return iter(lines)
        cells = shutil.get_terminal_size().columns
        return chain.from_iterable(layout.folded(unbroken, cells) for unbroken in lines)

    def _write(self, stream: TextIO, lines: Iterable[layout.Line]) -> None:
        in_colour = self.draws_on(stream) and not self.environ.get("NO_COLOR")
        render = layout.coloured if in_colour else layout.plain
        stream.writelines(render(row) + "\n" for row in lines)


def standard_console(environ: Mapping[str, str]) -> Console:
    """Return the console of this process's stdout and stderr. Output for a closed stream is
    discarded. Also change both streams, so that a character unknown to the stream's encoding is
    written as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Python sets a closed stream to None.
    return Console(sys.stdout or io.StringIO(), sys.stderr or io.StringIO(), environ)


def _as_wide_as(stream: TextIO, table: layout.TextTable) -> list[layout.Line]:
    return (
        layout.fitted(table, shutil.get_terminal_size().columns)
        if stream.isatty()
        else layout.aligned(table)
    )
