"""Everybody else's certificates at a target, for `retire = "all-unused"`: which of them nobody
looks after, and whether this is the moment.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.lineage import owner_of, owners
from certferry.core.observed import ObservedTarget, OtherCertificate
from certferry.core.strangers import unclaimed
from certferry.core.upload import NOBODY
from certferry.reconcile.doors import Doors

SETTLING = timedelta(days=1)
"""How long a certificate that does not arrive holds up what another lineage removes."""


def without_claimed(
    found: ObservedTarget, lineage: str, target: str, doors: Doors
) -> ObservedTarget:
    """Leave what nobody looks after, with what the store remembers of it.

    The store is asked after the target: whatever was uploaded by then has its version there.
    """
    if not found.others:
        return found
    declared = doors.claims.lineages - {lineage}
    found_owners = {owner_of(other.label) for other in found.others}
    remembered = {
        one: doors.state.versions(one)
        for one in {lineage, *doors.state.lineages()} - declared
        if owners(one) & found_owners
    }
    others = unclaimed(found.others, declared, remembered, doors.now())
    return replace(
        found,
        others=_with_marks_of_use(others, target, doors),
        unsettled_since=_unsettled_since(lineage, target, doors) if others else None,
    )


def _with_marks_of_use(
    others: tuple[OtherCertificate, ...], target: str, doors: Doors
) -> tuple[OtherCertificate, ...]:
    in_use = {u.remote_id: u.in_use_until for u in doors.state.uploads(NOBODY, target)}
    return tuple(replace(other, in_use_until=in_use.get(other.remote_id)) for other in others)


def _unsettled_since(lineage: str, target: str, doors: Doors) -> datetime | None:
    """Tell since when another lineage's certificate is on its way to the target."""
    oldest = doors.now() - SETTLING
    under_way = doors.state.open_rollouts(target)
    begun = [r.started_at for r in under_way if r.lineage != lineage and r.started_at > oldest]
    return min(begun, default=None)
