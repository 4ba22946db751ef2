"""The log on stderr: certferry's own words, and nothing in it that must not be seen.

With -v everything certferry logs is shown. Of the libraries only warnings ever are: at lower levels
`urllib3`, `requests` and `acme` write down URLs, bodies, nonces and signatures.

A record whose message is a `Text` is told in the run's language. One that has a `program` is what
a program of the operator's said; it reaches the log file whatever the level.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
import time

from certferry.cli.journal import Entry, Journal, Level
from certferry.cli.words import Voice
from certferry.core.redaction import redacted
from certferry.text import Text

_OURS = "certferry"

_LEVELS = {
    logging.DEBUG: Level.DEBUG,
    logging.INFO: Level.INFO,
    logging.WARNING: Level.WARNING,
}


class DiscreetFormatter(logging.Formatter):
    """Writes records, tracebacks included, without what must not be seen. Times are UTC."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None

    def __init__(self, template: str, voice: Voice | None = None) -> None:
        super().__init__(template)
        self._voice = voice or Voice()

    def format(self, record: logging.LogRecord) -> str:
        """Give the record's lines."""
        told = copy.copy(record)
        told.msg, told.args = said_by(record, self._voice), None
        return redacted(super().format(told))


class OursOrUrgent(logging.Filter):
    """Lets certferry's records pass, and of the libraries' only warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record passes."""
        return record.name.partition(".")[0] == _OURS or record.levelno >= logging.WARNING


class StderrHandler(logging.Handler):
    """Writes to whatever stderr is at the moment: a live display puts itself in front of it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. A log that nobody can read stops nothing."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


class JournalHandler(logging.Handler):
    """Writes into the log file what is said beside the events of a run, from a level on, and what
    programs said.
    """

    def __init__(self, journal: Journal, level: int) -> None:
        super().__init__()
        self._journal = journal
        self._from = level
        self.addFilter(OursOrUrgent())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        program: str | None = getattr(record, "program", None)
        if program is not None:
            self._write_what_was_said(program, record)
        elif record.levelno >= self._from:
            self._write_down(record)

    def _write_what_was_said(self, program: str, record: logging.LogRecord) -> None:
        words = said_by(record, self._journal.voice)
        detail = words.removeprefix(f"{program}: ")
        self._journal.write(Entry("program.output", words, detail, more={"program": program}))

    def _write_down(self, record: logging.LogRecord) -> None:
        said = said_by(record, self._journal.voice)
        traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        words = f"{said}\n{traceback}" if traceback else said
        level = _LEVELS.get(record.levelno, Level.ERROR)
        self._journal.write(
            Entry("log", words, detail=words, level=level, more={"logger": record.name})
        )


def begin_logging(level: int, journal: Journal | None = None) -> None:
    """Send the log to stderr: certferry's from this level on, warnings of everything else.

    A log file gets the same, and, whatever the level, warnings and the output of programs.
    """
    voice = None if journal is None else journal.voice
    to_stderr = StderrHandler(level)
    to_stderr.setFormatter(
        DiscreetFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", voice)
    )
    to_stderr.addFilter(OursOrUrgent())
    handlers: list[logging.Handler] = [to_stderr]
    if journal is not None and journal.is_open:
        handlers.append(JournalHandler(journal, min(level, logging.WARNING)))
        level = min(level, logging.INFO)
    logging.basicConfig(level=max(level, logging.WARNING), handlers=handlers, force=True)
    logging.getLogger(_OURS).setLevel(level)


def said_by(record: logging.LogRecord, voice: Voice) -> str:
    """Give a record's message, in the reader's language where it can be."""
    return voice.say(record.msg) if isinstance(record.msg, Text) else record.getMessage()
