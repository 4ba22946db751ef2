"""Read answers of services that hold our private keys, and may quote a key. Errors do not quote the
answer, and operators see only values whose form rules out a key.
"""

from __future__ import annotations

import logging
import re
from typing import TypeVar

import msgspec

from certferry.core.certificates.lineage import owner_of
from certferry.core.certificates.names import WILDCARD
from certferry.core.redaction import speech

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_NAME = 254  # characters of a name (RFC 1035 §2.3.4), with the leading dot
HOST = r"^(\*?\.)?([A-Za-z0-9_-][a-z0-9_-]{0,62}\.)+[A-Za-z][a-z0-9-]{1,62}\.?$"
"""The form of a host's name. The name may begin with `*.`, or with the dot that some services give
a wildcard. Capitals inside a word are refused, because they suggest Base64."""

_PATTERN = re.compile(r"Expected `str` matching regex '.*'")


def decode(body: bytes, into: type[T]) -> T:
    """Decode JSON into a type; a string also counts as a number. Raises `ValueError`, with a
    message that does not quote the body.
    """
    try:
        return msgspec.json.decode(body, type=into, strict=False)
    except msgspec.ValidationError as problem:
        message = _PATTERN.sub("a value of another form", str(problem))
        raise ValueError(message if "`$" in message else f"{message} - at `$`") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise ValueError(str(problem)) from None


def decode_entry(raw: msgspec.Raw, into: type[T]) -> T | None:
    """Decode an entry of a list; return `None` if undecodable."""
    try:
        return decode(bytes(raw), into)
    except ValueError as problem:
        log.debug("an entry of a list is passed over: %s", problem)
        return None


def shown_name(given: str) -> str:
    """Return a certificate's name for operators, masked unless the name is a certferry label."""
    return given if owner_of(given) is not None else speech(given)


def shown_hosts(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the well-formed names of hosts, in lowercase."""
    lowered = (name.lower() for name in given)
    return tuple(n for n in lowered if len(n) <= LONGEST_NAME and re.match(HOST, n))


def shown_target(cname: str | None) -> str:
    """Return the well-formed target of a CNAME, in lowercase without the last dot; else nothing."""
    name = (cname or "").rstrip(".").lower()
    return name if re.match(HOST, name) else ""


def with_leading_dot(domain: str) -> str:
    """Return a domain as some services spell it: a wildcard begins with the dot."""
    return domain.removeprefix("*") if domain.startswith(WILDCARD) else domain


def name_here(name: str) -> str:
    """Return a domain in certferry's spelling: in lowercase, a wildcard begins with `*.`."""
    lowered = name.lower()
    return f"*{lowered}" if lowered.startswith(".") else lowered
