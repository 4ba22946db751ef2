"""Look for the records that prove names by dns-persist-01, and judge them as the CA will."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from josepy.b64 import b64encode
from josepy.jwk import JWKEC

from certferry.adapters.acme.account import account_key, key_of
from certferry.adapters.acme.examination import AT_ONCE, unwritable
from certferry.adapters.acme.order_context import Propagation
from certferry.adapters.acme.resolvers import Resolvers
from certferry.core.certificates.names import base_name
from certferry.core.dns_persist import (
    Fault,
    Holder,
    Offer,
    PersistRecord,
    Verdict,
    judge,
    record_for,
    record_name,
    with_wildcards,
)
from certferry.core.findings import Code, info, warning
from certferry.errors import DnsError, RecordMissing, ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.state import StateStore
from certferry.problem import Problem, Severity
from certferry.text import Text

_NOTE = "earlier keys"


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found for a name without `*.`: the `record` that would prove it, and what those that
    are there are worth, or why that is not known.
    """

    name: str
    record: PersistRecord
    found: Verdict | DnsError

    @property
    def is_proven(self) -> bool:
        """Whether a record proves the name."""
        return isinstance(self.found, Verdict) and self.found.fault is None

    @property
    def why(self) -> Text:
        """Why none does."""
        if isinstance(self.found, DnsError):
            return self.found.message
        assert self.found.fault is not None  # noqa: S101 - for the type checker
        return self.found.fault.value.filled(place=self.record.name)


@dataclass(frozen=True, slots=True)
class PersistLook:
    """Looks through resolvers for what names an account at a CA."""

    offer: Offer
    holder: Holder
    resolvers: Resolvers
    now: Callable[[], datetime]

    def look(self, names: Iterable[str]) -> list[Looked]:
        """Look at the names, each of which is judged with its wildcard if that is among them."""
        wanted = with_wildcards(names)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._looked, wanted, wanted.values()))

    def _looked(self, name: str, wildcard: bool) -> Looked:  # noqa: FBT001 - as `map` gives it
        record = record_for(name, self.offer, self.holder, wildcard=wildcard)
        return Looked(name, record, self._judged(name, wildcard=wildcard))

    def _judged(self, name: str, *, wildcard: bool) -> Verdict | DnsError:
        try:
            values = self.resolvers.txt(record_name(name))
        except DnsError as problem:
            return problem
        return judge(values, name, self.offer, self.holder, self.now(), wildcard=wildcard)


def holder_in(state: StateStore, directory: str) -> Holder | None:
    """Return the account at a directory as records name it, `None` before there is one. Raises
    `StateError`.
    """
    account = state.account(directory)
    if account is None or account.url is None:
        return None
    keys = [account_key(account)]
    if account.next_key_pem is not None:  # after a change that was cut off, either is in force
        keys.append(key_of(account.next_key_pem, directory))
    earlier = (state.account_note(directory, _NOTE) or "").split()
    return Holder(account.url, tuple(dict.fromkeys([*map(thumbprint, keys), *earlier])))


def remember_key(state: StateStore, directory: str, key: JWKEC) -> None:
    """Keep the thumbprint of a key that is about to be replaced: the CA goes on to take records
    that were made with it (draft-ietf-acme-dns-persist-02 §4.2).
    """

    def added(note: str | None) -> str:
        return " ".join(dict.fromkeys([thumbprint(key), *(note or "").split()]))

    state.update_account_note(directory, _NOTE, added)


def thumbprint(key: JWKEC) -> str:
    """Return the thumbprint of a key (RFC 7638), in base64url."""
    return b64encode(key.thumbprint()).decode()


NOT_OFFERED = Text(
    "the CA's directory does not offer dns-persist-01 as draft -02 has it (`issuerDomainNames`,"
    " `accountHashPrefix`)"
)
NO_ACCOUNT = Text("there is no account at the CA yet that a record could name")
MAKE_ACCOUNT = Text("`certferry dns-persist {name}` makes it, and prints the record to set")
SET_RECORD = Text("set this record once, by hand: {record}")


