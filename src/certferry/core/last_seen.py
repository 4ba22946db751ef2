"""The sightings of every place after a run: its own, and those of earlier runs where it did not
look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from certferry.core.report import LineageReport, Outcome
from certferry.core.sighting import Sighted, Sighting
from certferry.core.steps import Action


def with_delivered(
    looks: Mapping[str, Sighted], reports: Iterable[LineageReport]
) -> dict[str, Sighted]:
    """Return what the last look at each lineage of a run saw, with what its receivers took after
    that: no later look was needed.
    """
    return {
        report.lineage: _with_delivered(looks[report.lineage], report)
        for report in reports
        if report.lineage in looks
    }


def after_run(before: Sequence[Sighting], seen: Mapping[str, Sighted]) -> tuple[Sighting, ...]:
    """Return what is known after a run, given what was before and what it saw of each lineage. What
    it could not look at stays as it was known, and so do lineages that it was not for.
    """
    known = {one.place: one for one in before}
    after = {one.place: one for one in before if _stands(one, seen)}
    for looked in seen.values():
        after |= {one.place: _joined(known.get(one.place), one) for one in looked.places}
    return tuple(sorted(after.values(), key=lambda one: one.place))


def digest_of(seen: Mapping[str, Sighted]) -> str:
    """Return what stands for all that a run saw, but for the moment: a run that saw the same need
    not compare every place with what is kept.
    """
    rows = (
        f"{one.lineage}\0{one.target}\0{one.domain}\0{one.served}\0{one.fingerprint}"
        for looked in seen.values()
        for one in looked.places
    )
    unread = ",".join(sorted({label for looked in seen.values() for label in looked.unread}))
    return hashlib.sha256("\0\n".join([unread, *rows]).encode()).hexdigest()


def _stands(known: Sighting, seen: Mapping[str, Sighted]) -> bool:
    looked = seen.get(known.lineage)
    return looked is None or known.target in looked.unread


def _joined(before: Sighting | None, now: Sighting) -> Sighting:
    if before is None:
        return now
    if (before.served, before.fingerprint) == (now.served, now.fingerprint):
        return before
    since = before.since if before.served == now.served else now.since
    return replace(now, since=since, fingerprint=now.fingerprint or before.fingerprint)


def _with_delivered(looked: Sighted, report: LineageReport) -> Sighted:
    if not looked.receivers:
        return looked
    delivered = {
        (report.lineage, step.target, step.domain)
        for step in report.outcomes
        if step.action is Action.DEPLOY and step.outcome is Outcome.DONE
    }
    places = (
        replace(one, served=True, fingerprint=report.fingerprint)
        if one.place in delivered.intersection(looked.receivers)
        else one
        for one in looked.places
    )
    return replace(looked, places=tuple(places))
