"""Places that were found in order after the last run left trouble there.

Only runs store their observations. `as_seen` joins the observation of a page with the records, as
the next run will.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from msgspec import Struct

from certferry.core.assessment.causes import OF_ACCOUNTS
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.notices import Notice, Topic
from certferry.core.assessment.sightings import Place, Sighting
from certferry.core.assessment.status import LineageStatus
from certferry.core.planning.plan import Plan, Verify
from certferry.errors import Severity
from certferry.values import replace


class Seen(Struct, frozen=True):
    """The result of an observation at a place."""

    at: datetime  #: When the observation began.
    is_in_order: bool  #: Whether the place was found as declared.
    #: The certificate that the place should serve; `None` if unknown.
    fingerprint: str | None = None


def seen_by_statuses(
    statuses: Iterable[LineageStatus], at: datetime
) -> Iterator[tuple[Place, Seen]]:
    """Yield the places of statuses. The place with an empty domain stands for all domains of a
    lineage at a target, and is in order if all of these are.
    """
    for status in statuses:
        whole = defaultdict[str, list[bool]](list)
        for domain in status.domains:
            is_in_order = domain.severity is Severity.OK
            whole[domain.target].append(is_in_order)
            place = (status.lineage, domain.target, domain.domain)
            yield place, Seen(at, is_in_order, domain.fingerprint)
        for target, results in whole.items():
            yield (status.lineage, target, ""), Seen(at, all(results))


def seen_by_plans(plans: Iterable[Plan], at: datetime) -> Iterator[tuple[Place, Seen]]:
    """Yield the places of plans. A place is in order if a run would at most store that the
    certificate is served.
    """
    for plan in plans:
        for rollout in plan.rollouts:
            verified = (step for step in rollout.steps if isinstance(step, Verify))
            fingerprint = next((step.fingerprint for step in verified), None)
            is_in_order = rollout.is_seen and not rollout.unread
            place = (plan.lineage, rollout.target, rollout.domain)
            yield place, Seen(at, is_in_order, fingerprint)


def as_seen(recorded: Recorded, settled: Mapping[Place, Seen]) -> Recorded:
    """Return the records with the settled places as served, and with the trouble there removed.
    `settled` are places found in order since the last run.
    """
    if not settled:
        return recorded
    return replace(
        recorded,
        sightings=[_with(sighting, settled.get(sighting.place)) for sighting in recorded.sightings],
        notices=[notice for notice in recorded.notices if not _is_over(notice, settled)],
    )


def _with(sighting: Sighting, seen: Seen | None) -> Sighting:
    if seen is None or sighting.served:
        return sighting
    return Sighting(
        *sighting.place,
        served=True,
        since=seen.at,
        fingerprint=seen.fingerprint or sighting.fingerprint,
        is_uploaded=True,
    )


def _is_over(notice: Notice, settled: Mapping[Place, Seen]) -> bool:
    about = notice.subject
    if notice.topic not in {Topic.TROUBLE, Topic.FOUND} or not about.lineage or not about.target:
        return False
    # An account that answers ends only trouble of the whole account: domains show nothing of other
    # trouble of a target, such as a failed removal.
    is_visible = bool(about.domain) or notice.problem.code in OF_ACCOUNTS
    return is_visible and (about.lineage, about.target, about.domain) in settled
