"""The domains of an account whose lists show the bound certificates: cached lists, and the
observation of several parts of an account, such as two CDNs of one vendor.

A vendor supplies a `Part` for each product. A list is read again once too old for the number of
domains. A domain is read by itself if the list does not show the present binding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from math import inf
from typing import Protocol, TypeVar

from msgspec import Struct, field

from certferry.adapters.cdn.caches import LIST_AGE, Clock, TtlCache
from certferry.adapters.cdn.copies import StoredCertificate
from certferry.adapters.cdn.failure import CallFailure, attempt, rejected, with_hint
from certferry.core.desired.certificate import HttpsSettings, Kind
from certferry.core.discovery.inventory import FoundDomain
from certferry.core.observed.observation import (
    DomainState,
    ObservedDomain,
    ObservedTarget,
    Scope,
)
from certferry.core.observed.records import TargetTask
from certferry.core.planning.choice import choose, searches
from certferry.errors import CertferryError, DeployError
from certferry.text import Text
from certferry.values import replace

DOMAINS_PER_SECOND = 40
"""A list may be a second old for every so many domains, so that reading lists leaves requests."""


class Entry(Struct, frozen=True):
    """A domain as a part of the account lists it."""

    name: str
    kind: Kind
    state: DomainState
    #: The state in the vendor's word.
    word: str = ""
    #: The ids of the certificates in force; several if the domain has keys of several kinds.
    bound: tuple[str, ...] = ()
    #: The ids named by a change in progress.
    coming: tuple[str, ...] = ()
    #: Whether HTTPS is on; `None` if only the certificates above say so.
    has_https: bool | None = None
    #: Whether the part hides the bound certificate.
    is_hidden: bool = False
    #: The end of the bound certificate; `None` if only the account's store has the end.
    ends: datetime | None = None
    https: HttpsSettings = field(default_factory=HttpsSettings)
    has_settings: bool = True
    #: Why the domain cannot be changed, or why the last change failed.
    problem: DeployError | None = None
    #: Whether the domain is switched off at the vendor.
    is_off: bool = False
    #: Whether the bound certificate is the vendor's own, without an id.
    is_free: bool = False
    #: The name that the domain's CNAME should point to, if known and well-formed.
    cname: str = ""
    #: Addresses of the domain's edges, if the part names any.
    edges: tuple[str, ...] = ()
    #: A digest that changes with the domain; only for parts whose lists omit certificates.
    sign: str = ""


Entries = Mapping[str, Entry]
Stored = Mapping[str, StoredCertificate]
"""The certificates in the account's store, by id."""


class Part(Protocol):
    """A product with domains. Every method raises `CallFailure`."""

    @property
    def called(self) -> str:
        """The product's name for people."""

    @property
    def kind(self) -> Kind:
        """The `kind` of a deployment to this product alone."""

    def listed(self, names: Collection[str] | None) -> Entries:
        """Return at least the domains that certificates with these names may serve; every domain
        for `None`.
        """

    def read(self, entries: Entries, doubted: Collection[str], stored: Stored) -> Entries:
        """Return listed domains as bound now; absent domains are left out. `doubted` domains are
        read from the service.
        """


P = TypeVar("P", bound=Part)


def stale(entries: Entries, doubted: Collection[str]) -> set[str]:
    """Return the domains that are doubted or in change."""
    return {
        name
        for name, entry in entries.items()
        if name in doubted or entry.state is DomainState.PROCESSING
    }


def read_anew(entries: Entries, names: Collection[str], current: Entries) -> Entries:
    """Return the entries, with the `current` entries of `names`; absent domains are left out."""
    merged = {name: (current if name in names else entries).get(name) for name in entries}
    return {name: entry for name, entry in merged.items() if entry is not None}


