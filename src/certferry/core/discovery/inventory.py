"""The inventory of accounts: the domains and certificates there, joined with declarations, stored
records, and the certificates at the edges (the addresses of a domain).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from types import MappingProxyType

from msgspec import Struct, field

from certferry.core.certificates.names import WILDCARD
from certferry.core.desired.certificate import DesiredCertificate, HttpsSettings, Kind
from certferry.core.observed.inferred import Owner, UploadOwners
from certferry.core.observed.observation import Served
from certferry.core.planning.planner import Claims
from certferry.errors import CertferryError, Problem, Severity
from certferry.text import Text
from certferry.values import replace


class FoundDomain(Struct, frozen=True):
    """A domain as listed by a target."""

    domain: str  #: The domain's name.
    kind: Kind  #: The domain's kind.
    #: Whether HTTPS is on; `False` also if the target hides whether a certificate is bound.
    has_https: bool = False
    not_after: datetime | None = None  #: The end of the bound certificate, if listed.
    #: Why the domain cannot be changed.
    problem: CertferryError | None = None
    #: Whether the domain takes a certificate of its own. Other domains use another domain's
    #: certificate (a wildcard's, for example), or stay without HTTPS.
    by_itself: bool = True
    #: The remote id of the bound certificate.
    bound: str | None = None
    #: Whether the CDN itself issued the bound certificate. The target's list lacks such a
    #: certificate.
    is_free: bool = False
    #: Whether the target hides the bound certificate.
    binding_hidden: bool = False
    #: The domain's state in the target's own word.
    state: str | None = None
    https: HttpsSettings = field(default_factory=HttpsSettings)  #: The HTTPS settings.
    #: Why the last change failed.
    failure: CertferryError | None = None


class FoundCertificate(Struct, frozen=True):
    """A certificate as listed by a target."""

    remote_id: str  #: The target's id of the certificate.
    #: The certificate's name at the target; empty if the target has no names for certificates.
    label: str = ""
    #: The names in the certificate; `None` if the list lacks the names.
    names: tuple[str, ...] | None = None
    not_after: datetime | None = None  #: The end of validity, if listed.


class Survey(Struct, frozen=True):
    """The domains and certificates of a target, as far as the target could be read."""

    domains: tuple[FoundDomain, ...]  #: The domains.
    #: Errors of the unread parts.
    unread: tuple[CertferryError, ...] = ()
    certificates: tuple[FoundCertificate, ...] = ()  #: The certificates in the target's list.


class FoundZone(Struct, frozen=True):
    """A zone of a DNS account."""

    name: str  #: The zone's name, in A-labels.
    #: Why records cannot be written into the zone.
    problem: Text | None = None


SOON = timedelta(days=30)
"""If no declaration serves a domain, a bound certificate that ends within this time needs a
person.
"""


_NEVER = datetime.max.replace(tzinfo=UTC)


class Urgency(IntEnum):
    """How soon a domain needs a person: lower numbers sooner."""

    BROKEN = 0  #: The certificate has expired, or clients refuse the certificate.
    TROUBLED = 1  #: The domain cannot be changed, or the last change failed.
    ENDING = 2  #: No declared certificate serves the domain, and the bound certificate ends `SOON`.
    UNCOVERED = 3  #: No declared certificate serves the domain.
    IN_ORDER = 4  #: Nothing to do.


class Bound(Struct, frozen=True):
    """The certificate bound to a domain; `None` for unknown facts."""

    owner: Owner | None  #: The certificate's owner.
    remote_id: str | None = None  #: The target's id of the certificate.
    fingerprint: str | None = None  #: The certificate's fingerprint.
    names: tuple[str, ...] | None = None  #: The names in the certificate.
    not_after: datetime | None = None  #: The end of validity.


class DiscoveredDomain(Struct, frozen=True):
    """A domain of an account, joined with declared and served certificates."""

    account: str  #: The account's name.
    listed: FoundDomain  #: The domain as listed.
    #: The bound certificate, if known.
    bound: Bound | None = None
    #: The declared lineages that cover the domain, `deployed_by` first.
    covered_by: tuple[str, ...] = ()
    #: The declared lineage that serves the domain.
    deployed_by: str | None = None
    #: The certificates at the edges; empty without HTTPS.
    served: tuple[Served, ...] = ()

    @property
    def is_uncovered(self) -> bool:
        """Whether the domain takes a certificate of its own, and no declared lineage covers the
        domain.
        """
        return self.listed.by_itself and not self.covered_by

    @property
    def problem(self) -> CertferryError | None:
        """Why the domain cannot be changed, or why the last change failed."""
        return self.listed.problem or self.listed.failure

    @property
    def owner(self) -> Owner | None:
        """The owner of the bound certificate; `None` if unknown."""
        return None if self.bound is None else self.bound.owner

    @property
    def not_after(self) -> datetime | None:
        """The first end among the bound and the served certificates."""
        ends = [self.bound.not_after if self.bound else self.listed.not_after]
        ends += [address.not_after for address in self.served if address.answered]
        return min((end for end in ends if end is not None), default=None)

    def urgency(self, now: datetime) -> Urgency:
        """Return how soon the domain needs a person, by the rules in `Urgency`."""
        end = self.not_after
        refused = any(address.answered and not address.valid for address in self.served)
        if refused or (end is not None and end <= now):
            return Urgency.BROKEN
        if self.problem is not None and self.listed.by_itself:
            return Urgency.TROUBLED
        if not self.listed.by_itself or self.deployed_by is not None:
            return Urgency.IN_ORDER
        return Urgency.ENDING if end is not None and end <= now + SOON else Urgency.UNCOVERED


class DiscoveredCertificate(Struct, frozen=True):
    """A certificate of an account, joined with the state's records."""

    account: str  #: The account's name.
    listed: FoundCertificate  #: The certificate as listed.
    owner: Owner  #: The certificate's owner.
    #: The certificate's fingerprint; `None` if the state does not know the certificate.
    fingerprint: str | None = None
    #: The account's domains bound to the certificate.
    bound_to: tuple[str, ...] = ()


