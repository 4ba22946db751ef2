"""Whether an account has a zone that a challenge's record can be written into."""

from __future__ import annotations

from collections.abc import Sequence

from certferry.core.identifiers import CHALLENGE, suffixes
from certferry.core.survey import FoundZone
from certferry.errors import DnsRejected, ZoneNotFound
from certferry.text import Text

NAMED = 5
"""Zones that a message names."""


def must_have_zone(name: str, zones: Sequence[FoundZone]) -> FoundZone:
    """Return the longest zone that holds a name and takes records. Raises `ZoneNotFound` where none
    holds it, and `DnsRejected` where those that do take none.
    """
    by_name = {zone.name: zone for zone in zones}
    holding = [by_name[suffix] for suffix in suffixes(name) if suffix in by_name]
    for zone in holding:
        if zone.problem is None:
            return zone
    if holding and holding[0].problem is not None:
        raise DnsRejected(
            holding[0].problem,
            hint=Text("no challenge can be written there until that is put right at the provider"),
        )
    raise no_zone_for(name, [zone.name for zone in sorted(zones, key=_usable_first)])


def no_zone_for(name: str, zones: Sequence[str]) -> ZoneNotFound:
    """Return the error that says which zones an account has instead, and the CNAME by which the
    first of them would do for a challenge.
    """
    hint = Text(
        "{holds}: add the domain to the account, or name the account that has it as `dns` of"
        " the certificate",
        holds=_held(zones),
    )
    if zones and name.startswith(f"{CHALLENGE}."):
        hint = Text(
            "{hint}. Where neither can be, set this record once, and the challenges are written at"
            " its end: {record}",
            hint=hint,
            record=f"{name}. CNAME {CHALLENGE}.{zones[0]}.",
        )
    return ZoneNotFound(Text("no zone of the account holds {name}", name=name), hint=hint)


def _usable_first(zone: FoundZone) -> tuple[bool, str]:
    return zone.problem is not None, zone.name


def _held(zones: Sequence[str]) -> Text:
    if not zones:
        return Text("it has none at all")
    named, more = zones[:NAMED], len(zones) - NAMED
    if more > 0:
        return Text("it has {zones} and {more} more", zones=named, more=more)
    return Text("it has {zones}", zones=named)
