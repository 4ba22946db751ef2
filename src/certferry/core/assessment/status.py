"""The standing of a lineage and of each of its domains, as `certferry status` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from certferry.core.assessment.health import Concern, Recorded, by_share_of_life
from certferry.core.assessment.notices import Notice, Subject
from certferry.core.certificates.certificate import RenewalWindow, plausible_window, short
from certferry.core.certificates.lineage import Version, Versions, version_for
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.observed import observation
from certferry.core.planning import choice
from certferry.core.planning.deliveries import why_deliver
from certferry.core.planning.drift import drift_of, newer_of_ours, setting_changes
from certferry.core.planning.plan import HeldUntil, Plan, When
from certferry.core.planning.problems import stuck_error, stuck_since
from certferry.core.planning.renewal import due_at, overdue, why_order
from certferry.core.planning.report import UNDECLARED
from certferry.core.planning.rollbacks import in_words, renew_after_rollback
from certferry.core.planning.timing import VERIFY_TIMEOUT
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import CertferryError, Problem, Severity
from certferry.text import Text
from certferry.values import replace

WHOLE_ACCOUNT = "*"
"""Stands for all domains of an account, if the account could not be read, or `exclude` removes all
domains.
"""

_NEWEST_STATE = Text(
    "put the newest state back; `certferry plan` shows the steps refused until then"
)
_WHO_CHANGED_IT = Text(
    "find out who changed the domain; `certferry plan` shows whether the next run fixes it"
)


class Standing(StrEnum):
    """The standing of a domain, or of a certificate."""

    # a domain
    VERIFIED = "verified"  #: Every address that answers serves the certificate.
    PROPAGATING = "propagating"  #: Bound, and not served by every address that answers.
    PROCESSING = "processing"  #: The target is carrying out a change.
    BOUND = "bound"  #: Bound, and no address answers.
    PENDING = "pending"  #: Not bound yet.
    DRIFTED = "drifted"  #: Another tool changed the domain, or settings differ from the file.
    FAILED = "failed"  #: The last change failed.
    UNKNOWN = "unknown"  #: The domain cannot be read or judged.
    # a certificate
    VALID = "valid"  #: Valid, and not due for renewal.
    DUE = "due"  #: Due for renewal, or another reason to order.
    EXPIRED = "expired"  #: The certificate, or another that a domain should serve, has expired.
    MISSING = "missing"  #: There is no certificate yet.
    NOT_NEEDED = "not_needed"  #: Other lineages serve every domain, and there is no certificate.
    UNREADABLE = "unreadable"  #: The certificate's files or records cannot be read.

    @property
    def severity(self) -> Severity:
        """The severity: `OK` for a standing as declared, a notice for a change in progress, a
        warning for work of the next run and for drift, and an error for any other standing.
        """
        return _SEVERITIES.get(self, Severity.ERROR)


OF_DOMAINS = frozenset(list(Standing)[: list(Standing).index(Standing.VALID)])
"""The standings of domains; the others are for certificates."""

_SEVERITIES = {
    **dict.fromkeys((Standing.VERIFIED, Standing.VALID, Standing.NOT_NEEDED), Severity.OK),
    **dict.fromkeys((Standing.PROPAGATING, Standing.PROCESSING, Standing.BOUND), Severity.NOTICE),
    **dict.fromkeys((Standing.PENDING, Standing.DRIFTED, Standing.DUE), Severity.WARNING),
}

_URGENT = frozenset({ReasonCode.OVERDUE, ReasonCode.REVOKED, ReasonCode.ISSUER_EXPIRED})
"""The reasons for a renewal that make a person necessary: clients may refuse the certificate before
the next run, or only another client can renew.
"""


class LastFailure(Struct, frozen=True):
    """The failure of the last try."""

    problem: Problem  #: Why the try failed.
    #: Since when tries fail.
    since: datetime
    #: When the last try failed.
    at: datetime
    #: When the next try comes; `None` for the next run.
    again_at: datetime | None = None


class DomainStatus(Struct, frozen=True):
    """The standing of one domain at one target."""

    target: str  #: The account's name.
    kind: Kind  #: The domain's kind.
    domain: str  #: The domain's name, a pattern, or `WHOLE_ACCOUNT`.
    standing: Standing  #: How the domain stands.
    #: The target's id of the bound certificate.
    remote_id: str | None = None
    #: The last moment at which the target accepts an upload of the certificate.
    upload_deadline: datetime | None = None
    #: The answers of the domain's addresses.
    served: tuple[observation.Served, ...] = ()
    problem: Problem | None = None  #: Why the domain is not in order, or serves an earlier version.
    #: The fingerprint of the certificate that the domain should serve.
    fingerprint: str | None = None
    #: For a stuck domain, facts for the target's support.
    ticket: tuple[Text, ...] = ()
    #: The end of the certificate that the domain should serve.
    not_after: datetime | None = None
    last_failure: LastFailure | None = None  #: The failure of the last try, if left by a run.
    #: Whether the target has a copy of the certificate that the domain should serve.
    is_uploaded: bool = False

    @property
    def word(self) -> str:
        """The standing as people read it: without a handshake, a receiver is only delivered to."""
        is_unseen = self.kind.is_receiver and not self.served
        is_delivered = is_unseen and self.standing is Standing.VERIFIED
        return "delivered" if is_delivered else self.standing.value

    @property
    def severity(self) -> Severity:
        """How much the domain needs a person."""
        is_wrong = self.last_failure is not None or self.ticket
        return Severity.ERROR if is_wrong else self.standing.severity


class LineageStatus(Struct, frozen=True):
    """The standing of one lineage with its domains."""

    lineage: str  #: The lineage's name.
    names: tuple[str, ...]  #: The declared names.
    #: The version in force; `None` before the first certificate.
    version: Version | None
    #: When certferry renews; `None` without a certificate, and if another client or host renews.
    renew_at: datetime | None
    #: Why certferry renews the certificate now, or why the renewal by another client is overdue.
    reason: Reason | None
    domains: tuple[DomainStatus, ...]  #: The standing of each domain.
    #: Targets of which other lineages serve every domain, each with the other lineages' names.
    owned_elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notices: tuple[Concern, ...] = ()  #: Facts that an operator should know.
    #: The CA's renewal window, if plausible.
    window: RenewalWindow | None = None
    standing: Standing = Standing.VALID  #: How the certificate stands.
    #: The first end among the certificates that the domains should serve.
    until: datetime | None = None
    #: Why the certificate's files, or the state, cannot be read.
    problem: Problem | None = None
    last_failure: LastFailure | None = None  #: The failure to issue, if left by a run.
    #: How much the end of the newest certificate needs a person, as judged by `check`.
    end: Severity = Severity.OK

    @property
    def severity(self) -> Severity:
        """How much the certificate, or one of its domains, needs a person."""
        is_urgent = self.reason is not None and self.reason.code in _URGENT
        is_wrong = self.last_failure is not None or is_urgent
        own = Severity.ERROR if is_wrong else self.standing.severity
        parts = (own, self.end, *(domain.severity for domain in self.domains))
        return max(parts, key=lambda severity: severity.rank)


def status_of(
    desired: DesiredCertificate,
    observed: observation.Observation,
    now: datetime,
    timeout: timedelta = VERIFY_TIMEOUT,
    *,
    unreadable: CertferryError | None = None,
) -> LineageStatus:
    """Return the standing of a lineage, judged from an observation.

    A domain with a change in progress for longer than `timeout` is stuck. `unreadable` is the
    error of another client's files.
    """
    current = observed.current
    places = list(zip(desired.deployments, observed.targets, strict=True))
    domains = tuple(
        status
        for deployment, target in places
        for status in domains_of(deployment, target, observed.versions, now, timeout)
    )
    ends = [domain.not_after for domain in domains if domain.not_after is not None]
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
        until=None if current is None else min(ends, default=current.certificate.not_after),
        problem=None if unreadable is None else unreadable.problem(),
        end=Severity.OK
        if current is None or observed.is_owned_elsewhere
        else by_share_of_life(current.certificate, now),
    )
    return replace(status, standing=_standing_of(status, now))


def without_renewal(status: LineageStatus, why: Problem) -> LineageStatus:
    """Return the status of a lineage renewed by another host; `why` becomes a notice."""
    standing = Standing.VALID if status.standing is Standing.DUE else status.standing
    notice = Concern(why, Subject(status.lineage))
    return replace(
        status, reason=None, renew_at=None, standing=standing, notices=(notice, *status.notices)
    )


def _notices(
    lineage: str,
    observed: observation.Observation,
    places: Iterable[tuple[DesiredDeployment, observation.ObservedTarget]],
) -> Iterator[Concern]:
    for deployment, target in places:
        for error in (*target.unread, *choice.remarks(deployment, target)):
            yield Concern(error.problem(), Subject(lineage, target.label))
    for step in choice.left_out(observed):
        yield Concern(step.problem, Subject(lineage, step.target or "", step.domain or ""))


def unread(desired: DesiredCertificate, error: CertferryError) -> LineageStatus:
    """Return the status of a lineage with unreadable records in the state."""
    problem, standing = error.problem(), Standing.UNREADABLE
    return LineageStatus(
        desired.lineage, desired.names, None, None, None, (), problem=problem, standing=standing
    )


def _standing_of(status: LineageStatus, now: datetime) -> Standing:
    if status.problem is not None:
        return Standing.UNREADABLE
    if status.until is None:
        not_needed = status.owned_elsewhere and status.reason is None
        return Standing.NOT_NEEDED if not_needed else Standing.MISSING
    if status.until <= now:
        return Standing.EXPIRED
    return Standing.VALID if status.reason is None else Standing.DUE


def _reason(
    desired: DesiredCertificate, observed: observation.Observation, now: datetime
) -> Reason | None:
    if observed.is_owned_elsewhere:  # a certificate without a domain to serve is not ordered
        return None
    return why_order(desired, observed, now) or overdue(desired, observed, now)


def _renew_at(observed: observation.Observation, now: datetime) -> datetime | None:
    current = observed.current
    if current is None:
        return None
    before = next(iter(observed.versions[1:]), None)
    moments = due_at(current, before), renew_after_rollback(observed, current, now)
    return min(filter(None, moments))


def domains_of(
    deployment: DesiredDeployment,
    target: observation.ObservedTarget,
    versions: Versions,
    now: datetime,
    timeout: timedelta,
) -> tuple[DomainStatus, ...]:
    """Return the standing of each domain of a deployment, and a row for each pattern without a
    match. If the target cannot be read, the rows are the deployment's names and patterns.
    """
    if target.failure is not None:
        named = (*(deployment.domains or ()), *deployment.globs) or (WHOLE_ACCOUNT,)
        return tuple(_unknown(deployment, name, target.failure) for name in named)
    statuses = (
        _with_ticket(_domain(deployment, target, domain, versions, now), domain, now, timeout)
        for domain in target.domains
    )
    unmatched = choice.unmatched_globs(deployment, target)
    return (*statuses, *(_unknown(deployment, pattern, error) for pattern, error in unmatched))


def _unknown(deployment: DesiredDeployment, name: str, error: CertferryError) -> DomainStatus:
    return DomainStatus(
        deployment.target, deployment.kind, name, Standing.UNKNOWN, problem=error.problem()
    )


def _with_ticket(
    status: DomainStatus, domain: observation.ObservedDomain, now: datetime, timeout: timedelta
) -> DomainStatus:
    since = stuck_since(domain, now, timeout)
    if since is None or status.fingerprint is None:
        return status
    place = (status.target, domain)
    error = stuck_error(*place, since, now, served=status.served, fingerprint=status.fingerprint)
    return replace(status, problem=status.problem or error.problem(), ticket=error.ticket)


def _domain(
    deployment: DesiredDeployment,
    target: observation.ObservedTarget,
    domain: observation.ObservedDomain,
    versions: Versions,
    now: datetime,
) -> DomainStatus:
    version = version_for(domain.withdrawn, versions, now)
    standing = _standing(deployment, target, domain, version)
    place = (deployment.target, domain.kind, domain.domain, standing, domain.bound)
    served = target.served.get(domain.domain, ())
    problem = _problem(deployment, target, domain, version, standing)
    if version is None:
        return DomainStatus(*place, served=served, problem=problem)
    if standing is Standing.VERIFIED and versions[0].fingerprint in domain.withdrawn:
        # The domain serves the previous certificate on purpose; the lineage's row is about the
        # newest certificate.
        problem = Problem(ReasonCode.ROLLED_BACK.value, in_words(version))
    deadline = target.rules.upload_deadline(version.certificate)
    return DomainStatus(
        *place,
        None if domain.kind.is_receiver else deadline,
        served,
        problem,
        version.fingerprint,
        not_after=version.certificate.not_after,
        is_uploaded=target.remote_of(version.fingerprint) is not None,
    )


def _problem(
    deployment: DesiredDeployment,
    target: observation.ObservedTarget,
    domain: observation.ObservedDomain,
    version: Version | None,
    standing: Standing,
) -> Problem | None:
    if domain.problem is not None:
        return domain.problem.problem()
    if domain.drift is not None:
        return Problem(domain.drift.reason.code.value, domain.drift.reason.message)
    if standing is Standing.DRIFTED and domain.kind.is_receiver and domain.bound is None:
        message = Text("the delivered certificate is gone; the next run delivers it again")
        return Problem(ReasonCode.DELIVERY_DRIFTED.value, message)
    if standing is Standing.UNKNOWN and newer_of_ours(target, domain, version) is not None:
        message = Text(
            "the domain has a newer certificate of certferry, which the state does not know"
        )
        return Problem(ReasonCode.STATE_OLDER.value, message, _NEWEST_STATE)
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
    message = Text(
        "settings differ from the file: {changes}", changes=observation.in_sentences(changes)
    )
    return Problem(ReasonCode.SETTINGS_DRIFTED.value, message, _WHO_CHANGED_IT)


def _standing(
    deployment: DesiredDeployment,
    target: observation.ObservedTarget,
    domain: observation.ObservedDomain,
    version: Version | None,
) -> Standing:
    if domain.state is observation.DomainState.UNAVAILABLE:
        return Standing.UNKNOWN
    if domain.state is observation.DomainState.PROCESSING:
        return Standing.PROCESSING
    bound = target.fingerprint_of(domain.bound)
    if version is not None and bound == version.fingerprint:
        return _standing_when_bound(deployment, target, domain, version)
    if domain.state is observation.DomainState.FAILED:
        return Standing.FAILED
    is_foreign = domain.bound is not None and bound is None
    is_there = version is not None and target.remote_of(version.fingerprint) is not None
    if newer_of_ours(target, domain, version) is not None:
        return Standing.UNKNOWN
    if drift_of(deployment, target, domain, version) or (is_foreign and is_there):
        return Standing.DRIFTED
    return _standing_of_unbound(domain, version)


def _standing_of_unbound(domain: observation.ObservedDomain, version: Version | None) -> Standing:
    """Return the standing of a domain not bound to the version: `FAILED` if the last try failed,
    `DRIFTED` if a receiver had the version and lost it, otherwise `PENDING`.
    """
    last = domain.last
    if version is None or last is None or last.fingerprint != version.fingerprint:
        return Standing.PENDING
    if last.failed_at is not None and last.verified_at is None:
        return Standing.FAILED
    gone = domain.kind.is_receiver and domain.bound is None and last.verified_at is not None
    return Standing.DRIFTED if gone else Standing.PENDING


def _standing_when_bound(
    deployment: DesiredDeployment,
    target: observation.ObservedTarget,
    domain: observation.ObservedDomain,
    version: Version,
) -> Standing:
    if domain.kind.is_receiver and why_deliver(target, domain, version) is not None:
        return Standing.DRIFTED
    if not target.proves(domain):
        return Standing.VERIFIED
    addresses = target.served.get(domain.domain, ())
    if setting_changes(deployment.https, domain):
        return Standing.DRIFTED
    if observation.is_served(addresses, version.fingerprint):
        return Standing.VERIFIED
    answered = any(address.answered for address in addresses)
    return Standing.PROPAGATING if answered else Standing.BOUND


def with_hold(status: LineageStatus, plan: Plan) -> LineageStatus:
    """Return the status, with a notice if the CA's limits hold the order in `plan`."""
    held = None if plan.issue is None else plan.issue.when
    if not isinstance(held, HeldUntil) or held.error is None:
        return status
    notice = Concern(held.error.problem(), Subject(status.lineage))
    return replace(status, notices=(notice, *status.notices))


