"""What `retire = "all-unused"` removes beside our own: the certificates of an account that no
declared certificate owns. Which of them is used only the target knows, so it is asked to remove
each, and may refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from certferry.core.desired import DesiredCertificate, DesiredDeployment
from certferry.core.due import Times
from certferry.core.lineage import Version, marks, owner_of, owners
from certferry.core.observed import Observation, ObservedTarget
from certferry.core.other_certificate import OtherCertificate
from certferry.core.policies import Retirement
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.steps import Blocked, Due, Retire
from certferry.core.waiting import wait_for
from certferry.text import Text

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
    """Take out what is looked after, here or elsewhere.

    A mark of one of the `declared` lineages leaves the certificate to that lineage, which may be
    about to bind it. Of `remembered` ones that are declared no more, here at least, what is in
    force and what a rollback would go back to stays until it expires.
    """
    theirs = {owner for lineage in declared for owner in owners(lineage)}
    kept = {
        label
        for lineage, versions in remembered.items()
        for version in versions[:_KEPT]
        if version.certificate.not_after > now
        for label in marks(lineage, version.certificate.fingerprint)
    }
    return tuple(o for o in others if o.label not in kept and owner_of(o.label) not in theirs)


def retirements(
    desired: DesiredCertificate, observed: Observation, times: Times
) -> tuple[Retire, ...]:
    """List what is to be tried, once for each account, what ends first at the top."""
    now = times.now
    steps = {
        (deployment.target, other.remote_id): replace(
            _retire(deployment, other, now), due=_due(target.unsettled_since, times)
        )
        for deployment, target in _places(desired, observed)
        for other in target.others
        if other.in_use_until is None or other.in_use_until <= now
    }
    return tuple(sorted(steps.values(), key=lambda step: (step.target, step.not_after or now)))


def _due(unsettled_since: datetime | None, times: Times) -> Due:
    """Wait while another lineage's certificate is on its way: what it replaces may be served until
    it has arrived.
    """
    if unsettled_since is None:
        return None
    deadline = unsettled_since + times.timeout
    if times.now >= deadline:
        return Blocked()
    return wait_for(OTHERS_FIRST, unsettled_since, times.now, deadline)


def _places(
    desired: DesiredCertificate, observed: Observation
) -> Iterable[tuple[DesiredDeployment, ObservedTarget]]:
    for deployment, target in zip(desired.deployments, observed.targets, strict=True):
        if deployment.retire is Retirement.ALL_UNUSED:
            yield deployment, target


def _retire(deployment: DesiredDeployment, other: OtherCertificate, now: datetime) -> Retire:
    return Retire(
        deployment.target,
        other.remote_id,
        other.label,
        Reason(ReasonCode.UNUSED, _WHY),
        not_after=other.not_after,
        left=None if other.not_after is None else other.not_after - now,
        unmanaged=True,
        again=other.in_use_until is not None,
    )
