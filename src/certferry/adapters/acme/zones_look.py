"""Look whether challenges can be written and seen: the zones of an account, and whom the world asks
for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import cast

from certferry.adapters.acme.names_look import AT_ONCE
from certferry.adapters.acme.order_context import Propagation
from certferry.adapters.acme.provable import account_at, explained, finder_of
from certferry.adapters.acme.resolvers import Resolvers
from certferry.core.findings import Code, Finding, Severity, error, of_error
from certferry.core.identifiers import challenge_name
from certferry.errors import DnsError, DnsRejected, DnsUnavailable, ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.examination import Delegated
from certferry.text import Text


class ZonesLook:
    """Looks at the zones of one account; without `resolvers` at nothing but the account. Its method
    raises `DnsError` where the account cannot be asked.
    """

    def __init__(
        self,
        account: str,
        dns: DnsProvider,
        propagation: Propagation,
        resolvers: Resolvers | None,
    ) -> None:
        self._account = account
        self._dns = dns
        self._propagation = propagation
        self._resolvers = resolvers

    def look(self, names: Iterable[tuple[str, DnsProvider]]) -> list[Finding]:
        """Return what would keep the challenges of these names from being written, or seen. Each
        has the provider of its certificate, which may be several accounts: what goes to another
        one is left to the look at that.
        """
        find = finder_of(self._dns)
        if find is None:
            return []
        wanted = list(dict.fromkeys((challenge_name(name), dns) for name, dns in names))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            places = list(pool.map(self._place, (asked for asked, _ in wanted)))
        findings = [place for place in places if isinstance(place, Finding)]
        held: dict[str, str] = {}
        for (asked, dns), place in zip(wanted, places, strict=True):
            if isinstance(place, Finding):
                continue
            try:
                if account_at(dns, place) is self._dns:
                    held.setdefault(find(place).name, place)
                    findings += self._wildcard(asked) if place == asked else ()
            except DnsError as problem:
                findings.append(self._unwritable(asked, place, problem))
        for zone, place in held.items():
            findings += self._delegation(zone, place)
        return findings

    def _place(self, name: str) -> str | Finding:
        try:
            return self._propagation.follow(name)
        except DnsRejected as problem:
            return of_error(Code.ALIAS_BROKEN, name, problem)
        except DnsError as problem:
            return of_error(Code.NOT_LOOKED_AT, name, problem, Severity.WARNING)

    def _wildcard(self, asked: str) -> Iterator[Finding]:
        """Explain a CNAME that is seen at a challenge's name and is a wildcard's."""
        with suppress(DnsUnavailable):
            target = self._propagation.wildcard_alias(asked)
            if target is not None:
                message = Text(
                    "a wildcard's CNAME to {target} is seen at {name}", target=target, name=asked
                )
                fix = Text(
                    "nothing to do: the wildcard no longer applies once the"
                    " challenge is written there"
                )
                yield Finding(Severity.INFO, Code.ALIAS_BY_WILDCARD, asked, message, fix)

    def _unwritable(self, asked: str, place: str, problem: DnsError) -> Finding:
        if not isinstance(problem, ZoneNotFound):
            return of_error(Code.ZONE_BLOCKED, place, problem)
        with suppress(DnsUnavailable):  # of a resolver; what is wrong with the zone is known
            problem = explained(problem, asked, place, self._propagation)
        return of_error(Code.ZONE_MISSING, place, problem)

    def _delegation(self, zone: str, place: str) -> Iterator[Finding]:
        """Compare whom the world asks about a place in a zone with who serves the account's."""
        if self._resolvers is None:
            return
        try:
            public = self._resolvers.zone_of(place)
            asked = self._resolvers.name_servers(public)
        except ZoneNotFound as problem:
            yield of_error(Code.NOT_DELEGATED, zone, problem)
            return
        except DnsError as problem:
            yield of_error(Code.NOT_LOOKED_AT, zone, problem, Severity.WARNING)
            return
        own = self._own_servers(zone)
        if public != zone or (own and not own.intersection(asked)):
            yield self._elsewhere(zone, place, asked, own)

    def _own_servers(self, zone: str) -> frozenset[str]:
        if not hasattr(self._dns, "name_servers"):
            return frozenset()
        return cast("Delegated", self._dns).name_servers(zone)

    def _elsewhere(
        self, zone: str, place: str, asked: Sequence[str], own: frozenset[str]
    ) -> Finding:
        message = Text(
            "the account {account} has the zone {zone}, but the public DNS asks other name"
            " servers about {place}: {asked}",
            account=self._account,
            zone=zone,
            place=place,
            asked=list(asked),
        )
        fix = Text("name as `dns` of the certificate the account that those name servers show")
        if own:
            fix = Text(
                "set the domain's name servers at its registrar to {own}, or name as `dns` of the"
                " certificate the account that the others show",
                own=sorted(own),
            )
        return error(Code.DELEGATED_ELSEWHERE, zone, message, fix)
