"""What certferry's modules log with Python's `logging`: on stderr, and in the run's log.

A warning of certferry's is written as every other line for a person; with -v everything certferry
logs is shown, with its time and module. Of the libraries only warnings ever are, and only with -v:
`urllib3` warns with the whole address of a webhook, and at lower levels it, `requests` and `acme`
write down URLs, bodies, nonces and signatures.

A record whose message is a `Text` is written in the run's language. One that has a `program` is
what a program of the operator's said; it reaches the log file whatever the level.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
import time
from types import TracebackType

from certferry.core.redaction import discreet
from certferry.present.language import Voice
from certferry.present.layout import plain, visible
from certferry.present.run_log import Entry, Level, RunLog
from certferry.text import Text, cut, verbatim

_OURS = "certferry"

BELOW = "\n    "
"""Between the lines of one record."""

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_LEVELS = {logging.DEBUG: Level.DEBUG, logging.INFO: Level.INFO, logging.WARNING: Level.WARNING}


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
        """Return the record's lines."""
        is_warning = record.levelno == logging.WARNING and not record.exc_info
        if self._for_operators and is_warning and isinstance(record.msg, Text):
            return discreet("\n".join(map(plain, self._voice.warning(record.msg))))
        said = copy.copy(record)
        said.msg, said.args = said_by(record, self._voice), None
        return BELOW.join(map(visible, discreet(super().format(said)).split("\n")))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - the name is logging's
        """Return a traceback; of a very long one the beginning."""
        return cut(super().formatException(ei))


class Ours(logging.Filter):
    """Lets certferry's records pass; and, for an operator who asks for details, the libraries'
    warnings.
    """

    def __init__(self, *, with_warnings: bool) -> None:
        super().__init__()
        self._with_warnings = with_warnings

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record passes."""
        is_ours = record.name.partition(".")[0] == _OURS
        return is_ours or (self._with_warnings and record.levelno >= logging.WARNING)


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

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        program: str | None = getattr(record, "program", None)
        said = said_by(record, self._run_log.voice)
        said = discreet(said)
        if program is not None:
            detail = verbatim(said.removeprefix(f"{program}: "))
            more = {"program": program}
            self._run_log.write(Entry("program.output", detail, words=said, more=more))
        elif record.levelno >= self._from:
            info = record.exc_info
            traceback = ""
            if info:
                traceback = discreet(cut(logging.Formatter().formatException(info)))
            level = _LEVELS.get(record.levelno, Level.ERROR)
            more = {"logger": record.name}
            self._run_log.write(Entry("log", verbatim(said), level, below=traceback, more=more))


def begin_logging(level: int, run_log: RunLog | None = None) -> None:
    """Send the log to stderr: certferry's from this level on, and of everything else the warnings
    where that is `DEBUG`.

    A log file gets the same, and, whatever the level, certferry's warnings and the output of
    programs.
    """
    voice = None if run_log is None else run_log.voice
    to_stderr = StderrHandler(level)
    template = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    for_operators = level >= logging.WARNING
    to_stderr.setFormatter(DiscreetFormatter(template, voice, for_operators=for_operators))
    handlers: list[logging.Handler] = [to_stderr]
    if run_log is not None and run_log.is_open:
        handlers.append(RunLogHandler(run_log, min(level, logging.WARNING)))
    for handler in handlers:
        handler.addFilter(Ours(with_warnings=level <= logging.DEBUG))
    if run_log is not None and run_log.is_open:
        level = min(level, logging.INFO)
    logging.basicConfig(level=max(level, logging.WARNING), handlers=handlers, force=True)
    logging.getLogger(_OURS).setLevel(level)


def said_by(record: logging.LogRecord, voice: Voice) -> str:
    """Return a record's message, in the reader's language where it can be."""
    if isinstance(record.msg, Text):
        return voice.say(record.msg)
    try:
        return cut(record.getMessage())
    except Exception:  # noqa: BLE001 - a library whose message and values do not fit together
        return cut(str(record.msg))
