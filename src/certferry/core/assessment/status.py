"""How a lineage stands, with its domains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from certferry.core.assessment.health import Concern, Recorded
from certferry.core.assessment.notices import Notice, Subject
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
from certferry.core.planning import choice, rules
from certferry.core.planning.drift import drift_of, in_sentences, setting_changes
from certferry.core.planning.due import VERIFY_TIMEOUT, stuck_error, stuck_since
from certferry.core.planning.plan import Plan
from certferry.core.planning.planner import overdue, why_adopt
from certferry.core.planning.rollbacks import in_words, renewed_after_rollback
from certferry.core.planning.rollouts import why_deliver
from certferry.core.planning.steps import Due, HeldUntil
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import CertferryError
from certferry.problem import Problem, Severity
from certferry.text import Text

WHOLE_ACCOUNT = "*"
"""Stands for the domains of an account that could not be asked which they are, or of which none is
left to serve.
"""

_WHO_CHANGED_IT = Text(
    "find out who changed it; `certferry plan` tells whether the next run fixes it"
)


class Standing(StrEnum):
    """How one domain, or one certificate, stands."""

    # a domain
    VERIFIED = "verified"
    PROPAGATING = "propagating"
    PROCESSING = "processing"
    BOUND = "bound"
    PENDING = "pending"
    DRIFTED = "drifted"
    FAILED = "failed"
    UNKNOWN = "unknown"
    # a certificate
    VALID = "valid"
    DUE = "due"
    EXPIRED = "expired"
    MISSING = "missing"
    NOT_NEEDED = "not_needed"
    UNREADABLE = "unreadable"

    @property
    def severity(self) -> Severity:
        """How much it needs a person: an error, where the next run alone may not mend it; a
        warning, where the next run changes it, or leaves it as it was found; a notice while a
        change is in progress.
        """
        return _SEVERITIES.get(self, Severity.ERROR)


OF_DOMAINS = frozenset(list(Standing)[: list(Standing).index(Standing.VALID)])
"""How a domain can stand; the others are of certificates."""

_SEVERITIES = {
    **dict.fromkeys((Standing.VERIFIED, Standing.VALID, Standing.NOT_NEEDED), Severity.OK),
    **dict.fromkeys((Standing.PROPAGATING, Standing.PROCESSING, Standing.BOUND), Severity.NOTICE),
    **dict.fromkeys((Standing.PENDING, Standing.DRIFTED, Standing.DUE), Severity.WARNING),
}

_URGENT = frozenset({ReasonCode.OVERDUE, ReasonCode.REVOKED, ReasonCode.ISSUER_EXPIRED})
"""What another client should have renewed by now, no run of ours mends; what visitors' clients may
refuse already, must not wait for one.
"""


@dataclass(frozen=True, slots=True)
class LastFailure:
    """What the last try ended in, and when that was; `since` when tries have failed. Scheduled runs
    try again after `again_at`, where that is not at once.
    """

    problem: Problem
    since: datetime
    at: datetime
    again_at: datetime | None = None


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
    problem: Problem | None = None
    fingerprint: str | None = None
    ticket: tuple[Text, ...] = ()
    not_after: datetime | None = None
    last_failure: LastFailure | None = None
    is_uploaded: bool = False

    @property
    def severity(self) -> Severity:
        """How much it needs a person."""
        is_wrong = self.last_failure is not None or self.ticket
        return Severity.ERROR if is_wrong else self.standing.severity


@dataclass(frozen=True, slots=True)
class LineageStatus:
    """One lineage: its version in force, when it is renewed and why, its domains. `window` is the
    CA's own for it, where that decides. `until` is the first end of what its domains are to serve:
    that of the version in force, unless it was withdrawn. `problem` says why the files of another
    client's certificate cannot be read; then `version` is what was last taken from them. `notices`
    are what could not be read at a target beside its domains, settings that match nothing, and
    domains that are switched off at their target and that the file does not name.
    """

    lineage: str
    names: tuple[str, ...]
    version: Version | None
    renew_at: datetime | None
    reason: Reason | None
    domains: tuple[DomainStatus, ...]
    owned_elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notices: tuple[Concern, ...] = ()
    window: RenewalWindow | None = None
    standing: Standing = Standing.VALID
    until: datetime | None = None
    problem: Problem | None = None
    last_failure: LastFailure | None = None

    @property
    def severity(self) -> Severity:
        """How much the certificate, or one of its domains, needs a person."""
        is_urgent = self.reason is not None and self.reason.code in _URGENT
        is_wrong = self.last_failure is not None or is_urgent
        own = Severity.ERROR if is_wrong else self.standing.severity
        return max((own, *(one.severity for one in self.domains)), key=lambda one: one.rank)


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
    places = list(zip(desired.deployments, observed.targets, strict=True))
    domains = tuple(
        status
        for deployment, target in places
        for status in domains_of(deployment, target, observed.versions, now, timeout)
    )
    status = LineageStatus(
        lineage=desired.lineage,
        names=desired.names,
        version=current,
        renew_at=None if desired.files else _renew_at(observed, now),
        reason=_reason(desired, observed, now),
        domains=domains,
        owned_elsewhere=observed.owned_elsewhere,
        notices=tuple(_notices(desired.lineage, observed, places)),
        window=None
        if desired.files or current is None
        else plausible_window(current.certificate, current.window),
        until=_first_end(current, domains),
        problem=None if unreadable is None else unreadable.problem(),
    )
    return replace(status, standing=_standing_of(status, now))


def _notices(
    lineage: str,
    observed: Observation,
    places: Iterable[tuple[DesiredDeployment, ObservedTarget]],
) -> Iterator[Concern]:
    for deployment, target in places:
        for error in (*target.unread, *choice.remarks(deployment, target)):
            yield Concern(error.problem(), Subject(lineage, target.label))
    for one in choice.left_out(observed):
        yield Concern(one.problem, Subject(lineage, one.target or "", one.domain or ""))


def _first_end(current: Version | None, domains: tuple[DomainStatus, ...]) -> datetime | None:
    if current is None:
        return None
    ends = [one.not_after for one in domains if one.not_after is not None]
    return min(ends, default=current.certificate.not_after)


def _standing_of(status: LineageStatus, now: datetime) -> Standing:
    if status.problem is not None:
        return Standing.UNREADABLE
    if status.until is None:
        not_needed = status.owned_elsewhere and status.reason is None
        return Standing.NOT_NEEDED if not_needed else Standing.MISSING
    if status.until <= now:
        return Standing.EXPIRED
    return Standing.VALID if status.reason is None else Standing.DUE


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
    usual = rules.renew_at(observed, current)
    earlier = renewed_after_rollback(observed, current, now)
    return usual if earlier is None else min(usual, earlier)


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
        _with_ticket(_domain(deployment, target, domain, versions, now), domain, now, timeout)
        for domain in target.domains
    )
    unmatched = choice.unmatched_globs(deployment, target)
    return (*found, *(_unknown(deployment, pattern, error) for pattern, error in unmatched))


def _unknown(deployment: DesiredDeployment, name: str, error: CertferryError) -> DomainStatus:
    return DomainStatus(
        deployment.target, deployment.kind, name, Standing.UNKNOWN, problem=error.problem()
    )


def _with_ticket(
    status: DomainStatus, domain: ObservedDomain, now: datetime, timeout: timedelta
) -> DomainStatus:
    since = stuck_since(domain, now, timeout)
    if since is None or status.fingerprint is None:
        return status
    place = (status.target, domain)
    error = stuck_error(*place, since, now, served=status.served, fingerprint=status.fingerprint)
    return replace(status, problem=status.problem or error.problem(), ticket=error.ticket)


def _domain(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    versions: tuple[Version, ...],
    now: datetime,
) -> DomainStatus:
    version = version_for(domain.withdrawn, versions, now)
    standing = _standing(deployment, target, domain, version)
    status = DomainStatus(
        target=deployment.target,
        kind=domain.kind,
        domain=domain.domain,
        standing=standing,
        remote_id=domain.bound,
        served=target.served.get(domain.domain, ()),
        problem=_problem(deployment, target, domain, standing),
    )
    if version is None:
        return status
    certificate = version.certificate
    if standing is Standing.VERIFIED and versions[0].certificate.fingerprint in domain.withdrawn:
        # It serves the previous certificate on purpose; the lineage's row is about the newest.
        back = Problem(ReasonCode.ROLLED_BACK.value, in_words(version))
        status = replace(status, problem=back)
    return replace(
        status,
        upload_deadline=None
        if domain.kind.is_receiver
        else target.rules.upload_deadline(certificate),
        fingerprint=certificate.fingerprint,
        not_after=certificate.not_after,
        is_uploaded=target.remote_of(certificate.fingerprint) is not None,
    )


def _problem(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    standing: Standing,
) -> Problem | None:
    if domain.problem is not None:
        return domain.problem.problem()
    if domain.drift is not None:
        return Problem(domain.drift.reason.code.value, domain.drift.reason.message)
    if standing is Standing.DRIFTED and domain.kind.is_receiver and domain.bound is None:
        message = Text("the delivered certificate is gone; the next run delivers it again")
        return Problem(ReasonCode.DELIVERY_DRIFTED.value, message)
    drift = None if standing is Standing.VERIFIED else drift_of(deployment, target, domain, None)
    if drift is not None and drift.certificate:
        message = Text(
            "changed outside certferry: {id} is bound",
            id=short(domain.bound) if domain.bound else Text("nothing"),
        )
        return Problem("drifted", message, _WHO_CHANGED_IT)
    changes = setting_changes(deployment.https, domain)
    if standing is not Standing.DRIFTED or not changes:
        return None
    message = Text("settings differ from the file: {changes}", changes=in_sentences(changes))
    return Problem(ReasonCode.SETTINGS_DRIFTED.value, message, _WHO_CHANGED_IT)


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
    """Distinguish a certificate that is to come from one that was refused, and from one that came
    and is gone.
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


