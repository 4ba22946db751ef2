"""The permanent TXT record of dns-persist-01, by draft-ietf-acme-dns-persist-02 (2026-09-20).

A later draft may ask for another record. The sections named here are sections of the draft.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from hashlib import sha256

from msgspec import Struct

from certferry.core.certificates.names import base_name, is_wildcard
from certferry.text import Text

LABEL = "_validation-persist"
METHOD = "dns-persist-01"
LONGEST_STRING = 255
"""The most octets in a string of a TXT record; a record may have several (RFC 1035 §3.3.14)."""

_ANY_NAME = "*"
_MARGIN = timedelta(minutes=10)
"""The time that an order may take. A record that ends within this time counts as ended (§9.4)."""

# A parameter `tag=value` of an `issue-value` (RFC 8659 §4.2).
_PARAMETER = re.compile(r"([A-Za-z0-9](?:-*[A-Za-z0-9])*)=([\x21-\x3a\x3c-\x7e]*)")
_TIMESTAMP = re.compile(r"[0-9]+")


class Offer(Struct, frozen=True):
    """A CA's offer of dns-persist-01, from the ACME directory."""

    #: The CA's issuer names (§3.2).
    issuers: tuple[str, ...]
    #: The beginning of every account URI (§4.1).
    prefix: str


class Holder(Struct, frozen=True):
    """The ACME account that a record must name."""

    url: str  #: The account's URL at the CA.
    #: The thumbprints of the account's keys (RFC 7638, SHA-256, base64url), the key in force first.
    #: A CA accepts a record made with any of these keys (§4.2).
    thumbprints: tuple[str, ...]


class PersistRecord(Struct, frozen=True):
    """A TXT record to set."""

    #: The record's name, absolute, without a final dot.
    name: str
    value: str  #: The whole text, also if longer than `LONGEST_STRING`.
    rtype: str = "TXT"  #: The record's type.

    @property
    def as_zone_line(self) -> str:
        """The record as a line of a zone file."""
        parts = [
            self.value[start : start + LONGEST_STRING]
            for start in range(0, len(self.value), LONGEST_STRING)
        ]
        return f"{self.name}. {self.rtype} " + " ".join(f'"{part}"' for part in parts)


class Fault(Enum):
    """Why the records at a name prove nothing. The faults stand in order, the smallest first. If
    several records have faults, `judge` returns the smallest fault.
    """

    OVER = Text("the record at {place} has ended (persistUntil)")
    NO_WILDCARD = Text("the record at {place} lacks `policy=wildcard`")
    OLDER_DRAFT = Text(
        "the record at {place} is from an older draft, which shows the account openly"
    )
    OTHER_ACCOUNT = Text("the record at {place} names another account of the CA")
    MALFORMED = Text("the record at {place} is not a valid dns-persist-01 record")
    MISSING = Text("there is no TXT record for this CA at {place}")


class Verdict(Struct, frozen=True):
    """The judgment on the records at a name."""

    #: Why the records prove nothing; `None` if they prove the name.
    fault: Fault | None
    #: The end of the proof; `None` for a proof without an end. `judge` returns no end with a fault.
    until: datetime | None = None


def record_name(name: str) -> str:
    """Return the name of the TXT record for a name. A wildcard and the name without `*.` share a
    record (§4).
    """
    return f"{LABEL}.{base_name(name)}"


def with_wildcards(names: Iterable[str]) -> dict[str, bool]:
    """Return each name without `*.`, with true if the record must allow wildcards."""
    allows_wildcard: dict[str, bool] = {}
    for name in names:
        allows_wildcard[base_name(name)] = allows_wildcard.get(
            base_name(name), False
        ) or is_wildcard(name)
    return allows_wildcard


def record_for(name: str, offer: Offer, holder: Holder, *, wildcard: bool) -> PersistRecord:
    """Return the record to set for a name without `*.`, made with the key in force (§4.1)."""
    # The order of issuer names has no meaning (§7.6); `min` always prints the same record.
    account = account_uri(name, offer.prefix, holder.url, holder.thumbprints[0])
    value = f"{min(offer.issuers)}; accounturi={account}"
    return PersistRecord(record_name(name), value + "; policy=wildcard" * wildcard)


def account_uri(name: str, prefix: str, url: str, thumbprint: str) -> str:
    """Return the account URI for the record of a name. A URI made for the name `*` is good for
    every name (§4.1).
    """
    hashed = sha256(bytes([len(name)]) + f"{name}{thumbprint}{url}".encode()).digest()
    return f"{prefix}sha-256/{urlsafe_b64encode(hashed).decode().rstrip('=')}"


def judge(
    values: Sequence[str], name: str, offer: Offer, holder: Holder, now: datetime, *, wildcard: bool
) -> Verdict:
    """Return the verdict on the TXT values for a name without `*.`, by the CA's rules (§4.2).

    If several records prove the name, the verdict has the proof with the latest end. Without a
    proof, the verdict has the first `Fault`, in the order of `Fault`, among the records for this
    CA.
    """
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
    parameters: dict[str, str] | None,
    taken: set[str],
    holder: Holder,
    now: datetime,
    *,
    wildcard: bool,
) -> Verdict:
    if parameters is None or "accounturi" not in parameters:
        return Verdict(Fault.MALFORMED)
    timestamp = parameters.get("persistUntil")
    if timestamp is not None and not _TIMESTAMP.fullmatch(timestamp):
        return Verdict(Fault.MALFORMED)
    if parameters["accounturi"] not in taken:
        is_older = parameters["accounturi"] == holder.url
        return Verdict(Fault.OLDER_DRAFT if is_older else Fault.OTHER_ACCOUNT)
    if wildcard and parameters.get("policy", "").lower() != "wildcard":
        return Verdict(Fault.NO_WILDCARD)
    until = None if timestamp is None else _moment(timestamp)
    if until is not None and until <= now + _MARGIN:
        return Verdict(Fault.OVER, until)
    return Verdict(None, until)


def _moment(timestamp: str) -> datetime | None:
    """Return the moment of a UNIX timestamp; `None`, for ever, if beyond Python's calendar."""
    try:
        return datetime.fromtimestamp(int(timestamp), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _parsed(value: str) -> tuple[str, dict[str, str] | None]:
    """Return issuer and parameters of `issuer; tag=value; …` (RFC 8659 §4.2), with `None` in place
    of malformed parameters.
    """
    issuer, *rest = (part.strip(" \t") for part in value.split(";"))
    if rest == [""]:
        rest.pop()
    parameters: dict[str, str] = {}
    for part in rest:
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None or parameter[1] in parameters:
            return issuer, None
        parameters[parameter[1]] = parameter[2]
    return issuer, parameters
