"""What is known of addresses, clocks and CAA: this machine, fake answers, a clock that is off."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from certferry.core.certificates.names import is_wildcard
from certferry.core.findings import Code
from certferry.errors import ClockWrong, Problem, Severity
from certferry.text import Text


def is_loopback(host: str) -> bool:
    """Return whether a host, by name or address without brackets, is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


FOR_BENCHMARKS = ipaddress.ip_network("198.18.0.0/15")
"""RFC 2544; proxies that answer DNS themselves hand out addresses of it."""

_OF_PROXIES = ipaddress.ip_network("fc00::/18")
"""What sing-box and V2Ray make up for IPv6 (FakeIP, FakeDNS); RFC 4193 §3.1 leaves it unused."""

_NOWHERE = (ipaddress.ip_network("0.0.0.0/8"), ipaddress.ip_network("::/128"))
"""What lists of blocked names are answered with (RFC 1122 §3.2.1.3)."""


def is_made_up(address: str, *, at_home: bool = False) -> bool:
    """Return whether an address was made up. Loopback is a true one in a world `at_home` there."""
    found = ipaddress.ip_address(address)
    if found.is_loopback:
        return not at_home
    return any(found in network for network in (FOR_BENCHMARKS, _OF_PROXIES, *_NOWHERE))


WANTED = timedelta(seconds=30)
"""What Qiniu's guide asks of a clock (docs/facts/qiniu.md §2.3)."""

REFUSED = timedelta(minutes=15)
"""From here on requests that carry their date are refused (docs/facts/qiniu.md §2.3)."""

_BEHIND = Text("this machine's clock is {amount} behind that of {service}")
_AHEAD = Text("this machine's clock is {amount} ahead of that of {service}")
SET_IT = Text(
    "set this machine's clock (`timedatectl set-ntp true`), before the keys are looked at: services"
    " refuse what carries a wrong date"
)

_BEFORE_AN_ORDER = Text(
    "set this machine's clock (`timedatectl set-ntp true`); nothing was ordered, since certferry"
    " cannot judge a certificate by a wrong clock"
)


def judge_clock(subject: str, service: str, ahead: timedelta) -> Problem | None:
    """Judge a clock by how far the service's is `ahead` of it; `None` where it is right."""
    amount = timedelta(seconds=abs(int(ahead.total_seconds())))
    if amount <= WANTED:
        return None
    sentence = _BEHIND if ahead > timedelta(0) else _AHEAD
    severity = Severity.ERROR if amount > REFUSED else Severity.WARNING
    message = sentence.filled(amount=amount, service=service)
    return Problem(Code.CLOCK_OFF, message, SET_IT, severity, subject)


def must_be_right(service: str, ahead: timedelta) -> None:
    """Raise `ClockWrong` where requests would be refused for their date."""
    found = judge_clock(service, service, ahead)
    if found is not None and found.severity is Severity.ERROR:
        raise ClockWrong(found.message, hint=found.hint)


def must_not_be_behind(service: str, ahead: timedelta) -> None:
    """Raise `ClockWrong` where a certificate that is issued now would not be valid here yet."""
    found = judge_clock(service, service, ahead)
    if found is not None and found.severity is Severity.ERROR and ahead > timedelta(0):
        raise ClockWrong(found.message, hint=_BEFORE_AN_ORDER)


ISSUE, ISSUE_WILD = "issue", "issuewild"
_KNOWN = frozenset({ISSUE, ISSUE_WILD, "iodef", "issuemail", "issuevmc", "contactemail"}) | {
    "contactphone"
}
_CRITICAL = 128  # the flag's bit (RFC 8659 §4.1)
DNS_01 = "dns-01"


class CaaRefusal(Enum):
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
    """The CA that is to issue: its names in CAA, and the URL of our account, if there is one."""

    identities: frozenset[str]
    account_url: str | None = None
    method: str = DNS_01


def why_forbidden(name: str, records: Sequence[CaaRecord], ca: Applicant) -> CaaRefusal | None:
    """Judge the records in force for a name; `None` where the CA may issue (RFC 8659 §4.3)."""
    if any(record.flags & _CRITICAL and record.tag not in _KNOWN for record in records):
        return CaaRefusal.UNKNOWN_TAG
    allowed = _having(ISSUE, records)
    if is_wildcard(name):
        allowed = _having(ISSUE_WILD, records) or allowed
    if not allowed:  # records that restrict something else
        return None
    refusals = [_refusal(record, ca) for record in allowed]
    if None in refusals:
        return None
    named = [refusal for refusal in refusals if refusal is not CaaRefusal.OTHER_CA]
    return named[0] if named else CaaRefusal.OTHER_CA


def allowed_by(records: Iterable[CaaRecord]) -> tuple[str, ...]:
    """Return the CAs that records name, for people."""
    named = [_parsed(r.value)[0] for r in records if r.tag in {ISSUE, ISSUE_WILD}]
    return tuple(dict.fromkeys(filter(None, named)))


def _having(tag: str, records: Iterable[CaaRecord]) -> list[CaaRecord]:
    return [record for record in records if record.tag == tag]


def _refusal(record: CaaRecord, applicant: Applicant) -> CaaRefusal | None:
    issuer, parameters = _parsed(record.value)
    if issuer not in applicant.identities:
        return CaaRefusal.OTHER_CA
    methods = parameters.get("validationmethods")
    if methods is not None and applicant.method not in {one.strip() for one in methods.split(",")}:
        return CaaRefusal.OTHER_METHOD
    account = parameters.get("accounturi")
    if account is not None and applicant.account_url not in {None, account}:
        return CaaRefusal.OTHER_ACCOUNT
    return None


def _parsed(value: str) -> tuple[str, dict[str, str]]:
    """Read `ca.example; name=value; …`; an issuer that is empty names no CA."""
    issuer, *rest = value.split(";")
    pairs = (part.partition("=") for part in rest if part.strip())
    parameters = {name.strip().lower(): content.strip() for name, _, content in pairs}
    return issuer.strip().lower().rstrip("."), parameters
