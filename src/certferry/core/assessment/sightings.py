"""What a run saw where a certificate is to be served: whether each place has it, and since when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certferry.core.certificates.lineage import Version, version_for
from certferry.core.observed.observation import (
    Observation,
    ObservedDomain,
    ObservedTarget,
    is_served,
)
from certferry.core.planning.report import LineageReport, Outcome
from certferry.core.planning.rollouts import why_deliver
from certferry.core.planning.steps import Action

Place = tuple[str, str, str]
"""A lineage, a target, a domain there."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Whether a place had the certificate that it is to have, when a run last looked, and `since`
    when that is so. `fingerprint` is that of the certificate which it was last seen to have, `None`
    where none of ours was.

    Without a domain it is a target at which other lineages serve all that this one was to serve.
    """

    lineage: str
    target: str
    domain: str
    served: bool
    since: datetime
    fingerprint: str | None = None

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
    """What the last visit of a run to a lineage saw. `unread` are the targets that could not be
    looked at, `receivers` the places that take a certificate whole: what was delivered after the
    look is there.
    """

    places: tuple[Sighting, ...] = ()
    unread: tuple[str, ...] = ()
    receivers: tuple[Place, ...] = ()


def sighted(lineage: str, observed: Observation, now: datetime) -> Sighted:
    """Judge what was observed of a lineage. Every run does so for each: it has to be quick."""
    places: dict[Place, Sighting] = {}
    unread: list[str] = []
    receivers: list[Place] = []
    for target in observed.targets:
        label = target.label
        if target.failure is not None:
            unread.append(label)
        if target.is_owned_elsewhere:
            places[lineage, label, ""] = Sighting(lineage, label, "", served=True, since=now)
        for domain in target.domains:
            place = (lineage, label, domain.domain)
            wanted = version_for(domain.withdrawn, observed.versions, now)
            served = wanted is not None and _has(target, domain, wanted)
            fingerprint = (
                wanted.certificate.fingerprint
                if wanted is not None and served
                else _presented(target, domain, observed.versions)
            )
            places[place] = Sighting(*place, served, now, fingerprint)
            if domain.kind.is_receiver:
                receivers.append(place)
    return Sighted(tuple(places.values()), tuple(unread), tuple(receivers))


def _has(target: ObservedTarget, domain: ObservedDomain, wanted: Version) -> bool:
    if domain.kind.is_receiver:
        return why_deliver(target, domain, wanted) is None
    return is_served(target.served.get(domain.domain, ()), wanted.certificate.fingerprint)


def _presented(
    target: ObservedTarget, domain: ObservedDomain, versions: Sequence[Version]
) -> str | None:
    """Return which of our certificates most of the addresses present, or the receiver holds."""
    ours = {version.certificate.fingerprint for version in versions}
    if domain.kind.is_receiver:
        return domain.bound if domain.bound in ours else None
    addresses = target.served.get(domain.domain, ())
    found = Counter(one.fingerprint for one in addresses if one.fingerprint in ours)
    return found.most_common(1)[0][0] if found else None


def after_run(before: Sequence[Sighting], seen: Mapping[str, Sighted]) -> tuple[Sighting, ...]:
    """Return what is known after a run, given what was before and what it saw of each lineage. What
    it could not look at stays as it was known, and so do lineages that it was not for.
    """
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
    if (before.served, before.fingerprint) == (now.served, now.fingerprint):
        return before
    since = before.since if before.served == now.served else now.since
    return replace(now, since=since, fingerprint=now.fingerprint or before.fingerprint)


def with_delivered(
    seen: Mapping[str, Sighted], reports: Iterable[LineageReport]
) -> dict[str, Sighted]:
    """Return what a run saw last of each lineage, with what its receivers took after that: nothing
    else observes them again.
    """
    return {
        report.lineage: _with_delivered(seen[report.lineage], report)
        for report in reports
        if report.lineage in seen
    }


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
