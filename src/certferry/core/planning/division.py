"""How hosts that share a state divide the work: which certificates each tries first, and what it
leaves to another host, or takes from what that has stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.records import Remembered, RolloutRecord
from certferry.core.planning.plan import Action
from certferry.core.planning.report import SEEN, Outcome, StepOutcome


def in_turn(
    lineages: Sequence[str],
    host: str,
    hosts: Collection[str],
    renew_at: Mapping[str, datetime],
    now: datetime,
) -> list[str]:
    """Order lineages as one of several hosts tries them: what is due before the rest, and in both
    its own share first, what is due soonest; then those of others. Each host has another order,
    also of what is due alike: hosts that begin together for the first time do not know each other.
    A lineage without a moment has no certificate, and is due.
    """

    def turn(lineage: str) -> tuple[bool, bool, datetime, int]:
        moment = renew_at.get(lineage, now)
        is_own = owns(host, hosts, lineage)
        return moment > now, not is_own, moment if is_own else now, -_weight(host, lineage)

    return sorted(lineages, key=turn)


def owns(host: str, hosts: Collection[str], lineage: str) -> bool:
    """Return whether a lineage is in a host's share: no other host weighs more there.

    All find the same without talking, each has about as many, and where a host goes, only its own
    move to others (rendezvous hashing: Thaler and Ravishankar, 1998).
    """
    own = _weight(host, lineage)
    return not any(_weight(other, lineage) > own for other in hosts)


def _weight(host: str, lineage: str) -> int:
    digest = hashlib.sha256(f"{host}\n{lineage}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def verified_since(
    desired: DesiredCertificate, remembered: Remembered, begun: datetime
) -> tuple[StepOutcome, ...]:
    """Return how a certificate stands whose every domain was seen to serve the newest version after
    a run `begun`, by another host: observing them once more would only take the account's pace.
    Nothing, where that is not stored of every one, or this host's receivers need it.
    """
    records = _whole_rollout(desired, remembered)
    if not all(one.verified_at is not None and one.verified_at >= begun for one in records):
        return ()
    return tuple(
        StepOutcome(Action.VERIFY, Outcome.UNCHANGED, SEEN, one.target, one.domain)
        for one in records
    )


def awaits_another(desired: DesiredCertificate, remembered: Remembered, begun: datetime) -> bool:
    """Return whether another host that was at work when a run `begun`, or later, has only to see
    the newest version served: targets took it everywhere, so that host observes it again soon.
    """
    on_the_way = [one for one in _whole_rollout(desired, remembered) if one.verified_at is None]
    return bool(on_the_way) and all(
        one.failed_at is None and one.accepted_at is not None and one.accepted_at >= begun
        for one in on_the_way
    )


def _whole_rollout(
    desired: DesiredCertificate, remembered: Remembered
) -> tuple[RolloutRecord, ...]:
    """Return the records of the newest version, if it has one at every domain; none where an order
    or a withdrawal, or this host's receivers, have to be seen to.
    """
    versions, records = remembered.versions, remembered.rollouts
    if not versions or remembered.withdrawals or remembered.ordered:
        return ()
    deployed = {one.target for one in desired.deployments if one.delivery is None}
    named = {(one.target, domain) for one in desired.deployments for domain in one.domains or ()}
    places = {(one.target, one.domain) for one in records}
    is_whole = named <= places and deployed == {target for target, _ in places}
    is_newest = all(one.fingerprint == versions[0].fingerprint for one in records)
    return records if is_whole and is_newest else ()


def has_open_work(remembered: Remembered) -> bool:
    """Return whether, by what is stored, something is left to do that another host may be doing: a
    certificate is missing or ordered, or a domain was not yet seen to serve the newest one.
    """
    versions = remembered.versions
    return (
        not versions
        or remembered.ordered is not None
        or any(
            one.fingerprint != versions[0].fingerprint or one.verified_at is None
            for one in remembered.rollouts
        )
    )
