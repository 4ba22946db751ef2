"""Hosts to connect to, and judgments on addresses (loopback, made up by a resolver), on this
machine's clock, and on CAA records.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from msgspec import Struct

from certferry.core.certificates.names import is_wildcard
from certferry.core.findings import Code
from certferry.errors import ClockWrong, Problem, Severity
from certferry.text import Text

HTTPS = 443  # RFC 9110 §4.2.2


@dataclass(frozen=True, slots=True)
class Host:
    """A host to connect to."""

    #: A DNS name, or an IP address without brackets.
    name: str
    port: int = HTTPS  #: The TCP port.
    #: The IP address to connect to; `None` for every address of the name.
    address: str | None = None

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == HTTPS else f"{name}:{self.port}"


def is_loopback(host: str) -> bool:
    """Return whether a host is `localhost` or a loopback address (IPv6 without brackets)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


FOR_BENCHMARKS = ipaddress.ip_network("198.18.0.0/15")
"""The network for benchmarks (RFC 2544). Proxies with their own DNS answer with addresses from this
network.
"""

_OF_PROXIES = ipaddress.ip_network("fc00::/18")
"""The IPv6 network of the made-up answers of sing-box and V2Ray (FakeIP, FakeDNS). RFC 4193 §3.1
leaves the network unused.
"""

_NOWHERE = (ipaddress.ip_network("0.0.0.0/8"), ipaddress.ip_network("::/128"))
"""Networks without hosts (RFC 1122 §3.2.1.3). Resolvers answer with addresses from these networks
to block a name.
"""


def is_made_up(address: str, *, at_home: bool = False) -> bool:
    """Return whether a proxy or a blocking resolver made up an address.

    A loopback address is genuine only if the target is on loopback (`at_home`), as in the sandbox.
    Raises `ValueError` for any text but an IP address.
    """
    ip = ipaddress.ip_address(address)
    if ip.is_loopback:
        return not at_home
    return any(ip in network for network in (FOR_BENCHMARKS, _OF_PROXIES, *_NOWHERE))


WANTED = timedelta(seconds=30)
"""The error of this machine's clock above which certferry warns. A CDN's guide asks for a clock
within this time (docs/facts/qiniu.md §2.3).
"""

REFUSED = timedelta(minutes=15)
"""The error of this machine's clock above which a run fails: services refuse dated requests
(docs/facts/qiniu.md §2.3).
"""

_BEHIND = Text("this host's clock is {amount} behind that of {service}")
_AHEAD = Text("this host's clock is {amount} ahead of that of {service}")
SET_IT = Text(
    "set this host's clock (`timedatectl set-ntp true`) before checking the keys: services refuse"
    " requests with a wrong date"
)

_BEFORE_AN_ORDER = Text(
    "set this host's clock (`timedatectl set-ntp true`); nothing was ordered, since certferry"
    " cannot judge a certificate with a wrong clock"
)


def judge_clock(subject: str, service: str, ahead: timedelta) -> Problem | None:
    """Return the problem of this machine's clock; `None` for an error of at most `WANTED`.

    The service's clock is `ahead` of this machine's clock. A negative `ahead` means behind.
    """
    amount = timedelta(seconds=abs(int(ahead.total_seconds())))
    if amount <= WANTED:
        return None
    sentence = _BEHIND if ahead > timedelta(0) else _AHEAD
    severity = Severity.ERROR if amount > REFUSED else Severity.WARNING
    message = sentence.filled(amount=amount, service=service)
    return Problem(Code.CLOCK_OFF, message, SET_IT, severity, subject)


def must_be_right(service: str, ahead: timedelta) -> None:
    """Raise `ClockWrong` if the clocks differ by more than `REFUSED`, so services refuse
    requests.
    """
    problem = judge_clock(service, service, ahead)
    if problem is not None and problem.severity is Severity.ERROR:
        raise ClockWrong(problem.message, hint=problem.hint)


def must_not_be_behind(service: str, ahead: timedelta) -> None:
    """Raise `ClockWrong` if this machine's clock is more than `REFUSED` behind the service's clock.

    With such a clock, a certificate issued now would look not yet valid.
    """
    problem = judge_clock(service, service, ahead)
    if problem is not None and problem.severity is Severity.ERROR and ahead > timedelta(0):
        raise ClockWrong(problem.message, hint=_BEFORE_AN_ORDER)


