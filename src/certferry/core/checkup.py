"""All certificates at a glance: how bad it is, how many places have theirs, and what ends first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.certificate import Certificate
from certferry.core.health import (
    RUN_WITHIN,
    Concern,
    Expected,
    Health,
    Recorded,
    concerns_of,
    worst,
)
from certferry.text import Text

_NONE = Text("no certificate is declared")
_DECLARE = Text("declare one under [[certificates]], or name the file with --config FILE")


@dataclass(frozen=True, slots=True)
class Soonest:
    """The certificate that ends first, of those in force and those that places still have."""

    lineage: str
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Checkup:
    """All certificates at a glance. `served` counts the places that have theirs, of all `places`
    that a run has looked at.
    """

    health: Health
    concerns: tuple[Concern, ...]
    certificates: int
    served: int
    places: int
    soonest: Soonest | None = None


def checkup(
    expected: Collection[Expected],
    recorded: Recorded,
    now: datetime,
    run_within: timedelta = RUN_WITHIN,
) -> Checkup:
    """Judge all certificates that are expected."""
    concerns = concerns_of(expected, recorded, now, run_within)
    if not expected:
        concerns = (Concern(Health.UNKNOWN, "none_declared", _NONE, _DECLARE), *concerns)
    names = {one.lineage for one in expected}
    places = [one for one in recorded.sightings if one.lineage in names and not one.is_ceded]
    return Checkup(
        worst(concerns),
        concerns,
        len(expected),
        sum(one.served for one in places),
        len(places),
        _soonest(names, recorded),
    )


def _soonest(names: Collection[str], recorded: Recorded) -> Soonest | None:
    """Return what ends first. A certificate that has taken an earlier one's place everywhere is
    looked at alone.
    """
    missing = {(one.lineage, one.fingerprint) for one in recorded.sightings if not one.served}
    found = [
        Soonest(lineage, version.certificate)
        for lineage in names
        for number, version in enumerate(recorded.versions.get(lineage, ()))
        if number == 0 or (lineage, version.certificate.fingerprint) in missing
    ]
    return min(found, key=lambda one: (one.certificate.not_after, one.lineage), default=None)
