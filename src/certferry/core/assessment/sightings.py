"""What a run records of each place that it observed: whether it has its certificate, since when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certferry.core.certificates.lineage import Version, Versions, version_for
from certferry.core.desired.certificate import Kind
from certferry.core.observed import observation
from certferry.core.planning.plan import Action
from certferry.core.planning.planner import why_deliver
from certferry.core.planning.report import LineageReport, Outcome

Place = tuple[str, str, str]
"""A lineage, a target, a domain there."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Whether a place was last `served`, `since` when, what it has. No domain: others serve all."""

    lineage: str
    target: str
    domain: str
    served: bool
    since: datetime
    fingerprint: str | None = None
    other_until: datetime | None = None

    @property
    def place(self) -> Place:
        """What identifies it."""
        return (self.lineage, self.target, self.domain)

    @property
    def is_owned_elsewhere(self) -> bool:
        """Whether other lineages serve all that was to be served there."""
        return not self.domain


@dataclass(frozen=True, slots=True)
class Sighted:
    """What the last pass of a run observed of a lineage; `receivers` are some of its `places`, or
    all that it was to observe.
    """

    places: tuple[Sighting, ...] = ()
    unread: tuple[str, ...] = ()
    receivers: tuple[Place, ...] = ()
    only_receivers: bool = False

    def leaves_open(self, target: str) -> bool:
        """Return whether what is at a target's places is as it was known before."""
        return target in self.unread or (self.only_receivers and not Kind(target).is_receiver)


def sighted(lineage: str, observed: observation.Observation, now: datetime) -> Sighted:
    """Judge what was observed of a lineage. Every run does so for each: it has to be quick."""
    places: dict[Place, Sighting] = {}
    receivers, versions = list[Place](), observed.versions
    for target in observed.targets:
        if target.is_owned_elsewhere:
            place = (lineage, target.label, "")
            places[place] = Sighting(*place, served=True, since=now)
        for domain in target.domains:
            place = (lineage, target.label, domain.domain)
            wanted = version_for(domain.withdrawn, versions, now)
            served = wanted is not None and _has(target, domain, wanted)
            places[place] = Sighting(*place, served, now, *_presented(target, domain, versions))
            if domain.kind.is_receiver:
                receivers.append(place)
    unread = tuple(target.label for target in observed.targets if target.failure is not None)
    return Sighted(tuple(places.values()), unread, tuple(receivers))


def _has(
    target: observation.ObservedTarget, domain: observation.ObservedDomain, wanted: Version
) -> bool:
    if domain.kind.is_receiver:
        return why_deliver(target, domain, wanted) is None
    return observation.is_served(target.served.get(domain.domain, ()), wanted.fingerprint)


def _presented(
    target: observation.ObservedTarget, domain: observation.ObservedDomain, versions: Versions
) -> tuple[str | None, datetime | None]:
    """Return which of ours most addresses, or the receiver, have; the first end of what is else."""
    ours = {version.fingerprint for version in versions}
    if domain.kind.is_receiver:
        return domain.bound if domain.bound in ours else None, None
    addresses = target.served.get(domain.domain, ())
    found = Counter(one.fingerprint for one in addresses if one.fingerprint in ours)
    ends = (one.not_after for one in addresses if one.not_after and one.fingerprint not in ours)
    had = next(iter(dict(found.most_common(1))), None)
    return had, min(ends, default=None if had else domain.bound_until)


def after_run(before: Sequence[Sighting], seen: Mapping[str, Sighted]) -> tuple[Sighting, ...]:
    """Return what is known after a run, given what was before and what it saw of each lineage."""
    known = {one.place: one for one in before}
    # What it could not read, and lineages that it was not for, stay as they were.
    after = {
        one.place: one
        for one in before
        if one.lineage not in seen or seen[one.lineage].leaves_open(one.target)
    }
    for last in seen.values():
        after |= {one.place: _joined(known.get(one.place, one), one) for one in last.places}
    return tuple(sorted(after.values(), key=lambda one: one.place))


def _joined(before: Sighting, now: Sighting) -> Sighting:
    since = before.since if before.served == now.served else now.since
    return replace(now, since=since, fingerprint=now.fingerprint or before.fingerprint)


def with_delivered(
    seen: Mapping[str, Sighted], reports: Iterable[LineageReport]
) -> dict[str, Sighted]:
    """Add what receivers took after the last pass: nothing else observes them again."""
    return {
        report.lineage: _with_delivered(seen[report.lineage], report)
        for report in reports
        if report.lineage in seen
    }


def _with_delivered(last: Sighted, report: LineageReport) -> Sighted:
    if not last.receivers:
        return last
    delivered = {
        (report.lineage, step.target, step.domain)
        for step in report.having(Outcome.DONE)
        if step.action is Action.DEPLOY
    }.intersection(last.receivers)
    places = (
        replace(one, served=True, fingerprint=report.fingerprint) if one.place in delivered else one
        for one in last.places
    )
    return replace(last, places=tuple(places))
