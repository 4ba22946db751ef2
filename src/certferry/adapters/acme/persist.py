"""Read the permanent DNS records that prove names (dns-persist-01), and judge the records as the
CA will.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec import Struct

from certferry.adapters.acme.account import holder_in
from certferry.adapters.acme.examination import AT_ONCE
from certferry.adapters.acme.propagation import Propagation, unwritable
from certferry.adapters.acme.resolvers import Resolvers
from certferry.core import dns_persist
from certferry.core.certificates.names import base_name
from certferry.core.findings import Code, info, warning
from certferry.errors import DnsError, Problem, RecordMissing, Severity, ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.state import StateStore
from certferry.text import Text

NOT_OFFERED = Text(
    "the CA's directory does not offer dns-persist-01 as defined in draft -02 "
    "(`issuerDomainNames`, `accountHashPrefix`)"
)
NO_ACCOUNT = Text("the CA has no account yet for a record to name")
MAKE_ACCOUNT = Text(
    "`certferry dns-persist {name}` creates the account, and prints the record to set"
)
SET_RECORD = Text("set the record once, by hand: {record}")

ENDS_SOON = timedelta(days=30)
"""How long before a record's end an operator who sets records by hand is warned."""


class JudgedName(Struct, frozen=True):
    """A name, with the judgement on its dns-persist-01 records."""

    #: The name, without `*.`.
    name: str
    #: The record that would prove the name.
    record: dns_persist.PersistRecord
    #: The judgement, or why the records could not be read.
    found: dns_persist.Verdict | DnsError

    @property
    def is_proven(self) -> bool:
        """Whether a record proves the name."""
        return isinstance(self.found, dns_persist.Verdict) and self.found.fault is None

    @property
    def why(self) -> Text:
        """Why no record proves the name."""
        if isinstance(self.found, DnsError):
            return self.found.message
        assert self.found.fault is not None  # noqa: S101 - for the type checker
        return self.found.fault.value.filled(place=self.record.name)


def judged_names(
    names: Iterable[str],
    offer: dns_persist.Offer,
    holder: dns_persist.Holder,
    resolvers: Resolvers,
    now: Callable[[], datetime],
) -> list[JudgedName]:
    """Read each name's record, and judge whether the record lets the CA issue for the name. If
    `names` has the name's wildcard, the record must also let the CA issue for the wildcard.
    """

    def judged(name: str, wildcard: bool) -> JudgedName:  # noqa: FBT001 - as `map` passes it
        verdict: dns_persist.Verdict | DnsError
        try:
            values = resolvers.txt(dns_persist.record_name(name))
            verdict = dns_persist.judge(values, name, offer, holder, now(), wildcard=wildcard)
        except DnsError as problem:
            verdict = problem
        return JudgedName(
            name, dns_persist.record_for(name, offer, holder, wildcard=wildcard), verdict
        )

    wanted = dns_persist.with_wildcards(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(judged, wanted, wanted.values()))


@dataclass(frozen=True, slots=True)
class PersistProofs:
    """Checks the dns-persist-01 records for one directory."""

    #: The URL of the directory.
    directory: str
    #: The account named by the records.
    state: StateStore
    #: Asked for the records.
    resolvers: Resolvers
    #: The clock of the run.
    now: Callable[[], datetime]
    #: Reads the directory's offer; the answer is kept.
    read_offer: Callable[[], dns_persist.Offer | None]
    #: The offer, once read.
    _offers: list[dns_persist.Offer | None] = field(default_factory=list, init=False)

    def must_be_provable(
        self, names: Sequence[str], dns: DnsProvider, propagation: Propagation
    ) -> frozenset[str]:
        """Return the names, without `*.`, proven by a record.

        Raises `RecordMissing` if no account can prove the other names, `DnsError` and
        `IssuanceError`.
        """
        judged = self._judged(names)
        readable = [] if isinstance(judged, Text) else judged
        proven = frozenset(judged_name.name for judged_name in readable if judged_name.is_proven)
        others = [name for name in names if base_name(name) not in proven]
        missing = dict(unwritable(others, dns, propagation))
        if not missing:
            return proven
        if isinstance(judged, Text):
            name, problem = next(iter(missing.items()))
            message = Text("{one}; {other}", one=problem.message, other=judged)
            make = MAKE_ACCOUNT.filled(name=name)
            raise RecordMissing(message, hint=problem.hint if judged is NOT_OFFERED else make)
        raise _missing(
            [
                (judged_name, missing[judged_name.name])
                for judged_name in readable
                if judged_name.name in missing
            ]
        )

    def _judged(self, names: Sequence[str]) -> list[JudgedName] | Text:
        """Return the judgement on each name, or why no record can count."""
        # Without a lock, two threads may read the offer twice. With a lock, all threads would wait
        # one after the other for a silent CA.
        if not self._offers:
            self._offers.append(self.read_offer())
        offer = self._offers[0]
        if offer is None:
            return NOT_OFFERED
        holder = holder_in(self.state, self.directory)
        if holder is None:
            return NO_ACCOUNT
        return judged_names(names, offer, holder, self.resolvers, self.now)


