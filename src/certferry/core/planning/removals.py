"""The copies of certificates that a run removes at targets, and the limits on removals in a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from certferry.core.certificates.lineage import Version, labels_of, owner_of, owners
from certferry.core.desired.certificate import DesiredCertificate, Retirement
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import OtherCertificate
from certferry.core.planning.plan import NotReady, Retire, When
from certferry.core.planning.rollbacks import versions_after_rollbacks
from certferry.core.planning.timing import Times
from certferry.core.reasons import Reason, ReasonCode, wait_for
from certferry.text import Text

MOST_SUPERSEDED, MOST_UNMANAGED = 20, 50
"""The most superseded copies of a lineage, and the most unused copies at an account, that a run
removes. Each run reports the removals, and the limits give operators time to read the report.

If hosts share a state, the second limit holds for each host separately.
"""


def in_one_run(steps: Iterable[Retire]) -> tuple[tuple[Retire, ...], Counter[str]]:
    """Return the removals of one run, and by target the number of removals left to later runs. A
    removal that the target refused before comes last.
    """
    chosen: list[Retire] = []
    left: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for step in sorted(steps, key=lambda step: step.again):
        owner, most = allowance(step)
        taken[owner] += 1
        if taken[owner] <= most:
            chosen.append(step)
        else:
            left[step.target] += 1
    return tuple(chosen), left


def allowance(step: Retire) -> tuple[str, int]:
    """Return the key under which a removal counts (the account, or `""` for the lineage), and the
    limit.
    """
    return (step.target, MOST_UNMANAGED) if step.unmanaged else ("", MOST_SUPERSEDED)


def left_to_later_runs(count: int) -> Text:
    """Return the sentence on removals left to later runs."""
    return Text("certificates that later runs remove: {count}", count=count)


def superseded(
    desired: DesiredCertificate, observed: Observation, now: datetime, *, issuing: bool
) -> tuple[Retire, ...]:
    """Return the removals of superseded copies. Copies of the version in force stay, and copies of
    versions that serve rolled-back domains. Copies of the previous version stay until expiry, as a
    way back. Copies in use stay until `in_use_until`.
    """
    kept = _kept_fingerprints(observed, now, issuing=issuing)
    # Keyed by target and copy: if several deployments name an account, a copy is removed once.
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
        if owner_of(remote.label) is not None  # another tool's copy of the certificate stays
        and remote.fingerprint not in kept
        and not (remote.in_use_until is not None and now < remote.in_use_until)
    }
    return tuple(retired.values())


def _kept_fingerprints(observed: Observation, now: datetime, *, issuing: bool) -> frozenset[str]:
    versions = observed.versions
    in_force, previous = ((), versions[:1]) if issuing else (versions[:1], versions[1:2])
    fallback = (version for version in previous if version.certificate.not_after > now)
    after_rollbacks = versions_after_rollbacks(observed, now)
    return frozenset(version.fingerprint for version in (*in_force, *fallback, *after_rollbacks))


_KEPT = 2
"""How many versions of a `remembered` lineage keep copies: the newest version, and the version
before as a way back.
"""

OTHERS_FIRST = Text("another certificate is still on its way to this account")

_WHY = Text('retire = "all-unused"; kept if anything uses it')


def unclaimed(
    others: Iterable[OtherCertificate],
    declared: Collection[str],
    remembered: Mapping[str, tuple[Version, ...]],
    now: datetime,
) -> tuple[OtherCertificate, ...]:
    """Return the copies that no lineage needs. All copies of `declared` lineages are needed, and so
    are the valid copies of the two newest versions of `remembered` lineages.
    """
    declared_owners = {owner for lineage in declared for owner in owners(lineage)}
    kept = {
        label
        for lineage, versions in remembered.items()
        for version in versions[:_KEPT]
        if version.certificate.not_after > now
        for label in labels_of(lineage, version.fingerprint)
    }
    return tuple(
        copy
        for copy in others
        if copy.label not in kept and owner_of(copy.label) not in declared_owners
    )


def unused(desired: DesiredCertificate, observed: Observation, times: Times) -> tuple[Retire, ...]:
    """Return the removals of copies that no lineage needs, sorted by account and expiry, for
    deployments with `retire = "all-unused"`.
    """
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
            when=_when(target.unsettled_since, times),
        )
        for deployment, target in zip(desired.deployments, observed.targets, strict=True)
        if deployment.retire is Retirement.ALL_UNUSED
        for other in target.others
        if other.in_use_until is None or other.in_use_until <= now
    }
    return tuple(sorted(steps.values(), key=lambda step: (step.target, step.not_after or now)))


def _when(unsettled_since: datetime | None, times: Times) -> When:
    """Return a wait while another lineage's certificate is on the way to the account, because edges
    may still serve an old copy. After the time-out, the removal is left to a later run.
    """
    if unsettled_since is None:
        return None
    deadline = unsettled_since + times.timeout
    if times.now >= deadline:
        return NotReady()
    return wait_for(OTHERS_FIRST, unsettled_since, times.now, deadline)