class PersistProofs:
    """Looks for records at one directory, whose offer is remembered: `read_offer` gives it, and
    raises `IssuanceError`.
    """

    def __init__(
        self,
        directory: str,
        state: StateStore,
        resolvers: Resolvers,
        now: Callable[[], datetime],
        read_offer: Callable[[], Offer | None],
    ) -> None:
        self._directory = directory
        self._state = state
        self._resolvers = resolvers
        self._now = now
        self._read_offer = read_offer
        self._known: list[Offer | None] = []

    def proven(self, names: Sequence[str]) -> frozenset[str]:
        """Return the names, without `*.`, that a record proves now. Raises `IssuanceError`."""
        look = self._look()
        looked = look.look(names) if isinstance(look, PersistLook) else []
        return frozenset(one.name for one in looked if one.is_proven)

    def must_be_provable(
        self, names: Sequence[str], dns: DnsProvider, propagation: Propagation
    ) -> frozenset[str]:
        """Return the names, without `*.`, that a record proves. Raises `RecordMissing` with what
        to set where the others are not an account's to prove, `DnsError` and `IssuanceError`.
        """
        look = self._look()
        looked = look.look(names) if isinstance(look, PersistLook) else []
        proven = frozenset(one.name for one in looked if one.is_proven)
        left = [name for name in names if base_name(name) not in proven]
        missing = dict(unwritable(left, dns, propagation))
        if not missing:
            return proven
        if isinstance(look, Text):
            raise _not_to_be_had(missing, look)
        raise _missing([(one, missing[one.name]) for one in looked if one.name in missing])

    def _look(self) -> PersistLook | Text:
        """Return what looks for the records, or why there can be none."""
        offer = self._offer()
        if offer is None:
            return NOT_OFFERED
        holder = holder_in(self._state, self._directory)
        if holder is None:
            return NO_ACCOUNT
        return PersistLook(offer, holder, self._resolvers, self._now)

    def _offer(self) -> Offer | None:
        # Several at once may read it: behind a lock, each would wait for a CA that is silent.
        if not self._known:
            self._known.append(self._read_offer())
        return self._known[0]


def _not_to_be_had(missing: dict[str, ZoneNotFound], why: Text) -> RecordMissing:
    name, problem = next(iter(missing.items()))
    said = Text("{one}; {other}", one=problem.message, other=why)
    make = MAKE_ACCOUNT.filled(name=name)
    return RecordMissing(said, hint=problem.hint if why is NOT_OFFERED else make)


def _missing(found: Sequence[tuple[Looked, ZoneNotFound]]) -> DnsError:
    """Tell all of it at once: each record is set by hand."""
    [(_, problem), *_] = found
    said = problem.message
    for one, _ in found:
        said = Text("{one}; {other}", one=said, other=one.why)
    for one, _ in found:
        if isinstance(one.found, DnsError):
            return type(one.found)(said, hint=one.found.hint, retry=one.found.retry)
    records = [one.record.as_zone_line for one, _ in found]
    return RecordMissing(said, hint=SET_RECORD.filled(record="\n".join(records)))


ENDS_SOON = timedelta(days=30)
"""Before then an operator who sets records by hand wants to know."""


def findings_of(
    looked: Iterable[Looked], spare: Collection[str], now: datetime
) -> Iterator[Problem]:
    """Tell what each record is worth. The names of `spare`, without `*.`, can be proven by an
    account as well: for them nothing fails.
    """
    for one in looked:
        yield _finding(one, _weight(one.name in spare), now)


def without_records(
    names: Collection[str], spare: Collection[str], offer: Offer | None, holder: Holder | None
) -> Iterator[Problem]:
    """Tell why no record can prove a name: the CA does not offer it, or there is no account."""
    for name in dict.fromkeys(map(base_name, names)) if offer is None or holder is None else ():
        if offer is None:
            fix = Text("name the account that has the zone as `dns` of the certificate")
            code, message = Code.DNS_PERSIST_NOT_OFFERED, NOT_OFFERED
        else:
            code, message, fix = (
                Code.DNS_PERSIST_MISSING,
                NO_ACCOUNT,
                MAKE_ACCOUNT.filled(name=name),
            )
        yield Problem(code, message, fix, _weight(name in spare), name)


def _weight(is_spare: bool) -> Severity:  # noqa: FBT001 - a yes or no about the name
    return Severity.WARNING if is_spare else Severity.ERROR


def _finding(one: Looked, weight: Severity, now: datetime) -> Problem:
    found, name, place = one.found, one.name, one.record.name
    if isinstance(found, DnsError):
        return found.problem(name, Severity.WARNING, Code.NOT_LOOKED_AT)
    fix = SET_RECORD.filled(record=one.record.as_zone_line)
    if found.fault is not None:
        missing = found.fault is Fault.MISSING
        code = Code.DNS_PERSIST_MISSING if missing else Code.DNS_PERSIST_WRONG
        return Problem(code, one.why, fix, weight, name)
    if found.until is None:
        message = Text(
            "the record at {place} proves it for ever (dns-persist-01, experimental)", place=place
        )
        return info(Code.DNS_PERSIST, name, message)
    message = Text(
        "the record at {place} proves it until {moment} (dns-persist-01, experimental)",
        place=place,
        moment=found.until,
    )
    if found.until - now > ENDS_SOON:
        return info(Code.DNS_PERSIST, name, message)
    return warning(Code.DNS_PERSIST_ENDS, name, message, fix)