class EntryCache(TtlCache[dict[str, Entry]]):
    """A list of domains, and what later reads of single domains showed. Reading the list raises
    `CallFailure`.
    """

    def __init__(self, fetch: Callable[[], Iterable[Entry]], clock: Clock) -> None:
        super().__init__(lambda: {entry.name: entry for entry in fetch()}, inf, clock)

    def all(self) -> Entries:
        """Return the domains by name."""
        return dict(self.get(age=max(LIST_AGE, self.count / DOMAINS_PER_SECOND)))

    @property
    def count(self) -> int:
        """How many domains the last list had; zero after `forget`."""
        return 0 if self.cached is None else len(self.cached[1])

    def note(self, names: Collection[str], entries: Entries) -> None:
        """Replace what is known of domains: domains without an entry are gone."""
        with self._lock:
            if self._cached is not None:
                asked, known = self._cached
                kept = {name: entry for name, entry in known.items() if name not in names}
                self._cached = (asked, {**kept, **entries})


class Wording(Struct, frozen=True):
    """A vendor's sentences about domains."""

    #: The vendor's name for people.
    service: Text
    failure: type[CallFailure]
    #: How to name a supported kind of domains.
    kinds: Text
    #: Returns the error for a domain that no part lists, if `kind` leaves no part out.
    no_such_domain: Callable[[str], DeployError]
    #: The name of the store of certificates.
    store: str
    #: The parts and the store that an account may lack.
    optional: frozenset[str]
    #: The finding on accepted reading calls, with the place `ways`.
    accepted: Text


class Places(dict[str, tuple[P, Entry]]):
    """The domains of several parts by name. A domain listed by several parts belongs to the first
    part that has it switched on.
    """

    def add(self, part: P, listed: Entries) -> None:
        """Add the domains of a part."""
        for name, entry in listed.items():
            if name not in self or (self[name][1].is_off and not entry.is_off):
                self[name] = (part, entry)


def not_of_kind(domain: str, kind: Kind) -> DeployError:
    """Return the error for a domain outside the parts of the deployment's `kind`. The other parts
    are unread, and may have the domain.
    """
    sentence = Text('the account has no domain {domain} of kind "{kind}"')
    hint = Text(
        "`kind` leaves the account's other product out: remove `kind`, or correct `domains`;"
        " `certferry discover` shows each domain with its kind"
    )
    return rejected(sentence, hint, domain=domain, kind=kind.value)


