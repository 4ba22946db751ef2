"""What is known of every place after a run: what it saw, and what earlier runs saw where it did not
look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from certferry.core.plan import Action
from certferry.core.report import LineageReport, Outcome
from certferry.core.sighting import Sighted, Sighting


def after_run(
    before: Sequence[Sighting], reports: Iterable[LineageReport], looks: Mapping[str, Sighted]
) -> tuple[Sighting, ...]:
    """Return what is known after a run, given what was before and what its last look at each
    lineage saw. What it could not look at stays as it was known, and so do lineages that it was not
    for.
    """
    delivered = {report.lineage: report for report in reports}
    seen = {
        lineage: _with_delivered(looked, delivered[lineage])
        for lineage, looked in looks.items()
        if lineage in delivered
    }
    known = {one.place: one for one in before}
    after = {one.place: one for one in before if _stands(one, seen)}
    for looked in seen.values():
        after |= {one.place: _joined(known.get(one.place), one) for one in looked.places}
    return tuple(sorted(after.values(), key=lambda one: one.place))


def _stands(known: Sighting, seen: Mapping[str, Sighted]) -> bool:
    looked = seen.get(known.lineage)
    return looked is None or known.target in looked.unread


def _joined(before: Sighting | None, now: Sighting) -> Sighting:
    if before is None:
        return now
    since = before.since if before.served == now.served else now.since
    return replace(now, since=since, fingerprint=now.fingerprint or before.fingerprint)


def _with_delivered(looked: Sighted, report: LineageReport) -> Sighted:
    """Add what receivers took after they were looked at: no later look was needed."""
    if not looked.receivers:
        return looked
    delivered = {
        (report.lineage, step.target, step.domain)
        for step in report.outcomes
        if step.action is Action.DEPLOY and step.outcome is Outcome.DONE
    }
    places = (
        replace(one, served=True, fingerprint=report.fingerprint)
        if one.place in delivered & looked.receivers
        else one
        for one in looked.places
    )
    return replace(looked, places=tuple(places))
