"""What services, gateways and CAs say, as it may be quoted: the one rule for all of their words.

A service that quotes what it was sent could quote a key, or the proof of who sent it, and another
person may read the sentence, the log or the terminal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from certferry.core.redaction import redacted
from certferry.core.secret import MASK, Secret
from certferry.text import Quoted

LONGEST = 1000
"""Characters that are kept. The rest helps no operator."""
_READ = 2 * LONGEST
"""Characters that are looked at, before anything else is done with them."""

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Unicode's categories of what controls a terminal, turns writing around, or is nothing."""

_WORD = r"(?:[A-Z]?[a-z]{1,18}(?:[A-Z][a-z]{1,18})*|[A-Z]{1,12}|v?\d{1,15})"
_PLAIN = re.compile(rf"[-_/+=%~]*{_WORD}(?:[-_/+=~]+{_WORD})*[-_/+=%~]*")
"""Words and small numbers with marks between them, such as a path's, or `accountDoesNotExist`."""

_TOKEN = re.compile(
    # What has dots and ends like a host's name is one, with the scheme that stands before it.
    r"(?P<host>(?<![\w+=%~.-])(?:[a-z0-9_*-]{1,63}\.)+[a-z][a-z0-9-]{1,62}(?![\w+=%~-]))"
    # RFC 9562: how most services write the id of a request.
    # Twenty-four lower-case hexadecimal digits: how Qiniu writes the id of a certificate.
    r"|(?P<id>(?<![\w+/=%~.-])"
    r"(?:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-9a-f]{24})(?![\w+/=%~-]))"
    # Twenty of what base64, hexadecimal digits and percent-encoding are made of; with it the short
    # last line of a key.
    r"|(?P<run>[A-Za-z0-9+/=_%~-]{20,}(?:\s+[A-Za-z0-9+/]{1,19}={1,2})?)"
    # As OpenSSL prints the numbers of a key.
    r"|(?P<digits>(?<![\w:])[0-9A-Fa-f]{2}(?:[: ]+[0-9A-Fa-f]{2}){9,})",
    re.ASCII,  # a Chinese word may stand right beside a name
)

_ID = re.compile(r"[\w.:/+=-]{1,64}", re.ASCII)


def quoted(said: object, secrets: Iterable[Secret] = ()) -> Quoted:
    """Give a service's words for a sentence: at most a kilobyte on one line, without what controls
    or turns the writing, with `•••` for the secrets that are known and for each run of twenty
    characters or more that could be a key. Hosts, addresses of pages and words are none.
    """
    words = _visible(str(said)[:_READ])
    words = _TOKEN.sub(_unless_known, redacted(words, secrets))
    return Quoted(words if len(words) <= LONGEST else words[: LONGEST - 1] + "…")


def quoted_id(said: str, secrets: Iterable[Secret] = ()) -> str:
    """Give the id of a request, one word that may look like a key; "" when it is no such."""
    return redacted(said, secrets) if _ID.fullmatch(said) else ""


def quoted_code(said: str, secrets: Iterable[Secret] = ()) -> str:
    """Give the code of an answer, which is kept for ever: of words and numbers, in one piece; ""
    when it could be a key or is none.
    """
    return said if _ID.fullmatch(said) and quoted(said, secrets) == said else ""


def _visible(words: str) -> str:
    spaced = " ".join(words.split())
    return "".join(c for c in spaced if unicodedata.category(c) not in _UNSEEN)


def _unless_known(token: re.Match[str]) -> str:
    if token.lastgroup in {"host", "id"}:
        return token[0]
    return token[0] if token.lastgroup == "run" and _PLAIN.fullmatch(token[0]) else MASK