def _missing(unproven: Sequence[tuple[JudgedName, ZoneNotFound]]) -> DnsError:
    """Return a single error for all names. If every name's records could be read, the hint has the
    records that the operator must set by hand.
    """
    message = unproven[0][1].message
    for judged, _ in unproven:
        message = Text("{one}; {other}", one=message, other=judged.why)
    for judged, _ in unproven:
        if isinstance(judged.found, DnsError):
            return type(judged.found)(message, hint=judged.found.hint, retry=judged.found.retry)
    records = [judged.record.as_zone_line for judged, _ in unproven]
    return RecordMissing(message, hint=SET_RECORD.filled(record="\n".join(records)))


def findings_of(
    examined: Iterable[JudgedName], spare: Collection[str], now: datetime
) -> Iterator[Problem]:
    """Yield a finding for each name.

    A DNS account can also prove the names in `spare`, so a missing or wrong record of these names
    is only a warning.
    """
    for judged in examined:
        yield _finding(judged, _severity(judged.name in spare), now)


def without_records(
    names: Collection[str],
    spare: Collection[str],
    offer: dns_persist.Offer | None,
    holder: dns_persist.Holder | None,
) -> Iterator[Problem]:
    """Yield a problem for each name, if no record can prove any name: `offer` is `None` because the
    CA lacks the method, or `holder` is `None` because the CA has no account yet.
    """
    for name in dict.fromkeys(map(base_name, names)) if offer is None or holder is None else ():
        code, message, fix = Code.DNS_PERSIST_MISSING, NO_ACCOUNT, MAKE_ACCOUNT.filled(name=name)
        if offer is None:
            code, message = Code.DNS_PERSIST_NOT_OFFERED, NOT_OFFERED
            fix = Text("set `dns` of the certificate to the account that has the zone")
        yield Problem(code, message, fix, _severity(name in spare), name)


def _severity(is_spare: bool) -> Severity:  # noqa: FBT001 - a yes or no about the name
    return Severity.WARNING if is_spare else Severity.ERROR


def _finding(judged: JudgedName, severity: Severity, now: datetime) -> Problem:
    verdict, name, place = judged.found, judged.name, judged.record.name
    if isinstance(verdict, DnsError):
        return verdict.problem(name, Severity.WARNING, Code.NOT_LOOKED_AT)
    fix = SET_RECORD.filled(record=judged.record.as_zone_line)
    if verdict.fault is not None:
        missing = verdict.fault is dns_persist.Fault.MISSING
        code = Code.DNS_PERSIST_MISSING if missing else Code.DNS_PERSIST_WRONG
        return Problem(code, judged.why, fix, severity, name)
    if verdict.until is None:
        message = Text(
            "the record at {place} proves the name permanently (dns-persist-01, experimental)"
        )
        return info(Code.DNS_PERSIST, name, message.filled(place=place))
    message = Text(
        "the record at {place} proves the name until {moment} (dns-persist-01, experimental)"
    )
    message = message.filled(place=place, moment=verdict.until)
    if verdict.until - now > ENDS_SOON:
        return info(Code.DNS_PERSIST, name, message)
    return warning(Code.DNS_PERSIST_ENDS, name, message, fix)
