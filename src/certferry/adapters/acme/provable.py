"""Where the challenges of names are written, and whether an account can write there at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

from certferry.adapters.acme.order_context import Propagation
from certferry.core.identifiers import base_name, challenge_name
from certferry.core.survey import FoundZone
from certferry.core.zone_choice import must_have_zone
from certferry.errors import ZoneNotFound
from certferry.ports.dns import DnsProvider, SharedOut
from certferry.ports.survey import ZoneFinder, ZoneKeeper
from certferry.text import Text

_WITHOUT_WAIT = Text(
    "where the challenge is delegated by a CNAME, set `doh` under [dns] in the place of `wait`;"
    " else add the domain to the account, or name the account that has it as `dns` of the"
    " certificate"
)

FindZone = Callable[[str], FoundZone]
"""Gives the zone of an account that holds a place. Raises `DnsError`."""


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
    known: dict[DnsProvider, FindZone | None] = {}
    for name in dict.fromkeys(map(base_name, names)):
        asked = challenge_name(name)
        place = propagation.follow(asked)
        try:
            account = account_at(dns, place)
            if account not in known:
                known[account] = finder_of(account)
            find = known[account]
            if find is not None:
                find(place)
        except ZoneNotFound as problem:
            yield name, explained(problem, asked, place, propagation)


def account_at(dns: DnsProvider, place: str) -> DnsProvider:
    """Give the account that writes at a place. Raises `DnsError`."""
    return cast("SharedOut", dns).at(place) if hasattr(dns, "at") else dns


def finder_of(dns: DnsProvider) -> FindZone | None:
    """Give what finds an account's zones, `None` where its provider cannot. Raises `DnsError`."""
    if hasattr(dns, "zone_of"):
        return cast("ZoneFinder", dns).zone_of
    zones = cast("ZoneKeeper", dns).zones() if hasattr(dns, "zones") else None
    return None if zones is None else partial(_among, zones)


def _among(zones: Sequence[FoundZone], place: str) -> FoundZone:
    return must_have_zone(place, zones)


def explained(
    problem: ZoneNotFound, asked: str, place: str, propagation: Propagation
) -> ZoneNotFound:
    """Say as well which CNAME has led to the place that no zone holds, which does not count, or
    that none was looked for.
    """
    if not propagation.sees_cnames:
        said = Text(
            "{problem}; whether a CNAME leads elsewhere is not known, since with `wait` under [dns]"
            " nothing is asked",
            problem=problem.message,
        )
        return ZoneNotFound(said, hint=_WITHOUT_WAIT)
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