class Wanted(Struct, frozen=True):
    """The filters of `certferry discover`. A domain or a certificate must match all of them."""

    #: Only domains without a declared certificate, and certificates bound to such domains.
    uncovered: bool = False
    #: Only certificates of other tools.
    foreign: bool = False
    #: Only certificates that end within this time.
    expiring: timedelta | None = None

    def has(self, owner: Owner | None, end: datetime | None, now: datetime) -> bool:
        """Return whether a certificate's owner and end match the filters."""
        if self.foreign and owner is not Owner.FOREIGN:
            return False
        return self.expiring is None or (end is not None and end <= now + self.expiring)


class AccountSurvey(Struct, frozen=True):
    """The survey of one account, with the certificates at the edges."""

    #: The account's name in the configuration.
    label: str
    survey: Survey = field(default_factory=lambda: Survey(()))  #: The survey; empty with `failure`.
    #: The certificates at the addresses of each domain.
    served: Mapping[str, tuple[Served, ...]] = field(default_factory=dict)
    #: Why the account could not be read at all.
    failure: CertferryError | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problem of an unread account, or the problems of unread parts.

        A part closed to the keys for good is only a warning, because a later run cannot read the
        part either.
        """
        if self.failure is not None:
            return (self.failure.problem(self.label),)
        return tuple(
            error.problem(self.label, Severity.ERROR if error.retry.allowed else Severity.WARNING)
            for error in self.survey.unread
        )


class Discovery(Struct, frozen=True):
    """The result of `discover`."""

    #: The surveyed accounts.
    accounts: tuple[AccountSurvey, ...]
    domains: tuple[DiscoveredDomain, ...] = ()  #: The domains, the most urgent first (`Urgency`).
    #: The certificates, the first to end first.
    certificates: tuple[DiscoveredCertificate, ...] = ()

    @property
    def unused(self) -> tuple[DiscoveredCertificate, ...]:
        """The certificates without a bound domain."""
        return tuple(certificate for certificate in self.certificates if not certificate.bound_to)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of unread parts, account by account."""
        return tuple(problem for account in self.accounts for problem in account.problems)

    def narrowed(self, wanted: Wanted, now: datetime) -> Discovery:
        """Return the discovery with only the domains and certificates that match the filters.

        With `uncovered`, only certificates bound to a returned domain stay.
        """
        domains = tuple(
            domain
            for domain in self.domains
            if (domain.is_uncovered or not wanted.uncovered)
            and wanted.has(domain.owner, domain.not_after, now)
        )
        shown = {(domain.account, domain.listed.bound) for domain in domains}
        certificates = tuple(
            certificate
            for certificate in self.certificates
            if (
                (certificate.account, certificate.listed.remote_id) in shown or not wanted.uncovered
            )
            and wanted.has(certificate.owner, certificate.listed.not_after, now)
        )
        return replace(self, domains=domains, certificates=certificates)