ISSUE, ISSUE_WILD = "issue", "issuewild"
_KNOWN = frozenset({ISSUE, ISSUE_WILD, "iodef", "issuemail", "issuevmc", "contactemail"}) | {
    "contactphone"
}
_CRITICAL = 128  # the flag's bit (RFC 8659 §4.1)
DNS_01 = "dns-01"


class CaaRefusal(Enum):
    """The reason why CAA forbids a CA to issue."""

    OTHER_CA = "another CA is named, or none at all"
    OTHER_METHOD = "the CA is named for other kinds of proof only (RFC 8657)"
    OTHER_ACCOUNT = "the CA is named for another of its accounts only (RFC 8657)"
    UNKNOWN_TAG = "a record that must be understood is not"


class CaaRecord(Struct, frozen=True):
    """A CAA record (RFC 8659 §4.1)."""

    flags: int  #: The octet of flags.
    #: The tag in lower case.
    tag: str
    value: str  #: The value; `_parsed` reads the values of `issue` and `issuewild`.


class Applicant(Struct, frozen=True):
    """The CA that should issue, with our account."""

    #: The CA's names in CAA records, in lower case.
    identities: frozenset[str]
    #: The URL of our account; `None` before registration.
    account_url: str | None = None
    #: The method of the proof, by the ACME name.
    method: str = DNS_01


def why_forbidden(name: str, records: Sequence[CaaRecord], ca: Applicant) -> CaaRefusal | None:
    """Return why the CAA records in force for a name forbid the CA to issue (RFC 8659 §4.3). Return
    `None` if the CA may issue.
    """
    if any(record.flags & _CRITICAL and record.tag not in _KNOWN for record in records):
        return CaaRefusal.UNKNOWN_TAG
    allowed = _having(ISSUE, records)
    if is_wildcard(name):
        allowed = _having(ISSUE_WILD, records) or allowed
    if not allowed:  # the records restrict something else
        return None
    refusals = [_refusal(record, ca) for record in allowed]
    if None in refusals:
        return None
    named = [refusal for refusal in refusals if refusal is not CaaRefusal.OTHER_CA]
    return named[0] if named else CaaRefusal.OTHER_CA


def allowed_by(records: Iterable[CaaRecord]) -> tuple[str, ...]:
    """Return the CAs named in `issue` and `issuewild` records, each once, for people."""
    named = [_parsed(r.value)[0] for r in records if r.tag in {ISSUE, ISSUE_WILD}]
    return tuple(dict.fromkeys(filter(None, named)))


def names_an_account(records: Iterable[CaaRecord]) -> bool:
    """Return whether CAA records limit a CA to an account (RFC 8657 §3)."""
    return any("accounturi" in _parsed(record.value)[1] for record in records)


def limiting_value(applicant: Applicant, methods: Iterable[str]) -> str | None:
    """Return the value of an `issue` record that allows the CA to issue for our account only, and
    by `methods` only (RFC 8657 §3, §4). Return `None` before registration, or if the CA does not
    publish its CAA names.
    """
    if not applicant.identities or applicant.account_url is None:
        return None
    ca = min(applicant.identities)
    return f"{ca}; accounturi={applicant.account_url}; validationmethods={','.join(methods)}"


def _having(tag: str, records: Iterable[CaaRecord]) -> list[CaaRecord]:
    return [record for record in records if record.tag == tag]


def _refusal(record: CaaRecord, applicant: Applicant) -> CaaRefusal | None:
    issuer, parameters = _parsed(record.value)
    if issuer not in applicant.identities:
        return CaaRefusal.OTHER_CA
    methods = parameters.get("validationmethods")
    if methods is not None and applicant.method not in {
        method.strip() for method in methods.split(",")
    }:
        return CaaRefusal.OTHER_METHOD
    account = parameters.get("accounturi")
    if account is not None and applicant.account_url not in {None, account}:
        return CaaRefusal.OTHER_ACCOUNT
    return None


def _parsed(value: str) -> tuple[str, dict[str, str]]:
    """Return issuer and parameters of `ca.example; name=value; …`, names in lower case.

    An empty issuer allows no CA.
    """
    issuer, *rest = value.split(";")
    pairs = (part.partition("=") for part in rest if part.strip())
    parameters = {name.strip().lower(): content.strip() for name, _, content in pairs}
    return issuer.strip().lower().rstrip("."), parameters
