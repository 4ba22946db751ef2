"""Which copies of certificates a run removes at a target, and how many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from certferry.core.certificates.lineage import Version, labels_of, owner_of, owners
from certferry.core.desired.certificate import DesiredCertificate, Retirement
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import OtherCertificate
from certferry.core.planning.due import Times
from certferry.core.planning.plan import Due, NotReady, Retire
from certferry.core.planning.rollbacks import versions_after_rollbacks
from certferry.core.reasons import Reason, ReasonCode, wait_for
from certferry.text import Text

MOST_SUPERSEDED, MOST_UNMANAGED = 20, 50
"""Copies that one run removes: of a lineage, and of what nothing uses in an account. One host works
on a lineage at a time, so hosts that share a state remove no more of it; of what nothing uses, each
host's run may remove as many: the limit gives an operator time to see what a run removed, and each
run reports it.
"""


def in_one_run(steps: Iterable[Retire]) -> tuple[tuple[Retire, ...], Counter[str]]:
    """Return what one run removes, and how many it leaves; what was refused before comes last."""
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
    """Return what a step counts against, its account or its lineage, and the most in a run."""
    return (step.target, MOST_UNMANAGED) if step.unmanaged else ("", MOST_SUPERSEDED)


def left_to_later_runs(count: int) -> Text:
    """Return in words that a run removes only so many."""
    return Text("certificates that later runs remove: {count}", count=count)


def superseded(
    desired: DesiredCertificate, observed: Observation, now: datetime, *, issuing: bool
) -> tuple[Retire, ...]:
    """List our superseded copies; the newest of them stays to go back to, until it expires."""
    kept = _kept_fingerprints(observed, now, issuing=issuing)
    # By place, since one account may stand in several deployments.
    retired = {
        (deployment.target, remote.remote_id): Retire(
            deployment.target,
            remote.remote_id,
            remote.label,
            Reason(ReasonCode.SUPERSEDED, Text("superseded")),
            not_after=remote.not_after,
            left=remote.not_after - now,
            again=remote.in_use_until is not None,
        )
        for deployment, target in zip(desired.deployments, observed.targets, strict=True)
        if deployment.retire is not Retirement.NEVER and not target.remotes_hidden
        for remote in target.remotes
        if remote.fingerprint not in kept
        and not (remote.in_use_until is not None and now < remote.in_use_until)
    }
    return tuple(retired.values())


def _kept_fingerprints(observed: Observation, now: datetime, *, issuing: bool) -> frozenset[str]:
    versions = observed.versions
    in_force, previous = ((), versions[:1]) if issuing else (versions[:1], versions[1:2])
    fallback = (version for version in previous if version.certificate.not_after > now)
    after_rollbacks = versions_after_rollbacks(observed, now)
    return frozenset(one.fingerprint for one in (*in_force, *fallback, *after_rollbacks))


_KEPT = 2
"""Versions of a lineage: the one in force, and the one before it to go back to."""

OTHERS_FIRST = Text("another certificate is still on its way to this account")

_WHY = Text('retire = "all-unused"; kept if anything uses it')


def unclaimed(
    others: Iterable[OtherCertificate],
    declared: Collection[str],
    remembered: Mapping[str, tuple[Version, ...]],
    now: datetime,
) -> tuple[OtherCertificate, ...]:
    """Drop what another lineage owns: `declared` ones all, `remembered` ones two."""
    theirs = {owner for lineage in declared for owner in owners(lineage)}
    kept = {
        label
        for lineage, versions in remembered.items()
        for version in versions[:_KEPT]
        if version.certificate.not_after > now
        for label in labels_of(lineage, version.fingerprint)
    }
    return tuple(o for o in others if o.label not in kept and owner_of(o.label) not in theirs)


def unused(desired: DesiredCertificate, observed: Observation, times: Times) -> tuple[Retire, ...]:
    """List what nothing is known to use, once for each account, what ends first at the top."""
    now = times.now
    steps = {
        (deployment.target, other.remote_id): Retire(
            deployment.target,
            other.remote_id,
            other.label,
            Reason(ReasonCode.UNUSED, _WHY),
            not_after=other.not_after,
            left=None if other.not_after is None else other.not_after - now,
            unmanaged=True,
            again=other.in_use_until is not None,
            due=_due(target.unsettled_since, times),
        )
        for deployment, target in zip(desired.deployments, observed.targets, strict=True)
        if deployment.retire is Retirement.ALL_UNUSED
        for other in target.others
        if other.in_use_until is None or other.in_use_until <= now
    }
    return tuple(sorted(steps.values(), key=lambda step: (step.target, step.not_after or now)))


def _due(unsettled_since: datetime | None, times: Times) -> Due:
    """Wait while another lineage's certificate is on its way to replace what may be served."""
    if unsettled_since is None:
        return None
    deadline = unsettled_since + times.timeout
    if times.now >= deadline:
        return NotReady()
    return wait_for(OTHERS_FIRST, unsettled_since, times.now, deadline)
