"""The obstacles where a target cannot be read, or a domain cannot be changed."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.desired import DesiredDeployment
from certferry.core.due import Times, wait_in_time, waiting_since
from certferry.core.observed import ObservedDomain, ObservedTarget
from certferry.core.plan import Obstacle, Rollout
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.rollout_record import RolloutRecord
from certferry.core.steps import Blocked, Verify
from certferry.core.waiting import Waiting
from certferry.errors import CertferryError, TargetRejected
from certferry.text import Text

_UNREAD = Reason(ReasonCode.NOT_SEEN, Text("under way at a target that cannot be read now"))


def unreadable(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    failure: CertferryError,
    times: Times | None,
) -> tuple[tuple[Rollout, ...], tuple[Obstacle, ...]]:
    """Look again for what is under way at a target that cannot be read, while there is time: it
    goes on without us.
    """
    obstacle = Obstacle(deployment.target, None, failure)
    if times is None or not target.under_way:
        return (), (obstacle,)
    looks = [
        Verify(deployment.target, record.domain, _UNREAD, due=_due_unread(record, failure, times))
        for record in target.under_way
    ]
    # What this run began is told at its domains; else the target itself stands in the way.
    begun_here = any(times.in_this_run(record.asked_at) for record in target.under_way)
    rollouts = tuple(Rollout(look.target, look.domain, (look,), unread=True) for look in looks)
    return rollouts, () if begun_here else (obstacle,)


def unavailable(deployment: DesiredDeployment, domain: ObservedDomain) -> Obstacle:
    """Say why a domain cannot be changed now."""
    error = domain.problem or TargetRejected(
        Text(
            "{domain} cannot be changed now, and the target does not say why", domain=domain.domain
        )
    )
    return Obstacle(deployment.target, domain.domain, error)


def about_lineage(target: ObservedTarget, lineage: str) -> ObservedTarget:
    """Return a target with the lineage's name in the advice on its domains, where the adapter does
    not know it.
    """
    domains = (
        replace(one, problem=one.problem and one.problem.about(lineage)) for one in target.domains
    )
    return replace(target, domains=tuple(domains))


def _due_unread(record: RolloutRecord, error: CertferryError, times: Times) -> Waiting | Blocked:
    """Return when to look again for a change at a target that cannot be read."""
    if not error.retry.allowed:
        return Blocked(error)
    return wait_in_time(error, waiting_since(record, times), times)
