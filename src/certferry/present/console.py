"""Where a run's words go: data to stdout, everything else to stderr, colour only on terminals."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain
from typing import TextIO

from certferry.present import layout
from certferry.present.language import Voice
from certferry.present.run_log import RunLog

_DUMB = {"", "dumb", "unknown"}
"""Values of `$TERM` for terminals that only print, and cannot move the cursor or colour."""


class Verbosity(Enum):
    """How much a run prints beside its data: only what is wrong, what happens, the log."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


@dataclass(frozen=True, slots=True)
class Console:
    """The two streams, the voice that speaks on them, and the log."""

    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str] = field(repr=False)
    voice: Voice = field(default_factory=Voice)
    run_log: RunLog = field(default_factory=lambda: RunLog(Voice()))

    def with_voice(self, voice: Voice) -> Console:
        """Return the console of a run in the voice's language, with a log that is not open yet."""
        return replace(self, voice=voice, run_log=RunLog(voice))

    def print(self, lines: Iterable[layout.Line]) -> None:
        """Write data for a person."""
        self._write(self.stdout, lines)

    def print_wrapped(self, lines: Iterable[layout.Line]) -> None:
        """Write sentences for a person; on a terminal they are broken at spaces."""
        self.print(self._folded(self.stdout, lines))

    def print_table(self, table: layout.TextTable, below: Iterable[layout.Line] = ()) -> None:
        """Write columns for a person, no wider than a terminal, and remarks below an empty line."""
        self.print(_as_wide_as(self.stdout, table))
        remarks = list(below)
        if remarks:
            self.print_wrapped([layout.line(), *remarks])

    def print_stderr_table(self, table: layout.TextTable) -> None:
        """Write what is not data as columns, set off by an empty line."""
        self.print_stderr([*_as_wide_as(self.stderr, table), layout.line()])

    def print_json(self, document: Mapping[str, object], *, on_one_line: bool = False) -> None:
        """Write data for a program: one JSON document, or one of many, each on its line."""
        utf8 = (self.stdout.encoding or "").lower().replace("-", "") == "utf8"
        indent = None if on_one_line else 2
        say = self.voice.say
        written = layout.as_json(document, say, indent=indent, ascii_only=not utf8)
        self.stdout.write(written + "\n")

    def print_stderr(self, lines: Iterable[layout.Line]) -> None:
        """Write what is not data; on a terminal sentences are broken at spaces."""
        self._write(self.stderr, self._folded(self.stderr, lines))

    def flush(self) -> None:
        """Flush the output."""
        self.stdout.flush()
        self.stderr.flush()

    def draws_on(self, stream: TextIO) -> bool:
        """Return whether the stream is a terminal that can do more than print."""
        return stream.isatty() and self.environ.get("TERM", "") not in _DUMB

    def _folded(self, stream: TextIO, lines: Iterable[layout.Line]) -> Iterator[layout.Line]:
        """Break what is wider than a screen; what a program reads stays as it is."""
        if not self.draws_on(stream):
            return iter(lines)
        cells = shutil.get_terminal_size().columns
        return chain.from_iterable(layout.folded(one, cells) for one in lines)

    def _write(self, stream: TextIO, lines: Iterable[layout.Line]) -> None:
        in_colour = self.draws_on(stream) and not self.environ.get("NO_COLOR")
        written = layout.coloured if in_colour else layout.plain
        stream.writelines(written(one) + "\n" for one in lines)


def standard_console(environ: Mapping[str, str]) -> Console:
    """Return this process's console. What its streams cannot encode is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # A stream that the caller has closed is None.
    return Console(sys.stdout or io.StringIO(), sys.stderr or io.StringIO(), environ)


def _as_wide_as(stream: TextIO, table: layout.TextTable) -> list[layout.Line]:
    return (
        layout.fitted(table, shutil.get_terminal_size().columns)
        if stream.isatty()
        else layout.aligned(table)
    )
