"""How a lineage stands, with its domains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core import at_once, rules, unmatched
from certferry.core.desired import DesiredCertificate
from certferry.core.domain_status import DomainStatus, Standing, domains_of
from certferry.core.due import VERIFY_TIMEOUT
from certferry.core.ferried import overdue, why_adopt
from certferry.core.history import LastRun
from certferry.core.lineage import Version
from certferry.core.notice import Notice, Subject
from certferry.core.observed import (
    Observation,
)
from certferry.core.plan import Obstacle, Plan
from certferry.core.reasons import Reason
from certferry.core.renewal import RenewalWindow, believed
from certferry.core.rollbacks import renewed_after_rollback
from certferry.core.trouble import (
    LastFailure,
    Trouble,
    Troubles,
    failure_at_domain,
    failure_of_lineage,
)
from certferry.core.undeclared import Undeclared
from certferry.errors import CertferryError


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
    ceded: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notices: tuple[tuple[str, CertferryError], ...] = ()
    """What could not be read at a target beside its domains, and what is excluded in vain."""
    left_out: tuple[Obstacle, ...] = ()
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
        ceded=observed.ceded,
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
        not_needed = status.ceded and status.reason is None
        return Condition.NOT_NEEDED if not_needed else Condition.MISSING
    if until <= now:
        return Condition.EXPIRED
    return Condition.VALID if status.reason is None else Condition.DUE


def _window(current: Version) -> RenewalWindow | None:
    return believed(current.certificate, current.window)


def _reason(desired: DesiredCertificate, observed: Observation, now: datetime) -> Reason | None:
    if observed.is_ceded:  # no certificate is ordered that has nothing to serve
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
