"""What the accounts hold, joined with what is declared, what is remembered, and what is served."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum

from certferry.core.certificates.names import WILDCARD, is_wildcard
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.discovery.survey import FoundCertificate, FoundDomain, Survey
from certferry.core.observed.inferred import Owner, UploadOwners
from certferry.core.observed.observation import Served
from certferry.core.planning.rollouts import Claims
from certferry.errors import CertferryError
from certferry.problem import Problem, Severity

SOON = timedelta(days=30)
"""A certificate that ends within this time, and that nothing declared replaces, needs a person."""


class Urgency(IntEnum):
    """What needs a person first: the lower, the sooner."""

    BROKEN = 0
    TROUBLED = 1
    ENDING = 2
    UNCOVERED = 3
    IN_ORDER = 4


@dataclass(frozen=True, slots=True)
class Bound:
    """What a domain is bound to, as far as it is known: of what the target does not list, not even
    the owner may be.
    """

    owner: Owner | None
    remote_id: str | None = None
    fingerprint: str | None = None
    names: tuple[str, ...] | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class DiscoveredDomain:
    """A domain of an account. `bound` is `None` without a certificate, and where none is told.

    `covered_by` are the declared lineages whose names cover it, first the one that is to serve it,
    which is `deployed_by`. Without HTTPS nothing is `served`.
    """

    account: str
    found: FoundDomain
    bound: Bound | None = None
    covered_by: tuple[str, ...] = ()
    deployed_by: str | None = None
    served: tuple[Served, ...] = ()

    @property
    def is_uncovered(self) -> bool:
        """Whether a certificate could be declared for it, and none is."""
        return self.found.by_itself and not self.covered_by

    @property
    def problem(self) -> CertferryError | None:
        """Why it cannot be changed, or what its last change failed of."""
        return self.found.problem or self.found.failure

    @property
    def owner(self) -> Owner | None:
        """Whose certificate it is bound to."""
        return None if self.bound is None else self.bound.owner

    @property
    def not_after(self) -> datetime | None:
        """When the first certificate that it is bound to, or serves, ends."""
        ends = [self.bound.not_after if self.bound else self.found.not_after]
        ends += [address.not_after for address in self.served if address.answered]
        return min((end for end in ends if end is not None), default=None)

    def urgency(self, now: datetime) -> Urgency:
        """Judge how soon a person should look at it."""
        end = self.not_after
        refused = any(address.answered and not address.valid for address in self.served)
        if refused or (end is not None and end <= now):
            return Urgency.BROKEN
        if self.problem is not None and self.found.by_itself:
            return Urgency.TROUBLED
        if not self.found.by_itself or self.deployed_by is not None:
            return Urgency.IN_ORDER
        return Urgency.ENDING if end is not None and end <= now + SOON else Urgency.UNCOVERED


@dataclass(frozen=True, slots=True)
class DiscoveredCertificate:
    """A certificate of an account, and the domains there that are bound to it."""

    account: str
    found: FoundCertificate
    owner: Owner
    fingerprint: str | None = None
    bound_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters of `discover`: only domains that no declared certificate covers, only what is
    foreign, only what ends within so long. Each narrows what the others leave.
    """

    uncovered: bool = False
    foreign: bool = False
    expiring: timedelta | None = None

    def has(self, owner: Owner | None, end: datetime | None, now: datetime) -> bool:
        """Tell whether a certificate of this owner and end is meant."""
        if self.foreign and owner is not Owner.FOREIGN:
            return False
        return self.expiring is None or (end is not None and end <= now + self.expiring)


@dataclass(frozen=True, slots=True)
class AccountLook:
    """What a look at one account gave: its survey, and what the addresses of its domains serve, or
    why there is none.
    """

    label: str
    survey: Survey = field(default_factory=lambda: Survey(()))
    served: Mapping[str, tuple[Served, ...]] = field(default_factory=dict)
    failure: CertferryError | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be looked at, the whole account or a part of it. A part that these keys
        may not see, or that is not there for them, is no failure: a later look sees no more.
        """
        if self.failure is not None:
            return (self.failure.problem(self.label),)
        return tuple(
            error.problem(self.label, Severity.ERROR if error.retry.allowed else Severity.WARNING)
            for error in self.survey.unread
        )


@dataclass(frozen=True, slots=True)
class Discovery:
    """Everything that was found; `accounts` are those that were looked at."""

    accounts: tuple[AccountLook, ...]
    domains: tuple[DiscoveredDomain, ...] = ()
    certificates: tuple[DiscoveredCertificate, ...] = ()

    @property
    def unused(self) -> tuple[DiscoveredCertificate, ...]:
        """The certificates that none of the domains is bound to."""
        return tuple(one for one in self.certificates if not one.bound_to)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be looked at, account by account."""
        return tuple(problem for look in self.accounts for problem in look.problems)

    def narrowed(self, wanted: Wanted, now: datetime) -> Discovery:
        """Keep what the filters leave. Where it is only about domains that are not covered, the
        certificates are those that these are bound to.
        """
        domains = tuple(
            one
            for one in self.domains
            if (one.is_uncovered or not wanted.uncovered)
            and wanted.has(one.owner, one.not_after, now)
        )
        shown = {(one.account, one.found.bound) for one in domains}
        certificates = tuple(
            one
            for one in self.certificates
            if ((one.account, one.found.remote_id) in shown or not wanted.uncovered)
            and wanted.has(one.owner, one.found.not_after, now)
        )
        return replace(self, domains=domains, certificates=certificates)