def discover(
    accounts: Sequence[AccountSurvey],
    declared: Sequence[DesiredCertificate],
    ledger: UploadOwners,
    now: datetime,
    elsewhere: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> Discovery:
    """Return the accounts' surveys, joined with the declarations and with the records in `ledger`.

    If another client makes a declared certificate, the caller fills in the names. `elsewhere` are
    domains of certificates declared on other hosts, as in `Claims`.
    """
    claims, lineages = Claims(declared, elsewhere), defaultdict[str, list[str]](list)
    for desired in declared:
        for name in desired.names:
            lineages[name].append(desired.lineage)
    domains, certificates = list[DiscoveredDomain](), list[DiscoveredCertificate]()
    for account in accounts:
        listed = {
            certificate.listed.remote_id: certificate
            for certificate in _certificates(account, ledger)
        }
        certificates += listed.values()
        for domain in account.survey.domains:
            served = account.served.get(domain.domain, ())
            # for a wildcard domain, `above` is the domain itself
            above = WILDCARD + domain.domain.partition(".")[2]
            # The domain serves a certificate of its own, or the wildcard domain's certificate.
            deciding = domain.domain if domain.by_itself else above
            owner = claims.owner(account.label, deciding, domain.kind)
            covering = (owner, *lineages.get(domain.domain, ()), *lineages.get(above, ()))
            covered_by = tuple(dict.fromkeys(filter(None, covering)))
            bound = _bound(account.label, domain, served, listed, ledger)
            domains.append(
                DiscoveredDomain(account.label, domain, bound, covered_by, owner, served)
            )
    return Discovery(
        tuple(accounts),
        tuple(sorted(domains, key=lambda domain: _sorting(domain, now))),
        tuple(sorted(certificates, key=lambda certificate: certificate.listed.not_after or _NEVER)),
    )


def _bound(
    account: str,
    domain: FoundDomain,
    served: Sequence[Served],
    listed: Mapping[str, DiscoveredCertificate],
    ledger: UploadOwners,
) -> Bound | None:
    if domain.bound is not None:
        certificate = listed.get(domain.bound)
        if certificate is None:
            fingerprint = ledger.fingerprint(account, domain.bound, "")
            owner = None if fingerprint is None else Owner.OURS
            return Bound(owner, domain.bound, fingerprint, not_after=domain.not_after)
        return Bound(
            certificate.owner,
            domain.bound,
            certificate.fingerprint,
            certificate.listed.names,
            certificate.listed.not_after,
        )
    # The fingerprint is known if all answering addresses present the same valid certificate.
    answered = [address for address in served if address.answered]
    is_one = len({address.fingerprint for address in answered}) == 1 and answered[0].valid
    fingerprint, end = (answered[0].fingerprint, answered[0].not_after) if is_one else (None, None)
    if domain.is_free:  # only the edges have the end of a free certificate
        return Bound(Owner.FREE, None, fingerprint, not_after=end)
    ours = None if fingerprint is None else ledger.issued(fingerprint)
    if ours is None or not domain.binding_hidden:
        return None
    remote_id = ledger.remote_id(account, ours.fingerprint)
    return Bound(Owner.OURS, remote_id, ours.fingerprint, ours.names, ours.not_after)


def _certificates(account: AccountSurvey, ledger: UploadOwners) -> Iterator[DiscoveredCertificate]:
    bound_to: defaultdict[str, list[str]] = defaultdict(list)
    for domain in account.survey.domains:
        if domain.bound is not None:
            bound_to[domain.bound].append(domain.domain)
    for listed in account.survey.certificates:
        yield DiscoveredCertificate(
            account=account.label,
            listed=listed,
            owner=ledger.owner(account.label, listed.remote_id, listed.label),
            fingerprint=ledger.fingerprint(account.label, listed.remote_id, listed.label),
            bound_to=tuple(sorted(bound_to[listed.remote_id])),
        )


def _sorting(domain: DiscoveredDomain, now: datetime) -> tuple[object, ...]:
    name = domain.listed.domain.split(".")[::-1]
    return (domain.urgency(now), domain.not_after or _NEVER, name, domain.account)
