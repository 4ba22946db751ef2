"""Which copies of superseded certificates have had their time, and how many go in one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from certferry.core.desired import DesiredCertificate, DesiredDeployment, Retirement
from certferry.core.observed import Observation, RemoteCertificate
from certferry.core.plan import Retire
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.rollbacks import versions_after_rollbacks
from certferry.text import Text

MOST_SUPERSEDED, MOST_UNMANAGED = 20, 50
"""Copies that one run removes: of a lineage, and of what nothing uses in an account. It is few of
each day's; a mistake that removes everything would be noticed before it has."""


def in_one_run(steps: Iterable[Retire]) -> tuple[tuple[Retire, ...], Counter[str]]:
    """Return what one run may remove, and how many are left to later runs at each target. What was
    tried in vain before comes last: else it would keep what can be removed from its turn.
    """
    chosen: list[Retire] = []
    left: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for step in sorted(steps, key=lambda step: step.again):
        whose, most = allowance(step)
        taken[whose] += 1
        if taken[whose] <= most:
            chosen.append(step)
        else:
            left[step.target] += 1
    return tuple(chosen), left


def allowance(step: Retire) -> tuple[str, int]:
    """Return what a step counts against, and how many of these a run may remove. What is unmanaged
    belongs to its account, whichever lineage removes it.
    """
    return (step.target, MOST_UNMANAGED) if step.unmanaged else ("", MOST_SUPERSEDED)


def superseded(
    desired: DesiredCertificate, observed: Observation, now: datetime, *, issuing: bool
) -> tuple[Retire, ...]:
    """List what of ours is to be removed. The newest superseded certificate stays until it expires,
    so that a rollback has something to go back to; while a new one is `issuing`, so does the one in
    force.
    """
    kept = _kept_fingerprints(observed, now, issuing=issuing)
    # By place, since one account may stand in several deployments.
    retired = {
        (deployment.target, remote.remote_id): _retire(deployment, remote, now)
        for deployment, target in zip(desired.deployments, observed.targets, strict=True)
        if deployment.retire is not Retirement.NEVER and not target.remotes_hidden
        for remote in target.remotes
        if remote.fingerprint not in kept and not _is_said_to_be_used(remote, now)
    }
    return tuple(retired.values())


def _kept_fingerprints(observed: Observation, now: datetime, *, issuing: bool) -> frozenset[str]:
    versions = observed.versions
    current, previous = (0, 0) if issuing else (1, 1)
    in_force = versions[:current]
    fallback = [v for v in versions[previous : previous + 1] if v.certificate.not_after > now]
    after_rollbacks = versions_after_rollbacks(observed, now)
    return frozenset(v.certificate.fingerprint for v in (*in_force, *fallback, *after_rollbacks))


def _is_said_to_be_used(remote: RemoteCertificate, now: datetime) -> bool:
    return remote.in_use_until is not None and now < remote.in_use_until


def _retire(deployment: DesiredDeployment, remote: RemoteCertificate, now: datetime) -> Retire:
    return Retire(
        deployment.target,
        remote.remote_id,
        remote.label,
        Reason(ReasonCode.SUPERSEDED, Text("superseded")),
        not_after=remote.not_after,
        left=remote.not_after - now,
        again=remote.in_use_until is not None,
    )
