"""What certferry's modules log with Python's `logging`: on stderr, and in the run's log.

A warning of certferry's is written as every other line for a person; with -v everything certferry
logs is shown, with its time and module. Of the libraries only warnings ever are: at lower levels
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
from types import TracebackType

from certferry.core.redaction import redacted
from certferry.present.language import Voice
from certferry.present.layout import Tone, labelled, plain, visible
from certferry.present.run_log import Entry, Level, RunLog
from certferry.present.vocabulary import WARNING
from certferry.text import Text, cut, verbatim

_OURS = "certferry"

BELOW = "\n    "
"""Between the lines of one record."""

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_LEVELS = {
    logging.DEBUG: Level.DEBUG,
    logging.INFO: Level.INFO,
    logging.WARNING: Level.WARNING,
}


class DiscreetFormatter(logging.Formatter):
    """Writes records, tracebacks included, without what must not be seen or would move a terminal's
    cursor. What has several lines stays visibly below its first. Times are UTC.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None

    def __init__(
        self, template: str, voice: Voice | None = None, *, for_operators: bool = False
    ) -> None:
        super().__init__(template)
        self._voice = voice or Voice()
        self._for_operators = for_operators

    def format(self, record: logging.LogRecord) -> str:
        """Give the record's lines."""
        is_warning = record.levelno == logging.WARNING and not record.exc_info
        if self._for_operators and is_warning and isinstance(record.msg, Text):
            say = self._voice.say
            rows = labelled(say(WARNING), Tone.PENDING, say(record.msg))
            return "\n".join(map(plain, rows))
        told = copy.copy(record)
        told.msg, told.args = said_by(record, self._voice), None
        return BELOW.join(map(visible, redacted(super().format(told)).split("\n")))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - the name is logging's
        """Give a traceback; of a very long one the beginning."""
        return cut(super().formatException(ei))


class OursOrUrgent(logging.Filter):
    """Lets certferry's records pass, and of the libraries' only warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record passes."""
        return record.name.partition(".")[0] == _OURS or record.levelno >= logging.WARNING


class StderrHandler(logging.Handler):
    """Writes to whatever stderr is at the moment: a live display puts itself in front of it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. A log that cannot be written stops nothing."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


class RunLogHandler(logging.Handler):
    """Writes into the log file what is said beside the events of a run, from a level on, and what
    programs said.
    """

    def __init__(self, run_log: RunLog, level: int) -> None:
        super().__init__()
        self._run_log = run_log
        self._from = level
        self.addFilter(OursOrUrgent())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        program: str | None = getattr(record, "program", None)
        said = said_by(record, self._run_log.voice)
        if program is not None:
            detail = verbatim(said.removeprefix(f"{program}: "))
            more = {"program": program}
            self._run_log.write(Entry("program.output", detail, words=said, more=more))
        elif record.levelno >= self._from:
            info = record.exc_info
            traceback = cut(logging.Formatter().formatException(info)) if info else ""
            level = _LEVELS.get(record.levelno, Level.ERROR)
            more = {"logger": record.name}
            self._run_log.write(Entry("log", verbatim(said), level, below=traceback, more=more))


def begin_logging(level: int, run_log: RunLog | None = None) -> None:
    """Send the log to stderr: certferry's from this level on, warnings of everything else.

    A log file gets the same, and, whatever the level, warnings and the output of programs.
    """
    voice = None if run_log is None else run_log.voice
    to_stderr = StderrHandler(level)
    template = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    for_operators = level >= logging.WARNING
    to_stderr.setFormatter(DiscreetFormatter(template, voice, for_operators=for_operators))
    to_stderr.addFilter(OursOrUrgent())
    handlers: list[logging.Handler] = [to_stderr]
    if run_log is not None and run_log.is_open:
        handlers.append(RunLogHandler(run_log, min(level, logging.WARNING)))
        level = min(level, logging.INFO)
    logging.basicConfig(level=max(level, logging.WARNING), handlers=handlers, force=True)
    logging.getLogger(_OURS).setLevel(level)


def said_by(record: logging.LogRecord, voice: Voice) -> str:
    """Give a record's message, in the reader's language where it can be."""
    return voice.say(record.msg) if isinstance(record.msg, Text) else cut(record.getMessage())