class ObservedParts:
    """The domains of one observation, sorted into lists by the constructor.

    The named domains come first, then the domains found by a search, in the order of the parts.
    Raises `CallFailure` if no part can be listed, if the unreadable parts may hide a wanted domain,
    or for a failure that any other call would share.
    """

    def __init__(
        self, scope: Scope, parts: Sequence[Part], wording: Wording, stored: Stored
    ) -> None:
        self._scope = scope
        self._wording = wording
        self._stored = stored
        #: Errors of parts that cannot be listed, where further domains may exist.
        self.unread: list[CertferryError] = []
        self._places = Places[Part]()
        self._list(parts)
        chosen = choose(scope, self._places)
        #: Domains excluded by the deployment.
        self.excluded = chosen.excluded
        #: Domains outside the certificate's names.
        self.uncovered = chosen.uncovered
        entries = self._read([*(scope.domains or ()), *chosen.wanted])
        wanted = [entries[name] for name in chosen.wanted if name in entries]
        #: The domains of the deployment: the named domains first.
        self.domains = [entries.get(name) or self._absent(name) for name in scope.domains or ()]
        self.domains += [entry for entry in wanted if not entry.is_off]
        #: Domains switched off at the vendor.
        self.left_out = [entry for entry in wanted if entry.is_off]

    def _list(self, parts: Sequence[Part]) -> None:
        failures, readable = dict[str, CallFailure](), list[Kind]()
        for part in parts:
            listed = attempt(partial(part.listed, self._scope.names), self._wording.failure)
            if not isinstance(listed, CallFailure):
                readable.append(part.kind)
                self._places.add(part, listed)
            elif listed.is_common:
                raise listed
            else:
                failures[part.called] = listed
        if failures and (not readable or not self._has_wanted()):
            raise next(iter(failures.values()))
        for called, failure in failures.items():
            hint = Text('set kind = "{kind}" for this deployment to leave {product} out')
            alone = hint.filled(kind=readable[0].value, product=called)
            # With several readable parts, `kind` would leave out a readable part too.
            is_alone = len(readable) == 1
            self.unread.append(with_hint(failure.error, alone) if is_alone else failure.error)

    def _has_wanted(self) -> bool:
        """Return whether every named domain is listed, and a search would find a domain."""
        scope = self._scope
        is_listed = all(domain in self._places for domain in scope.domains or ())
        return is_listed and (not searches(scope) or bool(choose(scope, self._places).wanted))

    def _read(self, wanted: Iterable[str]) -> Entries:
        """Return the wanted domains, except absent ones. All are doubted if the scope asks so."""
        by_part: dict[Part, dict[str, Entry]] = {}
        for name in wanted:
            if name in self._places:
                part, entry = self._places[name]
                by_part.setdefault(part, {})[name] = entry
        entries: dict[str, Entry] = {}
        for part, here in by_part.items():
            doubted = here if self._scope.anew else self._scope.doubted
            entries |= part.read(here, doubted, self._stored)
        return entries

    def _absent(self, domain: str) -> Entry:
        kind, problem = self._scope.kind, self._wording.no_such_domain(domain)
        if kind == Kind.AUTO:
            return Entry(domain, Kind.CDN, DomainState.UNAVAILABLE, problem=problem)
        return Entry(domain, kind, DomainState.UNAVAILABLE, problem=not_of_kind(domain, kind))

    def added_to(self, target: ObservedTarget, stored: Stored) -> ObservedTarget:
        """Add the domains to an observation that has the copies."""
        ours = {copy.remote_id for copy in target.remotes}
        return replace(
            target,
            domains=tuple(observe(entry, ours, stored) for entry in self.domains),
            excluded=tuple(self.excluded),
            left_out=tuple(observe(entry, ours, stored) for entry in self.left_out),
            uncovered=() if self.domains else tuple(dict.fromkeys(self.uncovered)),
            unread=tuple(dict.fromkeys((*self.unread, *target.unread))),
        )


def observe(entry: Entry, ours: Collection[str], stored: Stored) -> ObservedDomain:
    """Return the observation of a domain. Among several certificates, one of ours comes first."""
    bound = next((id_ for id_ in entry.bound if id_ in ours), next(iter(entry.bound), None))
    is_moving = entry.state in {DomainState.PROCESSING, DomainState.FAILED}
    return ObservedDomain(
        domain=entry.name,
        kind=entry.kind,
        state=entry.state,
        bound=bound,
        https=entry.https,
        problem=entry.problem,
        binding_hidden=entry.is_hidden and entry.state is not DomainState.UNAVAILABLE,
        has_settings=entry.has_settings,
        task=TargetTask(state=entry.word) if is_moving else None,
        bound_until=None if bound in ours else _end(entry, bound, stored),
        edges=entry.edges,
    )


def _end(entry: Entry, bound: str | None, stored: Stored) -> datetime | None:
    record = stored.get(bound or "")
    return entry.ends if record is None or entry.ends is not None else record.ends


def found_domain(entry: Entry, stored: Stored) -> FoundDomain:
    """Return a domain for a survey."""
    bound = next(iter(entry.bound), None)
    has_failed = entry.state is DomainState.FAILED
    has_https = bool(entry.bound or entry.coming or entry.is_free)
    return FoundDomain(
        entry.name,
        entry.kind,
        has_https=has_https if entry.has_https is None else entry.has_https,
        not_after=_end(entry, bound, stored),
        problem=None if has_failed else entry.problem,
        bound=bound,
        is_free=entry.is_free,
        binding_hidden=entry.is_hidden,
        state=entry.word or None,
        https=entry.https,
        failure=entry.problem if has_failed else None,
    )
