"""Where the challenge of a name is written, and whether its account has the zone for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from certferry.core.certificates.names import base_name, challenge_name
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import must_have_zone
from certferry.errors import ZoneNotFound
from certferry.ports.dns import DnsProvider, SharedOut
from certferry.ports.survey import ZoneFinder, ZoneKeeper
from certferry.text import Text

Report = Callable[[Text, datetime, datetime], None]
"""Takes a sentence about what the run waits for, since when, and until when at most."""

FindZone = Callable[[str], FoundZone]
"""Returns the zone of an account that holds a place. Raises `DnsError`."""

_WITHOUT_WAIT = Text(
    "where the challenge is delegated by a CNAME, set `doh` under [dns] in the place of `wait`;"
    " else add the domain to the account, or name the account that has it as `dns` of the"
    " certificate"
)


class Propagation(Protocol):
    """Asks the authoritative name servers."""

    @property
    def sees_cnames(self) -> bool:
        """Whether CNAMEs are looked for at all."""
        ...

    def follow(self, name: str) -> str:
        """Return the name at which a TXT value for `name` must be put: the end of its CNAMEs."""
        ...

    def wildcard_alias(self, name: str) -> str | None:
        """Return the name that a wildcard makes this one an alias of, which `follow` passes
        over.
        """
        ...

    def wait(self, wanted: Mapping[str, frozenset[str]], report: Report) -> None:
        """Wait until every authoritative server shows the values. Raises `DnsError`."""
        ...


def must_be_writable(names: Sequence[str], dns: DnsProvider, propagation: Propagation) -> None:
    """Refuse names whose challenges have no zone to be written into. Raises `DnsError`."""
    for _, problem in unwritable(names, dns, propagation):
        raise problem


def unwritable(
    names: Sequence[str], dns: DnsProvider, propagation: Propagation
) -> Iterator[tuple[str, ZoneNotFound]]:
    """Yield the names, without `*.`, whose challenges no zone can be found for, and why. Raises
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
    """Return the account that writes at a place. Raises `DnsError`."""
    return dns.at(place) if isinstance(dns, SharedOut) else dns


def finder_of(dns: DnsProvider) -> FindZone | None:
    """Return what finds an account's zones, `None` where its provider cannot. Raises `DnsError`."""
    if isinstance(dns, ZoneFinder):
        return dns.zone_of
    return partial(must_have_zone, zones=dns.zones()) if isinstance(dns, ZoneKeeper) else None


def explained(
    problem: ZoneNotFound, asked: str, place: str, propagation: Propagation
) -> ZoneNotFound:
    """Add which CNAME has led to the place that no zone holds, which does not count, or that none
    was looked for.
    """
    if not propagation.sees_cnames:
        message = Text(
            "{problem}; whether a CNAME leads elsewhere is not known, since with `wait` under [dns]"
            " nothing is asked",
            problem=problem.message,
        )
        return ZoneNotFound(message, hint=_WITHOUT_WAIT)
    if place != asked:
        message = Text(
            "the CNAME at {name} leads to {place}, and {problem}",
            name=asked,
            place=place,
            problem=problem.message,
        )
        return ZoneNotFound(message, hint=problem.hint)
    target = propagation.wildcard_alias(asked)
    if target is None:
        return problem
    message = Text(
        "{problem}; the CNAME to {target} that is seen there is a wildcard's and counts for"
        " nothing, since it gives way to what is set at the name itself",
        problem=problem.message,
        target=target,
    )
    return ZoneNotFound(message, hint=problem.hint)
