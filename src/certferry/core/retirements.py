"""Which copies of superseded certificates have had their time."""

from __future__ import annotations

from datetime import datetime

from certferry.core.desired import DesiredCertificate, DesiredDeployment
from certferry.core.observed import Observation, RemoteCertificate
from certferry.core.policies import Retirement
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.rollbacks import versions_after_rollbacks
from certferry.core.steps import Retire
from certferry.text import Text


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
    after_rollbacks = versions_after_rollbacks(observed, now) if observed.has_withdrawn else ()
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