class _Coverage:
    """Which declared certificates cover a domain: found at once, with one or with thousands."""

    def __init__(self, declared: Iterable[DesiredCertificate]) -> None:
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for desired in declared:
            for name in desired.names:
                self._by_name[name].append(desired.lineage)

    def of(self, domain: str) -> Iterator[str]:
        yield from self._by_name.get(domain, ())
        if not is_wildcard(domain):
            _, _, parent = domain.partition(".")
            yield from self._by_name.get(WILDCARD + parent, ())


def discover(
    looks: Sequence[AccountLook],
    declared: Sequence[DesiredCertificate],
    ledger: UploadOwners,
    now: datetime,
) -> Discovery:
    """Join it all. The names of ferried certificates must have been filled in. Domains come with
    what needs a person first, certificates with what ends first.
    """
    coverage, claims = _Coverage(declared), Claims(declared)
    domains, certificates = list[DiscoveredDomain](), list[DiscoveredCertificate]()
    for look in looks:
        listed = {one.found.remote_id: one for one in _certificates(look, ledger)}
        certificates += listed.values()
        for found in look.survey.domains:
            served = look.served.get(found.domain, ())
            owner = claims.owner(look.label, _deciding(found), found.kind)
            covering = dict.fromkeys([*([owner] if owner else ()), *coverage.of(found.domain)])
            bound = _bound(look.label, found, served, listed, ledger)
            domains.append(
                DiscoveredDomain(look.label, found, bound, tuple(covering), owner, served)
            )
    return Discovery(
        tuple(looks),
        tuple(sorted(domains, key=lambda one: _sorting(one, now))),
        tuple(sorted(certificates, key=lambda one: _ends_first(one.found.not_after))),
    )


def _deciding(found: FoundDomain) -> str:
    """Return the domain whose certificate it serves: its own, or that of its wildcard domain."""
    return found.domain if found.by_itself else WILDCARD + found.domain.partition(".")[2]


def _bound(
    account: str,
    found: FoundDomain,
    served: Sequence[Served],
    listed: Mapping[str, DiscoveredCertificate],
    ledger: UploadOwners,
) -> Bound | None:
    if found.bound is not None:
        one = listed.get(found.bound)
        if one is None:
            fingerprint = ledger.fingerprint(account, found.bound, "")
            owner = None if fingerprint is None else Owner.OURS
            return Bound(owner, found.bound, fingerprint, not_after=found.not_after)
        return Bound(one.owner, found.bound, one.fingerprint, one.found.names, one.found.not_after)
    seen = _served_by_all(served)
    if found.is_free:
        # No list tells its end; the edges do, where all of them present one certificate.
        fingerprint = None if seen is None else seen.fingerprint
        return Bound(
            Owner.FREE, None, fingerprint, not_after=None if seen is None else seen.not_after
        )
    ours = None if seen is None or seen.fingerprint is None else ledger.issued(seen.fingerprint)
    if ours is None or not found.binding_hidden:
        return None
    remote_id = ledger.remote_id(account, ours.fingerprint)
    return Bound(Owner.OURS, remote_id, ours.fingerprint, ours.names, ours.not_after)


def _served_by_all(served: Sequence[Served]) -> Served | None:
    """Return what every address that answered presents, if that is one certificate."""
    answered = [address for address in served if address.answered]
    if len({address.fingerprint for address in answered}) != 1:
        return None
    return answered[0] if answered[0].valid else None


def _certificates(look: AccountLook, ledger: UploadOwners) -> Iterator[DiscoveredCertificate]:
    bound_to: defaultdict[str, list[str]] = defaultdict(list)
    for domain in look.survey.domains:
        if domain.bound is not None:
            bound_to[domain.bound].append(domain.domain)
    for found in look.survey.certificates:
        yield DiscoveredCertificate(
            account=look.label,
            found=found,
            owner=ledger.owner(look.label, found.remote_id, found.label),
            fingerprint=ledger.fingerprint(look.label, found.remote_id, found.label),
            bound_to=tuple(sorted(bound_to[found.remote_id])),
        )


def _sorting(one: DiscoveredDomain, now: datetime) -> tuple[object, ...]:
    name = one.found.domain.split(".")[::-1]
    return (one.urgency(now), *_ends_first(one.not_after), name, one.account)


def _ends_first(end: datetime | None) -> tuple[bool, float]:
    return (end is None, 0.0 if end is None else end.timestamp())
