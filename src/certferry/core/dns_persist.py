"""The TXT record that proves a name for ever: dns-persist-01, by draft-ietf-acme-dns-persist-02.

A draft: a later one may ask for another record. The sections named here are its own (2026-09-20).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from hashlib import sha256

from certferry.core.certificates.names import base_name, is_wildcard
from certferry.text import Text

LABEL = "_validation-persist"
METHOD = "dns-persist-01"
LONGEST_STRING = 255
"""Octets in one string of a TXT record, which may have several (RFC 1035 §3.3.14)."""

_ANY_NAME = "*"
_MARGIN = timedelta(minutes=10)
"""A record that ends before an order could be done with is taken for over (§9.4)."""

# RFC 8659 §4.2: `issue-value`, of which a parameter is `tag=value`.
_PARAMETER = re.compile(r"([A-Za-z0-9](?:-*[A-Za-z0-9])*)=([\x21-\x3a\x3c-\x7e]*)")
_TIMESTAMP = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a directory says of dns-persist-01: its names, its prefix of accounts (§3.2, §4.1)."""

    issuers: tuple[str, ...]
    prefix: str


@dataclass(frozen=True, slots=True)
class Holder:
    """The account that a record names: its URL, and the thumbprints of its keys (RFC 7638, SHA-256,
    base64url), the one in force first. A CA takes a record made with any of them (§4.2).
    """

    url: str
    thumbprints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PersistRecord:
    """A TXT record: its name, absolute and without a final dot, and its value."""

    name: str
    value: str
    rtype: str = "TXT"

    @property
    def as_zone_line(self) -> str:
        """How a zone file writes it."""
        parts = [
            self.value[start : start + LONGEST_STRING]
            for start in range(0, len(self.value), LONGEST_STRING)
        ]
        return f"{self.name}. {self.rtype} " + " ".join(f'"{part}"' for part in parts)


class Fault(Enum):
    """Why the records at a name do not prove it, the nearest miss first."""

    OVER = Text("the record at {place} has ended (persistUntil)")
    NO_WILDCARD = Text("the record at {place} lacks `policy=wildcard`")
    OLDER_DRAFT = Text("the record at {place} is of an older draft, which names the account openly")
    OTHER_ACCOUNT = Text("the record at {place} names another account of the CA")
    MALFORMED = Text("the record at {place} cannot be read as one of dns-persist-01")
    MISSING = Text("there is no TXT record for this CA at {place}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the records at a name prove it: no `fault`, and `until` a moment or for ever."""

    fault: Fault | None
    until: datetime | None = None


def record_name(name: str) -> str:
    """Return where the record of a name is; apex and wildcard share it (§4)."""
    return f"{LABEL}.{base_name(name)}"


def with_wildcards(names: Iterable[str]) -> dict[str, bool]:
    """Return the names to prove without `*.`, each with whether its record must allow wildcards."""
    found: dict[str, bool] = {}
    for name in names:
        found[base_name(name)] = found.get(base_name(name), False) or is_wildcard(name)
    return found


def record_for(name: str, offer: Offer, holder: Holder, *, wildcard: bool) -> PersistRecord:
    """Return the record to set for a name without `*.`, made with the key in force (§4.1)."""
    # The order of the names has no significance (§7.6): always the same one is printed.
    account = account_uri(name, offer.prefix, holder.url, holder.thumbprints[0])
    value = f"{min(offer.issuers)}; accounturi={account}"
    return PersistRecord(record_name(name), value + "; policy=wildcard" * wildcard)


def account_uri(name: str, prefix: str, url: str, thumbprint: str) -> str:
    """Return the account's address in the record of a name, or of `*` for any (§4.1)."""
    hashed = sha256(bytes([len(name)]) + f"{name}{thumbprint}{url}".encode()).digest()
    return f"{prefix}sha-256/{urlsafe_b64encode(hashed).decode().rstrip('=')}"


def judge(
    values: Sequence[str], name: str, offer: Offer, holder: Holder, now: datetime, *, wildcard: bool
) -> Verdict:
    """Judge the TXT values at a name as its CA will (§4.2); the one that proves longest counts."""
    taken = {
        account_uri(asked, offer.prefix, holder.url, thumbprint)
        for asked in (name, _ANY_NAME)
        for thumbprint in holder.thumbprints
    }
    verdicts = [
        _judged(parameters, taken, holder, now, wildcard=wildcard)
        for issuer, parameters in map(_parsed, values)
        if issuer in offer.issuers
    ]
    proving = [verdict for verdict in verdicts if verdict.fault is None]
    if proving:
        return max(proving, key=lambda verdict: verdict.until or datetime.max.replace(tzinfo=UTC))
    misses = list(Fault)
    faults = [verdict.fault for verdict in verdicts if verdict.fault is not None]
    return Verdict(min(faults, key=misses.index, default=Fault.MISSING))


def _judged(
    found: dict[str, str] | None, taken: set[str], holder: Holder, now: datetime, *, wildcard: bool
) -> Verdict:
    if found is None or "accounturi" not in found:
        return Verdict(Fault.MALFORMED)
    timestamp = found.get("persistUntil")
    if timestamp is not None and not _TIMESTAMP.fullmatch(timestamp):
        return Verdict(Fault.MALFORMED)
    if found["accounturi"] not in taken:
        is_older = found["accounturi"] == holder.url
        return Verdict(Fault.OLDER_DRAFT if is_older else Fault.OTHER_ACCOUNT)
    if wildcard and found.get("policy", "").lower() != "wildcard":
        return Verdict(Fault.NO_WILDCARD)
    until = None if timestamp is None else _moment(timestamp)
    if until is not None and until <= now + _MARGIN:
        return Verdict(Fault.OVER, until)
    return Verdict(None, until)


def _moment(timestamp: str) -> datetime | None:
    """Read a UNIX timestamp; one beyond the calendar is as good as none."""
    try:
        return datetime.fromtimestamp(int(timestamp), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _parsed(value: str) -> tuple[str, dict[str, str] | None]:
    """Read `issuer; tag=value; …` (RFC 8659 §4.2): `None` for parameters that are malformed."""
    issuer, *rest = (part.strip(" \t") for part in value.split(";"))
    if rest == [""]:
        rest.pop()
    found: dict[str, str] = {}
    for part in rest:
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None or parameter[1] in found:
            return issuer, None
        found[parameter[1]] = parameter[2]
    return issuer, found
