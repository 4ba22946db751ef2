"""How a lineage stands, with its domains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum

from certferry.core.assessment.notices import Notice, Subject
from certferry.core.assessment.trouble import (
    LastFailure,
    Trouble,
    Troubles,
    failure_at_domain,
    failure_of_lineage,
)
from certferry.core.certificates.certificate import short
from certferry.core.certificates.lineage import Version, version_for
from certferry.core.certificates.renewal import RenewalWindow, plausible_window
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.observed.observation import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
    Served,
    is_served,
)
from certferry.core.observed.records import LastRun
from certferry.core.planning import choice as unmatched
from certferry.core.planning import rules
from certferry.core.planning import rules as at_once
from certferry.core.planning.drift import drift_of, in_sentences, setting_changes
from certferry.core.planning.due import VERIFY_TIMEOUT, stuck_error, stuck_since
from certferry.core.planning.plan import Plan, PlanFinding
from certferry.core.planning.planner import overdue, why_adopt
from certferry.core.planning.report import Undeclared
from certferry.core.planning.rollbacks import in_words, renewed_after_rollback
from certferry.core.planning.rollouts import why_deliver
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import CertferryError
from certferry.text import Text

WHOLE_ACCOUNT = "*"
"""Stands for the domains of an account that could not be asked which they are, or of which none is
left to serve.
"""


_WHO_CHANGED_IT = Text(
    "find out who changed it; `certferry plan` tells whether the next run sets it right"
)


class Standing(StrEnum):
    """How one domain stands."""

    VERIFIED = "verified"
    PROPAGATING = "propagating"
    PROCESSING = "processing"
    BOUND = "bound"
    PENDING = "pending"
    DRIFTED = "drifted"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DomainStatus:
    """One domain at one target. `served` says of each address whether it presents the certificate
    with this `fingerprint`, which the domain is to serve until `not_after`, with a valid name and
    chain. `is_uploaded`: it is at the target already. `ticket` is what to send to the target's
    support.
    """

    target: str
    kind: Kind
    domain: str
    standing: Standing
    remote_id: str | None = None
    upload_deadline: datetime | None = None
    served: tuple[Served, ...] = ()
    problem: Trouble | None = None
    fingerprint: str | None = None
    ticket: tuple[Text, ...] = ()
    not_after: datetime | None = None
    last_failure: LastFailure | None = None
    is_uploaded: bool = False


def domains_of(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    versions: tuple[Version, ...],
    now: datetime,
    timeout: timedelta,
) -> tuple[DomainStatus, ...]:
    """Judge the domains of one deployment."""
    if target.failure is not None:
        named = (*(deployment.domains or ()), *deployment.globs) or (WHOLE_ACCOUNT,)
        return tuple(_unknown(deployment, name, target.failure) for name in named)
    found = (
        _with_ticket(
            _rolled_back(
                _domain(deployment, target, domain, version_for(domain.withdrawn, versions, now)),
                domain,
                versions,
            ),
            domain,
            now,
            timeout,
        )
        for domain in target.domains
    )
    in_vain = unmatched.unmatched_globs(deployment, target)
    return (*found, *(_unknown(deployment, pattern, error) for pattern, error in in_vain))


def _unknown(deployment: DesiredDeployment, name: str, error: CertferryError) -> DomainStatus:
    return DomainStatus(
        deployment.target, deployment.kind, name, Standing.UNKNOWN, problem=Trouble.of(error)
    )


def _with_ticket(
    status: DomainStatus, domain: ObservedDomain, now: datetime, timeout: timedelta
) -> DomainStatus:
    since = stuck_since(domain, now, timeout)
    if since is None or status.fingerprint is None:
        return status
    place = (status.target, domain)
    error = stuck_error(*place, since, now, served=status.served, fingerprint=status.fingerprint)
    return replace(status, problem=status.problem or Trouble.of(error), ticket=error.ticket)


def _rolled_back(
    status: DomainStatus, domain: ObservedDomain, versions: tuple[Version, ...]
) -> DomainStatus:
    """Say of a domain in order that it serves the previous certificate on purpose: the lineage's
    row tells of the newest.
    """
    is_back = (
        status.standing is Standing.VERIFIED
        and versions[0].certificate.fingerprint in domain.withdrawn
    )
    served = next((v for v in versions if v.certificate.fingerprint == status.fingerprint), None)
    if not is_back or served is None:
        return status
    return replace(status, problem=Trouble(ReasonCode.ROLLED_BACK.value, in_words(served)))


def _domain(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    current: Version | None,
) -> DomainStatus:
    deadline = None
    if current is not None and not domain.kind.is_receiver:
        deadline = target.rules.upload_deadline(current.certificate)
    standing = _standing(deployment, target, domain, current)
    return DomainStatus(
        target=deployment.target,
        kind=domain.kind,
        domain=domain.domain,
        standing=standing,
        remote_id=domain.bound,
        upload_deadline=deadline,
        served=target.served.get(domain.domain, ()),
        problem=_problem(domain) or _what_has_drifted(deployment, target, domain, standing),
        fingerprint=None if current is None else current.certificate.fingerprint,
        not_after=None if current is None else current.certificate.not_after,
        is_uploaded=current is not None
        and target.remote_of(current.certificate.fingerprint) is not None,
    )


def _problem(domain: ObservedDomain) -> Trouble | None:
    if domain.problem is not None:
        return Trouble.of(domain.problem)
    return None if domain.drift is None else Trouble.because(domain.drift.reason)


def _what_has_drifted(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    standing: Standing,
) -> Trouble | None:
    if standing is Standing.DRIFTED and domain.kind.is_receiver and domain.bound is None:
        message = Text("the delivered certificate is gone; the next run delivers it again")
        return Trouble(ReasonCode.DELIVERY_DRIFTED.value, message)
    drift = None if standing is Standing.VERIFIED else drift_of(deployment, target, domain, None)
    if drift is not None and drift.certificate:
        message = Text(
            "changed outside certferry: {id} is bound",
            id=short(domain.bound) if domain.bound else Text("nothing"),
        )
        return Trouble("drifted", message, _WHO_CHANGED_IT)
    changes = setting_changes(deployment.https, domain)
    if standing is not Standing.DRIFTED or not changes:
        return None
    message = Text("settings differ from the file: {changes}", changes=in_sentences(changes))
    return Trouble(ReasonCode.SETTINGS_DRIFTED.value, message, _WHO_CHANGED_IT)


def _standing(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    current: Version | None,
) -> Standing:
    if domain.state is DomainState.UNAVAILABLE:
        return Standing.UNKNOWN
    if domain.state is DomainState.PROCESSING:
        return Standing.PROCESSING
    bound = target.fingerprint_of(domain.bound)
    if current is not None and bound == current.certificate.fingerprint:
        return _standing_when_bound(deployment, target, domain, current)
    if domain.state is DomainState.FAILED:
        return Standing.FAILED
    if drift_of(deployment, target, domain, current):
        return Standing.DRIFTED
    foreign = domain.bound is not None and bound is None
    if current is None:
        return Standing.PENDING
    if foreign and target.remote_of(current.certificate.fingerprint):
        return Standing.DRIFTED
    return _standing_before_it_came(domain, current)


def _standing_before_it_came(domain: ObservedDomain, current: Version) -> Standing:
    """Tell a certificate that is to come from one that was refused, and from one that came and is
    gone.
    """
    last = domain.last
    if last is None or last.fingerprint != current.certificate.fingerprint:
        return Standing.PENDING
    if last.failed_at is not None and last.verified_at is None:
        return Standing.FAILED
    gone = domain.kind.is_receiver and domain.bound is None and last.verified_at is not None
    return Standing.DRIFTED if gone else Standing.PENDING


def _standing_when_bound(
    deployment: DesiredDeployment, target: ObservedTarget, domain: ObservedDomain, current: Version
) -> Standing:
    if domain.kind.is_receiver:
        is_in_order = why_deliver(target, domain, current) is None
        return Standing.VERIFIED if is_in_order else Standing.DRIFTED
    addresses = target.served.get(domain.domain, ())
    if setting_changes(deployment.https, domain):
        return Standing.DRIFTED
    if is_served(addresses, current.certificate.fingerprint):
        return Standing.VERIFIED
    answered = any(address.answered for address in addresses)
    return Standing.PROPAGATING if answered else Standing.BOUND


class Condition(StrEnum):
    """How one certificate stands."""

    VALID = "valid"
    DUE = "due"
    EXPIRED = "expired"
    MISSING = "missing"
    NOT_NEEDED = "not_needed"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class LineageStatus:
    """One lineage: its version in force, when it is renewed and why, its domains. `window` is the
    CA's own for it, where that decides. `until` is the first end of what its domains are to serve:
    that of the version in force, unless it was withdrawn. `problem` says why the files of another
    client's certificate cannot be read; then `version` is what was last taken from them.
    """

    lineage: str
    names: tuple[str, ...]
    version: Version | None
    renew_at: datetime | None
    reason: Reason | None
    domains: tuple[DomainStatus, ...]
    owned_elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notices: tuple[tuple[str, CertferryError], ...] = ()
    """What could not be read at a target beside its domains, and what is excluded in vain."""
    left_out: tuple[PlanFinding, ...] = ()
    """Domains that are switched off at their target and that the file does not name."""
    window: RenewalWindow | None = None
    condition: Condition = Condition.VALID
    until: datetime | None = None
    problem: Trouble | None = None
    last_failure: LastFailure | None = None


@dataclass(frozen=True, slots=True)
class Remembering:
    """When runs ended, what is wrong with the state or its key file, the trouble of runs that is
    about no certificate, and what the file declares no more.
    """

    last_run: LastRun | None = None
    problem: Trouble | None = None
    troubles: tuple[Notice, ...] = ()
    undeclared: tuple[Undeclared, ...] = ()


def status_of(
    desired: DesiredCertificate,
    observed: Observation,
    now: datetime,
    timeout: timedelta = VERIFY_TIMEOUT,
    *,
    unreadable: CertferryError | None = None,
) -> LineageStatus:
    """Judge what was observed. `reason` is why a certificate would be issued now, if it would, or
    why another client's should have been renewed by now. A target that is at a change for longer
    than `timeout` is stuck. `unreadable` is why another client's files are.
    """
    current = observed.current
    status = LineageStatus(
        lineage=desired.lineage,
        names=desired.names,
        version=current,
        renew_at=None if desired.files else _renew_at(observed, now),
        reason=_reason(desired, observed, now),
        domains=tuple(
            status
            for deployment, target in zip(desired.deployments, observed.targets, strict=True)
            for status in domains_of(deployment, target, observed.versions, now, timeout)
        ),
        owned_elsewhere=observed.owned_elsewhere,
        notices=tuple(
            (target.label, error)
            for deployment, target in zip(desired.deployments, observed.targets, strict=True)
            for error in (*target.unread, *unmatched.remarks(deployment, target))
        ),
        left_out=tuple(unmatched.left_out(observed)),
        window=None if desired.files or current is None else _window(current),
        problem=None if unreadable is None else Trouble.of(unreadable),
    )
    until = _first_end(current, status.domains)
    return replace(status, until=until, condition=_condition(status, until, now))


def with_failures(
    status: LineageStatus, troubles: Troubles, observed: Observation, plan: Plan
) -> LineageStatus:
    """Add what runs have left of trouble, and when what `plan` holds back is tried again. Where a
    domain is in order, nothing is.
    """

    def with_failure(domain: DomainStatus) -> DomainStatus:
        if domain.standing is Standing.VERIFIED:
            return domain
        found = observed.find(domain.target, domain.domain)
        subject = Subject(status.lineage, domain.target, domain.domain)
        failure = failure_at_domain(subject, troubles, None if found is None else found[1], plan)
        return replace(domain, last_failure=failure)

    return replace(
        status,
        last_failure=failure_of_lineage(status.lineage, troubles, observed, plan),
        domains=tuple(map(with_failure, status.domains)),
    )


def _first_end(current: Version | None, domains: tuple[DomainStatus, ...]) -> datetime | None:
    if current is None:
        return None
    ends = [one.not_after for one in domains if one.not_after is not None]
    return min(ends, default=current.certificate.not_after)


def _condition(status: LineageStatus, until: datetime | None, now: datetime) -> Condition:
    if status.problem is not None:
        return Condition.UNREADABLE
    if until is None:
        not_needed = status.owned_elsewhere and status.reason is None
        return Condition.NOT_NEEDED if not_needed else Condition.MISSING
    if until <= now:
        return Condition.EXPIRED
    return Condition.VALID if status.reason is None else Condition.DUE


def _window(current: Version) -> RenewalWindow | None:
    return plausible_window(current.certificate, current.window)


def _reason(desired: DesiredCertificate, observed: Observation, now: datetime) -> Reason | None:
    if observed.is_owned_elsewhere:  # no certificate is ordered that has nothing to serve
        return None
    if desired.files is not None:
        return why_adopt(desired, observed) or overdue(desired, observed, now)
    return rules.first_violated(desired, observed, now)


def _renew_at(observed: Observation, now: datetime) -> datetime | None:
    current = observed.current
    if current is None:
        return None
    usual = at_once.renew_at(observed, current)
    earlier = renewed_after_rollback(observed, current, now)
    return usual if earlier is None else min(usual, earlier)


class Need(IntEnum):
    """How much a row needs a person, the most first."""

    MEND = 0
    """It has failed, and the next run alone may not mend it."""
    SOON = 1
    """The next run changes it, or leaves it as it was found."""
    WAIT = 2
    """A change is under way."""
    NOTHING = 3


_NEEDS = {
    Standing.VERIFIED: Need.NOTHING,
    Standing.PROPAGATING: Need.WAIT,
    Standing.PROCESSING: Need.WAIT,
    Standing.BOUND: Need.WAIT,
    Standing.PENDING: Need.SOON,
    Standing.DRIFTED: Need.SOON,
    Standing.FAILED: Need.MEND,
    Standing.UNKNOWN: Need.MEND,
}

_CONDITIONS = {
    Condition.VALID: Need.NOTHING,
    Condition.NOT_NEEDED: Need.NOTHING,
    Condition.DUE: Need.SOON,
    Condition.MISSING: Need.MEND,
    Condition.EXPIRED: Need.MEND,
    Condition.UNREADABLE: Need.MEND,
}

_URGENT = frozenset({ReasonCode.OVERDUE, ReasonCode.REVOKED, ReasonCode.ISSUER_EXPIRED})
"""What another client should have renewed by now, no run of ours mends; what visitors' clients may
refuse already, must not wait for one.
"""

_LAST = datetime.max.replace(tzinfo=UTC)


def need_of_domain(domain: DomainStatus) -> Need:
    """Tell how much one domain needs a person."""
    if domain.last_failure is not None or domain.ticket:
        return Need.MEND
    return _NEEDS[domain.standing]


def need_of_certificate(status: LineageStatus) -> Need:
    """Tell how much one certificate needs a person, whatever its domains do."""
    is_urgent = status.reason is not None and status.reason.code in _URGENT
    if status.last_failure is not None or is_urgent:
        return Need.MEND
    return _CONDITIONS[status.condition]


def need_of(status: LineageStatus) -> Need:
    """Tell how much a certificate and its domains need a person."""
    return min((need_of_certificate(status), *map(need_of_domain, status.domains)))


def are_in_order(statuses: Iterable[LineageStatus], remembering: Remembering) -> bool:
    """Tell whether nothing needs a person, and the state can be used. What is on its way, or is for
    the next run to change, is in order; a file that declares nothing is not.
    """
    needs = [need_of(one) for one in statuses]
    return remembering.problem is None and bool(needs) and Need.MEND not in needs


def most_needed_first(statuses: Iterable[LineageStatus]) -> list[LineageStatus]:
    """Order certificates and the domains of each by need, then by what ends first. What is alike
    stays in the order of the file.
    """
    ordered = sorted(statuses, key=lambda one: (need_of(one), one.until or _LAST))
    return [replace(one, domains=tuple(sorted(one.domains, key=need_of_domain))) for one in ordered]
