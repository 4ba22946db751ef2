"""The log on stderr: certferry's own words, and nothing in it that must not be seen.

With -v everything certferry logs is shown. Of the libraries only warnings ever are: at lower levels
`urllib3`, `requests` and `acme` write down URLs, bodies, nonces and signatures.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time

from certferry.cli.discretion import discreet
from certferry.cli.journal import Entry, Journal, Level

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

    def format(self, record: logging.LogRecord) -> str:
        """Give the record's lines."""
        return discreet(super().format(record))


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
    """Writes into the log file what is said beside the events of a run."""

    def __init__(self, journal: Journal, level: int) -> None:
        super().__init__(level)
        self._journal = journal
        self.addFilter(OursOrUrgent())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        said = record.getMessage()
        traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        words = f"{said}\n{traceback}" if traceback else said
        level = _LEVELS.get(record.levelno, Level.ERROR)
        self._journal.write(
            Entry("log", words, detail=words, level=level, more={"logger": record.name})
        )


def begin_logging(level: int, journal: Journal | None = None) -> None:
    """Send the log to stderr: certferry's from this level on, warnings of everything else.

    A log file gets the same, and warnings whatever the level.
    """
    to_stderr = StderrHandler(level)
    to_stderr.setFormatter(DiscreetFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    to_stderr.addFilter(OursOrUrgent())
    handlers: list[logging.Handler] = [to_stderr]
    if journal is not None and journal.is_open:
        level = min(level, logging.WARNING)
        handlers.append(JournalHandler(journal, level))
    logging.basicConfig(level=max(level, logging.WARNING), handlers=handlers, force=True)
    logging.getLogger(_OURS).setLevel(level)