def with_failures(
    status: LineageStatus, recorded: Recorded, observed: observation.Observation, plan: Plan
) -> LineageStatus:
    """Return the status with the failures that runs left, except at verified domains. Each failure
    has the moment at which `plan` tries again.
    """
    troubles = recorded.troubles
    own = troubles.get(Subject(status.lineage))
    if own is not None and own.problem.code == UNDECLARED:
        own = None  # the file declares the lineage again since the run that left the trouble
    held = None if plan.issue is None else plan.issue.when
    return replace(
        status,
        last_failure=_failure(own, observed.remembered.issue_tried_at, held),
        domains=tuple(
            domain
            if domain.standing is Standing.VERIFIED
            else _with_failure(domain, status.lineage, troubles, observed, plan)
            for domain in status.domains
        ),
    )


def _with_failure(
    status: DomainStatus,
    lineage: str,
    troubles: Mapping[Subject, Notice],
    observed: observation.Observation,
    plan: Plan,
) -> DomainStatus:
    """Return the status with the failure of the last try at the domain or at the domain's
    target.
    """
    place = (status.target, status.domain)
    notice = troubles.get(Subject(lineage, *place)) or troubles.get(Subject(lineage, status.target))
    located = observed.find(*place)
    tried_at = None if located is None or located[1].last is None else located[1].last.failed_at
    moments = (
        rollout.when for rollout in plan.rollouts if (rollout.target, rollout.domain) == place
    )
    held = next((when for when in moments if isinstance(when, HeldUntil)), None)
    return replace(status, last_failure=_failure(notice, tried_at, held))


def _failure(
    notice: Notice | None, tried: datetime | None, when: When | None
) -> LastFailure | None:
    if notice is None:
        return None
    at = notice.since if tried is None else max(tried, notice.since)
    again_at = when.until if isinstance(when, HeldUntil) else None
    return LastFailure(notice.problem, notice.since, at, again_at)


_LAST = datetime.max.replace(tzinfo=UTC)


def are_in_order(statuses: Sequence[LineageStatus], recorded: Recorded) -> bool:
    """Return whether something is declared, no status and no watched host has the severity of an
    error, and the state is usable.
    """
    severities = [status.severity for status in statuses]
    if recorded.watching is not None:
        severities += (look.problem.severity for look in recorded.watching.looks if look.problem)
    return recorded.problem is None and bool(statuses) and Severity.ERROR not in severities


def most_needed_first(statuses: Iterable[LineageStatus]) -> list[LineageStatus]:
    """Return the statuses by severity, then by end, then as in the file; domains by severity."""
    ordered = sorted(statuses, key=lambda status: (-status.severity.rank, status.until or _LAST))
    by_need = (
        (status, sorted(status.domains, key=lambda d: -d.severity.rank)) for status in ordered
    )
    return [replace(status, domains=tuple(domains)) for status, domains in by_need]