def with_failures(
    status: LineageStatus, recorded: Recorded, observed: Observation, plan: Plan
) -> LineageStatus:
    """Add what runs have left of trouble, and when what `plan` holds back is tried again. Where a
    domain is in order, nothing is.
    """
    troubles = recorded.troubles
    own = troubles.get(Subject(status.lineage))
    held = None if plan.issue is None else plan.issue.due
    return replace(
        status,
        last_failure=_failure(own, observed.remembered.issue_tried_at, held),
        domains=tuple(
            one
            if one.standing is Standing.VERIFIED
            else _with_failure(one, status.lineage, troubles, observed, plan)
            for one in status.domains
        ),
    )


def _with_failure(
    status: DomainStatus,
    lineage: str,
    troubles: Mapping[Subject, Notice],
    observed: Observation,
    plan: Plan,
) -> DomainStatus:
    """Add what the last try to bring a certificate to a domain ended in; of a whole target, where
    that is what failed.
    """
    place = (status.target, status.domain)
    notice = troubles.get(Subject(lineage, *place)) or troubles.get(Subject(lineage, status.target))
    found = observed.find(*place)
    tried_at = None if found is None or found[1].last is None else found[1].last.failed_at
    dues = (one.due for one in plan.rollouts if (one.target, one.domain) == place)
    held = next((due for due in dues if isinstance(due, HeldUntil)), None)
    return replace(status, last_failure=_failure(notice, tried_at, held))


def _failure(
    notice: Notice | None, tried_at: datetime | None, due: Due | None
) -> LastFailure | None:
    if notice is None:
        return None
    at = notice.since if tried_at is None else max(tried_at, notice.since)
    again_at = due.until if isinstance(due, HeldUntil) else None
    return LastFailure(notice.problem, notice.since, at, again_at)


_LAST = datetime.max.replace(tzinfo=UTC)


def are_in_order(statuses: Iterable[LineageStatus], recorded: Recorded) -> bool:
    """Whether nothing needs a person, and the state can be used. What is on its way, or is for the
    next run to change, is in order; a file that declares nothing is not.
    """
    found = [one.severity for one in statuses]
    return recorded.problem is None and bool(found) and Severity.ERROR not in found


def most_needed_first(statuses: Iterable[LineageStatus]) -> list[LineageStatus]:
    """Order certificates and the domains of each by how much they need a person, then by what ends
    first. What is alike stays in the order of the file.
    """
    ordered = sorted(statuses, key=lambda one: (-one.severity.rank, one.until or _LAST))
    return [
        replace(one, domains=tuple(sorted(one.domains, key=lambda d: -d.severity.rank)))
        for one in ordered
    ]
