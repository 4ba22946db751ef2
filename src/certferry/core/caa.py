"""Whether CAA records let a CA issue for a name, by the proof that certferry gives (RFC 8659)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from certferry.core.identifiers import is_wildcard

ISSUE, ISSUE_WILD = "issue", "issuewild"
_KNOWN = frozenset({ISSUE, ISSUE_WILD, "iodef", "issuemail", "issuevmc", "contactemail"}) | {
    "contactphone"
}
_CRITICAL = 128  # the flag's bit (RFC 8659 §4.1)
DNS_01 = "dns-01"


class Refusal(Enum):
    """Why a CA may not issue."""

    OTHER_CA = "another CA is named, or none at all"
    OTHER_METHOD = "the CA is named for other kinds of proof only (RFC 8657)"
    OTHER_ACCOUNT = "the CA is named for another of its accounts only (RFC 8657)"
    UNKNOWN_TAG = "a record that must be understood is not"


@dataclass(frozen=True, slots=True)
class CaaRecord:
    """One record. `tag` is in lower case."""

    flags: int
    tag: str
    value: str


@dataclass(frozen=True, slots=True)
class Applicant:
    """The CA that is to issue: the domain names by which the CA calls itself in CAA, lower case,
    and the URL of our account there, `None` before there is one. `method` is the kind of proof.
    """

    identities: frozenset[str]
    account_url: str | None = None
    method: str = DNS_01


def why_forbidden(name: str, records: Sequence[CaaRecord], applicant: Applicant) -> Refusal | None:
    """Judge the records that are in force for a name; `None` where the CA may issue. For a wildcard
    `issuewild` counts where there is any, and `issue` otherwise (RFC 8659 §4.3).
    """
    if any(record.flags & _CRITICAL and record.tag not in _KNOWN for record in records):
        return Refusal.UNKNOWN_TAG
    allowed = _having(ISSUE, records)
    if is_wildcard(name):
        allowed = _having(ISSUE_WILD, records) or allowed
    if not allowed:  # records that restrict something else
        return None
    refusals = [_refusal(record, applicant) for record in allowed]
    if None in refusals:
        return None
    named = [refusal for refusal in refusals if refusal is not Refusal.OTHER_CA]
    return named[0] if named else Refusal.OTHER_CA


def allowed_by(records: Iterable[CaaRecord]) -> tuple[str, ...]:
    """Give the CAs that records name, for people."""
    named = [_parsed(r.value)[0] for r in records if r.tag in {ISSUE, ISSUE_WILD}]
    return tuple(dict.fromkeys(filter(None, named)))


def _having(tag: str, records: Iterable[CaaRecord]) -> list[CaaRecord]:
    return [record for record in records if record.tag == tag]


def _refusal(record: CaaRecord, applicant: Applicant) -> Refusal | None:
    issuer, parameters = _parsed(record.value)
    if issuer not in applicant.identities:
        return Refusal.OTHER_CA
    methods = parameters.get("validationmethods")
    if methods is not None and applicant.method not in {one.strip() for one in methods.split(",")}:
        return Refusal.OTHER_METHOD
    account = parameters.get("accounturi")
    if account is not None and applicant.account_url not in {None, account}:
        return Refusal.OTHER_ACCOUNT
    return None


def _parsed(value: str) -> tuple[str, dict[str, str]]:
    """Read `ca.example; name=value; …`; an issuer that is empty names no CA."""
    issuer, *rest = value.split(";")
    pairs = (part.partition("=") for part in rest if part.strip())
    parameters = {name.strip().lower(): content.strip() for name, _, content in pairs}
    return issuer.strip().lower().rstrip("."), parameters
