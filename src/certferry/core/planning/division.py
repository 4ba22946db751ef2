"""The division of work among hosts that share a state: the order in which a host tries lineages,
and the lineages that a host leaves to another host.
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
    """Return the lineages in the order in which `host` tries the lineages.

    1. Lineages due for renewal come before the rest. A lineage missing in `renew_at` has no
       certificate and is due.
    2. In both groups the host's own share (`owns`) comes first, soonest renewal first.
    3. The shares of other hosts follow, in an order different on each host, because hosts beginning
       together for the first time do not know each other yet.
    """

    def turn(lineage: str) -> tuple[bool, bool, datetime, int]:
        moment = renew_at.get(lineage, now)
        is_own = owns(host, hosts, lineage)
        return moment > now, not is_own, moment if is_own else now, -_weight(host, lineage)

    return sorted(lineages, key=turn)


def owns(host: str, hosts: Collection[str], lineage: str) -> bool:
    """Return whether a lineage is in a host's share: of all hosts, the host has the largest weight,
    a hash of host and lineage.

    All hosts compute the same shares without messages, and shares are about equal. When a host
    leaves, only that host's lineages move to others (rendezvous hashing: Thaler and Ravishankar,
    1998).
    """
    own = _weight(host, lineage)
    return not any(_weight(other, lineage) > own for other in hosts)


def _weight(host: str, lineage: str) -> int:
    digest = hashlib.sha256(f"{host}\n{lineage}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def verified_since(
    desired: DesiredCertificate, remembered: Remembered, begun: datetime
) -> tuple[StepOutcome, ...]:
    """Return an outcome for each domain of a certificate, if every domain was verified since
    `begun`, the beginning of this run, so this run need not ask the target. Return an empty tuple
    if a domain was not verified since then, and for a certificate with receivers on this host.
    """
    records = _whole_rollout(desired, remembered)
    if not all(row.verified_at is not None and row.verified_at >= begun for row in records):
        return ()
    return tuple(
        StepOutcome(Action.VERIFY, Outcome.UNCHANGED, SEEN, row.target, row.domain)
        for row in records
    )


def awaits_another(desired: DesiredCertificate, remembered: Remembered, begun: datetime) -> bool:
    """Return whether only the verification of the newest version is missing, at domains whose
    targets accepted the change since `begun`, the beginning of this run. Another host made the
    changes and observes again soon, so this host need not observe.
    """
    on_the_way = [row for row in _whole_rollout(desired, remembered) if row.verified_at is None]
    return bool(on_the_way) and all(
        row.failed_at is None and row.accepted_at is not None and row.accepted_at >= begun
        for row in on_the_way
    )


def _whole_rollout(
    desired: DesiredCertificate, remembered: Remembered
) -> tuple[RolloutRecord, ...]:
    """Return the rollout records if all are of the newest version, and every target and every named
    domain has a record. Return an empty tuple otherwise, while an order or a withdrawal is stored,
    and for a certificate with receivers on this host.
    """
    versions, records = remembered.versions, remembered.rollouts
    if not versions or remembered.withdrawals or remembered.ordered:
        return ()
    deployed = {wanted.target for wanted in desired.deployments if not wanted.is_on_this_host}
    named = {(place.target, name) for place in desired.deployments for name in place.domains or ()}
    places = {(row.target, row.domain) for row in records}
    is_whole = named <= places and deployed == {target for target, _ in places}
    is_newest = all(row.fingerprint == versions[0].fingerprint for row in records)
    return records if is_whole and is_newest else ()


def has_open_work(remembered: Remembered) -> bool:
    """Return whether the state shows unfinished work, perhaps of another host: the certificate is
    missing or ordered, or a recorded domain has not been seen to serve the newest version.
    """
    versions = remembered.versions
    return (
        not versions
        or remembered.ordered is not None
        or any(
            row.fingerprint != versions[0].fingerprint or row.verified_at is None
            for row in remembered.rollouts
        )
    )
