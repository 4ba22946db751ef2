"""The records that prove names by dns-persist-01: look for them, and judge them as the CA will."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

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
    "the CA's directory does not offer dns-persist-01 as draft -02 has it (`issuerDomainNames`,"
    " `accountHashPrefix`)"
)
NO_ACCOUNT = Text("there is no account at the CA yet that a record could name")
MAKE_ACCOUNT = Text("`certferry dns-persist {name}` makes it, and prints the record to set")
SET_RECORD = Text("set this record once, by hand: {record}")

ENDS_SOON = timedelta(days=30)
"""Before then an operator who sets records by hand wants to know."""


@dataclass(frozen=True, slots=True)
class JudgedName:
    """A name without `*.`, the `record` that would prove it, and the judgement on those seen."""

    name: str
    record: dns_persist.PersistRecord
    found: dns_persist.Verdict | DnsError

    @property
    def is_proven(self) -> bool:
        """Whether a record proves the name."""
        return isinstance(self.found, dns_persist.Verdict) and self.found.fault is None

    @property
    def why(self) -> Text:
        """Why none does."""
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
    """Read the names' records, and judge each, with its wildcard if that is declared."""

    def judged(name: str, wildcard: bool) -> JudgedName:  # noqa: FBT001 - as `map` passes it
        found: dns_persist.Verdict | DnsError
        try:
            values = resolvers.txt(dns_persist.record_name(name))
            found = dns_persist.judge(values, name, offer, holder, now(), wildcard=wildcard)
        except DnsError as problem:
            found = problem
        return JudgedName(
            name, dns_persist.record_for(name, offer, holder, wildcard=wildcard), found
        )

    wanted = dns_persist.with_wildcards(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(judged, wanted, wanted.values()))


@dataclass(frozen=True, slots=True)
class PersistProofs:
    """Checks records for one directory; `read_offer` is called once."""

    directory: str
    state: StateStore
    resolvers: Resolvers
    now: Callable[[], datetime]
    read_offer: Callable[[], dns_persist.Offer | None]
    _known: list[dns_persist.Offer | None] = field(default_factory=list, init=False)

    def must_be_provable(
        self, names: Sequence[str], dns: DnsProvider, propagation: Propagation
    ) -> frozenset[str]:
        """Return the names, without `*.`, that a record proves. Raises `RecordMissing` where no
        account can prove the others, `DnsError` and `IssuanceError`.
        """
        looked = self._judged(names)
        found = [] if isinstance(looked, Text) else looked
        proven = frozenset(one.name for one in found if one.is_proven)
        others = [name for name in names if base_name(name) not in proven]
        missing = dict(unwritable(others, dns, propagation))
        if not missing:
            return proven
        if isinstance(looked, Text):
            name, problem = next(iter(missing.items()))
            message = Text("{one}; {other}", one=problem.message, other=looked)
            make = MAKE_ACCOUNT.filled(name=name)
            raise RecordMissing(message, hint=problem.hint if looked is NOT_OFFERED else make)
        raise _missing([(one, missing[one.name]) for one in found if one.name in missing])

    def _judged(self, names: Sequence[str]) -> list[JudgedName] | Text:
        """Return what was found for each name, or why there can be no record."""
        # Several at once may read it: behind a lock, each would wait for a CA that is silent.
        if not self._known:
            self._known.append(self.read_offer())
        offer = self._known[0]
        if offer is None:
            return NOT_OFFERED
        holder = holder_in(self.state, self.directory)
        if holder is None:
            return NO_ACCOUNT
        return judged_names(names, offer, holder, self.resolvers, self.now)


def _missing(found: Sequence[tuple[JudgedName, ZoneNotFound]]) -> DnsError:
    """Return one error for all: each record is set by hand."""
    message = found[0][1].message
    for one, _ in found:
        message = Text("{one}; {other}", one=message, other=one.why)
    for one, _ in found:
        if isinstance(one.found, DnsError):
            return type(one.found)(message, hint=one.found.hint, retry=one.found.retry)
    records = [one.record.as_zone_line for one, _ in found]
    return RecordMissing(message, hint=SET_RECORD.filled(record="\n".join(records)))


def findings_of(
    found: Iterable[JudgedName], spare: Collection[str], now: datetime
) -> Iterator[Problem]:
    """Yield a finding for each record. The names of `spare` an account could prove as well."""
    for one in found:
        yield _finding(one, _severity(one.name in spare), now)


def without_records(
    names: Collection[str],
    spare: Collection[str],
    offer: dns_persist.Offer | None,
    holder: dns_persist.Holder | None,
) -> Iterator[Problem]:
    """Return why no record can prove a name: the CA does not offer it, or there is no account."""
    for name in dict.fromkeys(map(base_name, names)) if offer is None or holder is None else ():
        code, message, fix = Code.DNS_PERSIST_MISSING, NO_ACCOUNT, MAKE_ACCOUNT.filled(name=name)
        if offer is None:
            code, message = Code.DNS_PERSIST_NOT_OFFERED, NOT_OFFERED
            fix = Text("name the account that has the zone as `dns` of the certificate")
        yield Problem(code, message, fix, _severity(name in spare), name)


def _severity(is_spare: bool) -> Severity:  # noqa: FBT001 - a yes or no about the name
    return Severity.WARNING if is_spare else Severity.ERROR


def _finding(one: JudgedName, severity: Severity, now: datetime) -> Problem:
    found, name, place = one.found, one.name, one.record.name
    if isinstance(found, DnsError):
        return found.problem(name, Severity.WARNING, Code.NOT_LOOKED_AT)
    fix = SET_RECORD.filled(record=one.record.as_zone_line)
    if found.fault is not None:
        missing = found.fault is dns_persist.Fault.MISSING
        code = Code.DNS_PERSIST_MISSING if missing else Code.DNS_PERSIST_WRONG
        return Problem(code, one.why, fix, severity, name)
    if found.until is None:
        message = Text("the record at {place} proves it for ever (dns-persist-01, experimental)")
        return info(Code.DNS_PERSIST, name, message.filled(place=place))
    message = Text("the record at {place} proves it until {moment} (dns-persist-01, experimental)")
    message = message.filled(place=place, moment=found.until)
    if found.until - now > ENDS_SOON:
        return info(Code.DNS_PERSIST, name, message)
    return warning(Code.DNS_PERSIST_ENDS, name, message, fix)
