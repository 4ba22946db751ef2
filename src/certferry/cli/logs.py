"""The log: certferry's own words on stderr, and nothing in it that must not be seen.

With -v everything certferry logs is shown. Of the libraries only warnings ever are: at lower levels
`urllib3`, `requests` and `acme` write down URLs, bodies, nonces and signatures.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import time

from certferry.core.secret import MASK

_OURS = "certferry"

_UNSPEAKABLE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=QBox )[\w-]+:[\w=-]+"
    r"|(?<=Qiniu )[\w-]+:[\w=-]+"
    r"|(?i:(?<=login_token=)[^&\s'\"]+)"
    r"|(?i:(?<=authorization: )[^\r\n]+)"
    r"|(?i:(?<=authorization': ')[^']+)",
    re.DOTALL,
)
"""Private keys, Qiniu's and DNSPod's proofs of identity, any Authorization header. A `Secret` hides
itself; this is for what a library quotes in a message or a traceback."""


class DiscreetFormatter(logging.Formatter):
    """Writes records, tracebacks included, without what must not be seen. Times are UTC."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None

    def format(self, record: logging.LogRecord) -> str:
        """Give the record's lines."""
        return _UNSPEAKABLE.sub(MASK, super().format(record))


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


def begin_logging(level: int) -> None:
    """Send the log to stderr: certferry's from this level on, warnings of everything else."""
    handler = StderrHandler()
    handler.setFormatter(DiscreetFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(OursOrUrgent())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger(_OURS).setLevel(level)
