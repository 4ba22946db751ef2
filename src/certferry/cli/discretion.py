"""What must never be seen in a log, whoever wrote it there."""

from __future__ import annotations

import re

from certferry.core.secret import MASK

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


def discreet(words: str) -> str:
    """Give words without what must not be seen."""
    return _UNSPEAKABLE.sub(MASK, words)
