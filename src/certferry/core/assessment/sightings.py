"""Sightings: whether each observed place had the wanted certificate, and since when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from certferry.core.certificates.lineage import Version, Versions, version_for
from certferry.core.desired.certificate import Kind
from certferry.core.observed import observation
from certferry.core.planning.deliveries import why_deliver
from certferry.core.planning.plan import Action
from certferry.core.planning.report import LineageReport, Outcome
from certferry.values import replace

Place = tuple[str, str, str]
"""A lineage, a target, and a domain at the target."""


class Sighting(Struct, frozen=True):
    """The last observation of a place."""

    lineage: str  #: The lineage's name.
    target: str  #: The account's name; for a receiver, the kind.
    domain: str  #: The domain's name; empty if other lineages serve all domains at the target.
    served: bool  #: Whether all answering addresses, or the receiver, had the certificate.
    since: datetime  #: Since when `served` has this value.
    #: The certificate of ours that most addresses present, or that the receiver has. If there is
    #: none, the certificate of the sighting before.
    fingerprint: str | None = None
    #: The earliest end among the certificates at the place that are not ours.
    other_until: datetime | None = None
    #: If a domain is not `served`: whether the target holds a copy, so no upload is needed.
    is_uploaded: bool = False
    #: If a domain is not `served`: the number of addresses that answered.
    answered: int = 0
    #: If a domain is not `served`: the `answered` addresses without the certificate.
    lagging: tuple[str, ...] = ()
    #: Whether visitors get no certificate at all, as for a domain without HTTPS.
    serves_nothing: bool = False

    @property
    def place(self) -> Place:
        """The place of the sighting; a place has at most one sighting."""
        return (self.lineage, self.target, self.domain)

    @property
    def is_owned_elsewhere(self) -> bool:
        """Whether other lineages serve all domains declared for the lineage at the target."""
        return not self.domain


class Sighted(Struct, frozen=True):
    """The observation of a lineage by the last pass of a run."""

    places: tuple[Sighting, ...] = ()  #: The places that the pass observed.
    #: Targets that could not be read.
    unread: tuple[str, ...] = ()
    #: The receivers among `places` that no handshake proves.
    receivers: tuple[Place, ...] = ()
    #: Whether the run observed only receivers.
    only_receivers: bool = False

    def leaves_open(self, target: str) -> bool:
        """Return whether the pass did not read a target, so earlier sightings there still count."""
        return target in self.unread or (self.only_receivers and not Kind(target).is_receiver)


def sighted(lineage: str, observed: observation.Observation, now: datetime) -> Sighted:
    """Return the sightings in an observation. Runs call this function for every lineage, so the
    function must be quick.
    """
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
            sighting = Sighting(*place, served, now, *_presented(target, domain, versions))
            if not target.proves(domain):
                receivers.append(place)
            elif wanted is not None and not served:
                sighting = _with_lag(sighting, target, domain, wanted.fingerprint)
            places[place] = sighting
    unread = tuple(target.label for target in observed.targets if target.failure is not None)
    return Sighted(tuple(places.values()), unread, tuple(receivers))


def _has(
    target: observation.ObservedTarget, domain: observation.ObservedDomain, wanted: Version
) -> bool:
    if domain.kind.is_receiver and why_deliver(target, domain, wanted) is not None:
        return False
    return not target.proves(domain) or observation.is_served(
        target.served.get(domain.domain, ()), wanted.fingerprint
    )


def _presented(
    target: observation.ObservedTarget, domain: observation.ObservedDomain, versions: Versions
) -> tuple[str | None, datetime | None]:
    """Return `Sighting.fingerprint` and `Sighting.other_until` of a place. If no address presents a
    certificate, the end of the bound certificate counts, if known.
    """
    ours = {version.fingerprint for version in versions}
    if not target.proves(domain):
        return domain.bound if domain.bound in ours else None, None
    addresses = target.served.get(domain.domain, ())
    counts = Counter(address.fingerprint for address in addresses if address.fingerprint in ours)
    ends = (
        address.not_after
        for address in addresses
        if address.not_after and address.fingerprint not in ours
    )
    had = next(iter(dict(counts.most_common(1))), None)
    return had, min(ends, default=None if had else domain.bound_until)


def _with_lag(
    sighting: Sighting,
    target: observation.ObservedTarget,
    domain: observation.ObservedDomain,
    fingerprint: str,
) -> Sighting:
    """Return the sighting with the reasons why a domain does not serve the certificate:
    `is_uploaded`, `answered`, `lagging` and `serves_nothing`.
    """
    answered = [a for a in target.served.get(sighting.domain, ()) if a.answered]
    return replace(
        sighting,
        is_uploaded=target.remote_of(fingerprint) is not None,
        answered=len(answered),
        lagging=tuple(a.place for a in answered if a.fingerprint != fingerprint),
        serves_nothing=serves_nothing(target, domain),
    )


def serves_nothing(target: observation.ObservedTarget, domain: observation.ObservedDomain) -> bool:
    """Return whether visitors of a domain get no certificate at all."""
    answered = [a for a in target.served.get(domain.domain, ()) if a.answered]
    is_unbound = domain.bound is None and not domain.binding_hidden
    return (is_unbound or bool(answered)) and not any(a.fingerprint for a in answered)


def after_run(before: Sequence[Sighting], seen: Mapping[str, Sighted]) -> tuple[Sighting, ...]:
    """Return the sightings to store after a run: `before` updated by what the run has `seen`."""
    earlier = {sighting.place: sighting for sighting in before}
    # Sightings at targets that the run did not read, and of lineages outside the run, are kept.
    after = {
        sighting.place: sighting
        for sighting in before
        if sighting.lineage not in seen or seen[sighting.lineage].leaves_open(sighting.target)
    }
    for last in seen.values():
        after |= {
            sighting.place: _joined(earlier.get(sighting.place, sighting), sighting)
            for sighting in last.places
        }
    return tuple(sorted(after.values(), key=lambda sighting: sighting.place))


def _joined(before: Sighting, now: Sighting) -> Sighting:
    since = before.since if before.served == now.served else now.since
    return replace(now, since=since, fingerprint=now.fingerprint or before.fingerprint)


def with_delivered(
    seen: Mapping[str, Sighted], reports: Iterable[LineageReport]
) -> dict[str, Sighted]:
    """Return what the run has `seen`, with the deployments of the last pass, after which the run
    did not observe again: a receiver has the certificate, and a target holds a copy.
    """
    return {
        report.lineage: _with_delivered(seen[report.lineage], report)
        for report in reports
        if report.lineage in seen
    }


def _with_delivered(last: Sighted, report: LineageReport) -> Sighted:
    deployed = {
        (report.lineage, step.target, step.domain)
        for step in report.having(Outcome.DONE)
        if step.action is Action.DEPLOY
    }
    if not deployed:
        return last
    delivered = deployed.intersection(last.receivers)
    targets = {target for _, target, _ in deployed}
    places = list[Sighting]()
    for sighting in last.places:
        if sighting.place in delivered:
            places.append(replace(sighting, served=True, fingerprint=report.fingerprint))
        elif sighting.target in targets and not sighting.served:
            places.append(replace(sighting, is_uploaded=True))
        else:
            places.append(sighting)
    return replace(last, places=tuple(places))
