"""Where the challenges of names are written, and whether an account can write there at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from certferry.adapters.acme.surroundings import Propagation
from certferry.core.identifiers import base_name, challenge_name
from certferry.core.survey import FoundZone
from certferry.core.zone_choice import must_have_zone
from certferry.errors import ZoneNotFound
from certferry.ports.dns import DnsProvider, SharedOut
from certferry.ports.survey import ZoneKeeper
from certferry.text import Text


def must_be_writable(names: Sequence[str], dns: DnsProvider, propagation: Propagation) -> None:
    """See that each name's challenge has a zone to be written into. Raises `DnsError`."""
    for _, problem in unwritable(names, dns, propagation):
        raise problem


def unwritable(
    names: Sequence[str], dns: DnsProvider, propagation: Propagation
) -> Iterator[tuple[str, ZoneNotFound]]:
    """Give the names, without `*.`, whose challenges no zone can be found for, and why. Raises
    `DnsError` for anything else that is in the way.
    """
    known: dict[DnsProvider, tuple[FoundZone, ...] | None] = {}
    for name in dict.fromkeys(map(base_name, names)):
        asked = challenge_name(name)
        place = propagation.follow(asked)
        try:
            account = account_at(dns, place)
            if account not in known:
                known[account] = zones_of(account)
            zones = known[account]
            if zones is not None:
                must_have_zone(place, zones)
        except ZoneNotFound as problem:
            yield name, explained(problem, asked, place, propagation)


def account_at(dns: DnsProvider, place: str) -> DnsProvider:
    """Give the account that writes at a place. Raises `DnsError`."""
    return cast("SharedOut", dns).at(place) if hasattr(dns, "at") else dns


def zones_of(dns: DnsProvider) -> tuple[FoundZone, ...] | None:
    """Give an account's zones, `None` where its provider cannot list them. Raises `DnsError`."""
    return cast("ZoneKeeper", dns).zones() if hasattr(dns, "zones") else None


def explained(
    problem: ZoneNotFound, asked: str, place: str, propagation: Propagation
) -> ZoneNotFound:
    """Say as well which CNAME has led to the place that no zone holds, or which does not count."""
    if place != asked:
        said = Text(
            "the CNAME at {name} leads to {place}, and {problem}",
            name=asked,
            place=place,
            problem=problem.message,
        )
        return ZoneNotFound(said, hint=problem.hint)
    target = propagation.wildcard_alias(asked)
    if target is None:
        return problem
    said = Text(
        "{problem}; the CNAME to {target} that is seen there is a wildcard's and counts for"
        " nothing, since it gives way to what is set at the name itself",
        problem=problem.message,
        target=target,
    )
    return ZoneNotFound(said, hint=problem.hint)
