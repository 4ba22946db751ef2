"""What the accounts hold, joined with what is declared, stored, and served."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from types import MappingProxyType

from certferry.core.certificates.names import WILDCARD
from certferry.core.desired.certificate import DesiredCertificate, HttpsSettings, Kind
from certferry.core.observed.inferred import Owner, UploadOwners
from certferry.core.observed.observation import Served
from certferry.core.planning.planner import Claims
from certferry.errors import CertferryError, Problem, Severity
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class FoundDomain:
    """A domain of a target: `bound` is its certificate's remote id, `is_free` if the target's own,
    which is not listed. `problem`: why it cannot be changed; `failure`: why its last change failed.
    Unless `by_itself` it takes another's certificate, or none. `binding_hidden`: the target does
    not say what is bound, and without `has_https` not whether anything is.
    """

    domain: str
    kind: Kind
    has_https: bool = False
    not_after: datetime | None = None
    problem: CertferryError | None = None
    by_itself: bool = True
    bound: str | None = None
    is_free: bool = False
    binding_hidden: bool = False
    state: str | None = None
    https: HttpsSettings = field(default_factory=HttpsSettings)
    failure: CertferryError | None = None


@dataclass(frozen=True, slots=True)
class FoundCertificate:
    """A certificate as its target lists it: without `names`, perhaps, and an empty `label`."""

    remote_id: str
    label: str = ""
    names: tuple[str, ...] | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """The domains and the certificates of a target, as far as they are not `unread`."""

    domains: tuple[FoundDomain, ...]
    unread: tuple[CertferryError, ...] = ()
    certificates: tuple[FoundCertificate, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundZone:
    """A zone of a DNS account. `problem` says why no record can be written into it."""

    name: str
    problem: Text | None = None


SOON = timedelta(days=30)
"""A certificate that ends within this time, and that nothing declared replaces, needs a person."""


_NEVER = datetime.max.replace(tzinfo=UTC)


class Urgency(IntEnum):
    """What needs a person first: the lower, the sooner."""

    BROKEN = 0
    TROUBLED = 1
    ENDING = 2
    UNCOVERED = 3
    IN_ORDER = 4


@dataclass(frozen=True, slots=True)
class Bound:
    """What a domain is bound to, as far as it is known: perhaps not even its owner."""

    owner: Owner | None
    remote_id: str | None = None
    fingerprint: str | None = None
    names: tuple[str, ...] | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class DiscoveredDomain:
    """A domain of an account, with what it is `bound` to, if known. `covered_by` are declared
    lineages, first `deployed_by`, which serves it. Without HTTPS nothing is `served`.
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
    """The filters of `discover`; each narrows what the others leave."""

    uncovered: bool = False
    foreign: bool = False
    expiring: timedelta | None = None

    def has(self, owner: Owner | None, end: datetime | None, now: datetime) -> bool:
        """Return whether a certificate of this owner and end is meant."""
        if self.foreign and owner is not Owner.FOREIGN:
            return False
        return self.expiring is None or (end is not None and end <= now + self.expiring)


@dataclass(frozen=True, slots=True)
class AccountSurvey:
    """The survey of one account, and what the addresses of its domains serve; or its `failure`."""

    label: str
    survey: Survey = field(default_factory=lambda: Survey(()))
    served: Mapping[str, tuple[Served, ...]] = field(default_factory=dict)
    failure: CertferryError | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be read. What the keys may never see, no later run does: a warning."""
        if self.failure is not None:
            return (self.failure.problem(self.label),)
        return tuple(
            error.problem(self.label, Severity.ERROR if error.retry.allowed else Severity.WARNING)
            for error in self.survey.unread
        )


@dataclass(frozen=True, slots=True)
class Discovery:
    """Everything that was found; `accounts` are those that were read."""

    accounts: tuple[AccountSurvey, ...]
    domains: tuple[DiscoveredDomain, ...] = ()
    certificates: tuple[DiscoveredCertificate, ...] = ()

    @property
    def unused(self) -> tuple[DiscoveredCertificate, ...]:
        """The certificates that none of the domains is bound to."""
        return tuple(one for one in self.certificates if not one.bound_to)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be read, account by account."""
        return tuple(problem for account in self.accounts for problem in account.problems)

    def narrowed(self, wanted: Wanted, now: datetime) -> Discovery:
        """Apply the filters; with `uncovered`, keep only certificates of the domains shown."""
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


def discover(
    accounts: Sequence[AccountSurvey],
    declared: Sequence[DesiredCertificate],
    ledger: UploadOwners,
    now: datetime,
    elsewhere: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> Discovery:
    """Join it all: domains by urgency, certificates by end. Imported ones must have their names.
    Those that other hosts' files have are `elsewhere`, as in `Claims`.
    """
    claims, lineages = Claims(declared, elsewhere), defaultdict[str, list[str]](list)
    for desired in declared:
        for name in desired.names:
            lineages[name].append(desired.lineage)
    domains, certificates = list[DiscoveredDomain](), list[DiscoveredCertificate]()
    for account in accounts:
        listed = {one.found.remote_id: one for one in _certificates(account, ledger)}
        certificates += listed.values()
        for found in account.survey.domains:
            served = account.served.get(found.domain, ())
            above = WILDCARD + found.domain.partition(".")[2]  # itself, where it is a wildcard
            # It serves its own certificate, or that of its wildcard domain.
            deciding = found.domain if found.by_itself else above
            owner = claims.owner(account.label, deciding, found.kind)
            covering = (owner, *lineages.get(found.domain, ()), *lineages.get(above, ()))
            covered_by = tuple(dict.fromkeys(filter(None, covering)))
            bound = _bound(account.label, found, served, listed, ledger)
            domains.append(DiscoveredDomain(account.label, found, bound, covered_by, owner, served))
    return Discovery(
        tuple(accounts),
        tuple(sorted(domains, key=lambda one: _sorting(one, now))),
        tuple(sorted(certificates, key=lambda one: one.found.not_after or _NEVER)),
    )


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
    # What every address that answered presents, if that is one certificate.
    answered = [address for address in served if address.answered]
    is_one = len({address.fingerprint for address in answered}) == 1 and answered[0].valid
    fingerprint, end = (answered[0].fingerprint, answered[0].not_after) if is_one else (None, None)
    if found.is_free:  # no list has its end; the edges do
        return Bound(Owner.FREE, None, fingerprint, not_after=end)
    ours = None if fingerprint is None else ledger.issued(fingerprint)
    if ours is None or not found.binding_hidden:
        return None
    remote_id = ledger.remote_id(account, ours.fingerprint)
    return Bound(Owner.OURS, remote_id, ours.fingerprint, ours.names, ours.not_after)


def _certificates(account: AccountSurvey, ledger: UploadOwners) -> Iterator[DiscoveredCertificate]:
    bound_to: defaultdict[str, list[str]] = defaultdict(list)
    for domain in account.survey.domains:
        if domain.bound is not None:
            bound_to[domain.bound].append(domain.domain)
    for found in account.survey.certificates:
        yield DiscoveredCertificate(
            account=account.label,
            found=found,
            owner=ledger.owner(account.label, found.remote_id, found.label),
            fingerprint=ledger.fingerprint(account.label, found.remote_id, found.label),
            bound_to=tuple(sorted(bound_to[found.remote_id])),
        )


def _sorting(one: DiscoveredDomain, now: datetime) -> tuple[object, ...]:
    name = one.found.domain.split(".")[::-1]
    return (one.urgency(now), one.not_after or _NEVER, name, one.account)
