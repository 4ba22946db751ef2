"""The domains of an account whose lists show the bound certificates: cached lists, and the
observation of several parts of an account, such as two CDNs of one vendor.

A vendor supplies a `Part` for each product. A list is read again once too old for the number of
domains; a domain in change, or doubted, is read by its name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

from msgspec import Struct, field

from certferry.adapters.cdn.caches import LIST_AGE, Clock
from certferry.adapters.cdn.copies import StoredCertificate
from certferry.adapters.cdn.failure import CallFailure, attempt, with_hint
from certferry.core.desired.certificate import HttpsSettings, Kind
from certferry.core.discovery.inventory import FoundCertificate, FoundDomain
from certferry.core.observed.observation import (
    DomainState,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
    Scope,
)
from certferry.core.observed.records import TargetTask
from certferry.core.planning.choice import choose, searches
from certferry.errors import CertferryError, DeployError
from certferry.text import Text

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
    https: HttpsSettings = field(default_factory=HttpsSettings)
    has_settings: bool = True
    #: Why the domain cannot be changed, or why the last change failed.
    problem: DeployError | None = None
    #: Whether the domain is switched off at the vendor.
    is_off: bool = False
    #: Whether the bound certificate is the vendor's own, without an id.
    is_free: bool = False
    #: The name that the domain's CNAME should point to.
    cname: str = ""


Entries = Mapping[str, Entry]


class Part(Protocol):
    """A product with domains. Every method raises `CallFailure`."""

    def listed(self, names: Collection[str] | None) -> Entries:
        """Return at least the domains that certificates with these names may serve; every domain
        for `None`.
        """

    def read(self, domains: Collection[str]) -> Entries:
        """Read domains from the service; absent domains are left out."""

    def in_change(self, domains: Iterable[str]) -> set[str]:
        """Return the domains whose last known state is a change in progress."""

    def forget(self) -> None:
        """Have the next caller list the domains again."""


class EntryCache:
    """A list of domains, and what later reads of single domains showed."""

    def __init__(self, fetch: Callable[[], Iterable[Entry]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._listed_at: float | None = None
        self._entries: dict[str, Entry] = {}

    def all(self) -> Entries:
        """Return the domains by name. Raises `CallFailure`."""
        with self._lock:
            age = max(LIST_AGE, len(self._entries) / DOMAINS_PER_SECOND)
            now = self._clock()
            if self._listed_at is None or now - self._listed_at >= age:
                self._entries = {entry.name: entry for entry in self._fetch()}
                self._listed_at = now
            return dict(self._entries)

    @property
    def count(self) -> int:
        """How many domains the last list had."""
        return len(self._entries)

    def note(self, names: Collection[str], entries: Entries) -> None:
        """Replace what is known of domains: domains without an entry are gone."""
        with self._lock:
            for name in names:
                self._entries.pop(name, None)
            self._entries.update(entries)

    def in_change(self, names: Iterable[str]) -> set[str]:
        """See `Part.in_change`."""
        with self._lock:
            entries = (self._entries.get(name) for name in names)
            return {e.name for e in entries if e is not None and e.state is DomainState.PROCESSING}

    def forget(self) -> None:
        """See `Part.forget`."""
        with self._lock:
            self._listed_at = None


class Wording(Struct, frozen=True):
    """A vendor's sentences for an observation."""

    failure: type[CallFailure]
    #: How to leave the other parts out of a deployment.
    one_part: Text
    #: Returns the error for a domain that no part lists.
    no_such_domain: Callable[[str], DeployError]


class ObservedParts:
    """The domains of one observation, sorted into lists by the constructor.

    A domain listed by several parts belongs to the first part that has it switched on. Raises
    `CallFailure` if no part can be listed, if the unreadable parts may hide a wanted domain, or for
    a failure that any other call would share.
    """

    def __init__(self, scope: Scope, parts: Sequence[Part], wording: Wording) -> None:
        self._scope = scope
        self._wording = wording
        #: Errors of parts that cannot be listed, where further domains may exist.
        self.unread: list[CertferryError] = []
        chosen = choose(scope, self._list(parts))
        #: Domains excluded by the deployment.
        self.excluded = chosen.excluded
        #: Domains outside the certificate's names.
        self.uncovered = chosen.uncovered
        self._read_anew([*(scope.domains or ()), *chosen.wanted])
        wanted = [self._entries[name] for name in chosen.wanted if name in self._entries]
        #: The domains of the deployment: the named domains first.
        self.domains = [self._named(name) for name in scope.domains or ()]
        self.domains += [entry for entry in wanted if not entry.is_off]
        #: Domains switched off at the vendor.
        self.left_out = [entry for entry in wanted if entry.is_off]

    def _list(self, parts: Sequence[Part]) -> Entries:
        scope, failures = self._scope, list[CallFailure]()
        self._parts: dict[str, Part] = {}
        self._entries: dict[str, Entry] = {}
        for part in parts:
            listed = attempt(partial(part.listed, scope.names), self._wording.failure)
            if isinstance(listed, CallFailure):
                if listed.is_common:
                    raise listed
                failures.append(listed)
                continue
            for name, entry in listed.items():
                if name not in self._entries or (self._entries[name].is_off and not entry.is_off):
                    self._entries[name], self._parts[name] = entry, part
        if failures and (len(failures) == len(parts) or not self._has_wanted()):
            raise failures[0]
        self.unread += (with_hint(failure.error, self._wording.one_part) for failure in failures)
        return self._entries

    def _has_wanted(self) -> bool:
        """Return whether every named domain is listed, and a search would find a domain."""
        scope = self._scope
        is_listed = all(domain in self._entries for domain in scope.domains or ())
        return is_listed and (not searches(scope) or bool(choose(scope, self._entries).wanted))

    def _read_anew(self, wanted: Sequence[str]) -> None:
        """Read the domains in change or doubted; every wanted domain if the scope asks so."""
        for part in set(self._parts.values()):
            here = {name for name in wanted if self._parts.get(name) is part}
            is_old = here if self._scope.anew else here & self._scope.doubted
            if stale := is_old | part.in_change(here):
                for name in stale:
                    del self._entries[name]
                self._entries |= part.read(stale)

    def _named(self, domain: str) -> Entry:
        if domain in self._entries:
            return self._entries[domain]
        kind = Kind.CDN if self._scope.kind == Kind.AUTO else self._scope.kind
        problem = self._wording.no_such_domain(domain)
        return Entry(domain, kind, DomainState.UNAVAILABLE, problem=problem)

    def observed(
        self, ours: Collection[RemoteCertificate], stored: Mapping[str, StoredCertificate]
    ) -> ObservedTarget:
        """Return the observation, without the copies."""
        ids = {copy.remote_id for copy in ours}
        return ObservedTarget(
            domains=tuple(observe(entry, ids, stored) for entry in self.domains),
            excluded=tuple(self.excluded),
            left_out=tuple(observe(entry, ids, stored) for entry in self.left_out),
            uncovered=() if self.domains else tuple(dict.fromkeys(self.uncovered)),
            unread=tuple(dict.fromkeys(self.unread)),
        )


def observe(
    entry: Entry, ours: Collection[str], stored: Mapping[str, StoredCertificate]
) -> ObservedDomain:
    """Return the observation of a domain. Among several certificates, one of ours comes first."""
    bound = next((id_ for id_ in entry.bound if id_ in ours), next(iter(entry.bound), None))
    record = stored.get(bound or "")
    is_moving = entry.state in {DomainState.PROCESSING, DomainState.FAILED}
    return ObservedDomain(
        domain=entry.name,
        kind=entry.kind,
        state=entry.state,
        bound=bound,
        https=entry.https,
        problem=entry.problem,
        has_settings=entry.has_settings,
        task=TargetTask(state=entry.word) if is_moving else None,
        bound_until=None if record is None or bound in ours else record.ends,
    )


def found_domains(
    entries: Iterable[Entry], stored: Mapping[str, StoredCertificate]
) -> Iterator[FoundDomain]:
    """Yield the domains for a survey, each with the end of the bound certificate."""
    for entry in entries:
        bound = next(iter(entry.bound), None)
        record = stored.get(bound or "")
        has_failed = entry.state is DomainState.FAILED
        yield FoundDomain(
            entry.name,
            entry.kind,
            has_https=bool(entry.bound or entry.coming or entry.is_free),
            not_after=None if record is None else record.ends,
            problem=None if has_failed else entry.problem,
            bound=bound,
            is_free=entry.is_free,
            state=entry.word or None,
            https=entry.https,
            failure=entry.problem if has_failed else None,
        )


def found_certificates(stored: Iterable[StoredCertificate]) -> Iterator[FoundCertificate]:
    """Yield the certificates for a survey."""
    for record in stored:
        yield FoundCertificate(record.remote_id, record.label, record.shown_names, record.ends)
