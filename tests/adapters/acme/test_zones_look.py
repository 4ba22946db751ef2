"""Whether challenges can be written and seen: an account's zones, and whom the world asks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import dns.rcode
import pytest

from certferry.adapters.acme.examination import ZonesLook
from certferry.adapters.acme.propagation import FixedWait
from certferry.adapters.acme.resolvers import Resolvers
from certferry.core.discovery.survey import FoundZone
from certferry.core.findings import Code
from certferry.errors import DnsAccessDenied
from certferry.problem import Problem
from certferry.reconcile.dns_by_zone import ByZone
from certferry.text import Text
from certferry_sandbox.testing.memory_dns import MemoryDns
from tests.adapters.acme.name_servers import (
    ANSWER_WITHIN,
    HOSTS,
    RESOLVER,
    START,
    NameServers,
    name_servers,
)


class Account(MemoryDns):
    """An account whose zones are served by the hosts that it says, some of them paused."""

    def __init__(self, *zones: str, hosts: tuple[str, ...] = HOSTS[:2], paused: str = "") -> None:
        super().__init__(zones)
        self._hosts = frozenset(hosts)
        self._paused = paused

    def zones(self) -> tuple[FoundZone, ...]:
        """See `ports.survey.ZoneKeeper.zones`."""
        paused = Text("it is paused")
        return tuple(
            FoundZone(zone.name, paused if zone.name == self._paused else None)
            for zone in super().zones()
        )

    def name_servers(self, zone: str) -> frozenset[str]:
        """See `ports.examination.Delegated.name_servers`."""
        return self._hosts


class Unlisted:
    """A provider that cannot list its zones."""

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        raise AssertionError

    remove_txt = add_txt  # neither is called


@pytest.fixture
def world() -> Iterator[NameServers]:
    """Name servers of example.com and example.net, and a resolver."""
    with name_servers() as servers:
        yield servers


def look(world: NameServers, account: object, *names: str) -> dict[str, Code | str]:
    """Look at names, and give the codes by what they are about."""
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)
    zones = ZonesLook("dns", account, world.propagation(), resolvers)  # type: ignore[arg-type]  # one is no provider
    asked = names or ("img.example.com", "*.img.example.com")
    found = zones.look((name, account) for name in asked)  # type: ignore[misc]  # one is no provider
    return {finding.subject: finding.code for finding in found}


def test_zone_that_is_delegated_to_the_account(world: NameServers) -> None:
    """There is nothing to tell."""
    assert {} == look(world, Account("example.com"))


def test_account_without_the_zone(world: NameServers) -> None:
    """Each challenge that it cannot write is told, apex and wildcard once."""
    found = look(world, Account("example.net"), "img.example.com", "*.img.example.com")

    assert {"_acme-challenge.img.example.com": Code.ZONE_MISSING} == found


def test_zone_that_takes_no_records(world: NameServers) -> None:
    """It is there, and of no use."""
    found = look(world, Account("example.com", paused="example.com"))

    assert {"_acme-challenge.img.example.com": Code.ZONE_BLOCKED} == found


def test_delegation_that_leads_elsewhere(world: NameServers) -> None:
    """The account has the zone, and the world asks others: both are named."""
    account = Account("example.com", hosts=("ns9.other.test",))
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)

    [finding] = ZonesLook("dns", account, world.propagation(), resolvers).look(
        [("www.example.com", account)]
    )

    assert (Code.DELEGATED_ELSEWHERE, "example.com") == (finding.code, finding.subject)
    assert "ns1.dns.test, ns2.dns.test" in str(finding.message)
    assert "at its registrar to ns9.other.test" in str(finding.hint)


def test_part_of_the_zone_that_is_delegated_elsewhere(world: NameServers) -> None:
    """What is written above a cut is not seen below it."""
    world.zones.add_zone("sub.example.com", HOSTS[2:])

    found = look(world, Account("example.com"), "www.sub.example.com")

    assert {"example.com": Code.DELEGATED_ELSEWHERE} == found


def test_account_that_does_not_know_its_name_servers(world: NameServers) -> None:
    """Which zone the world asks is compared still."""
    assert {} == look(world, Account("example.com", hosts=()))
    world.zones.add_zone("sub.example.com", HOSTS[2:])

    found = look(world, MemoryDns(["example.com"]), "www.sub.example.com")

    assert {"example.com": Code.DELEGATED_ELSEWHERE} == found


def test_domain_that_no_registry_delegates(world: NameServers) -> None:
    """The account may have a zone of any name."""
    found = look(world, Account("nobody-has.test"), "www.nobody-has.test")

    assert {"nobody-has.test": Code.NOT_DELEGATED} == found


def test_challenge_that_is_delegated_by_an_alias(world: NameServers) -> None:
    """The zone at the end of it is the one that counts."""
    world.zones.seed("_acme-challenge.img.example.com", "CNAME", "img.example.net.")

    assert {} == look(world, Account("example.net", hosts=HOSTS[2:]), "img.example.com")
    missing = look(world, Account("example.com"), "img.example.com")
    assert {"img.example.net": Code.ZONE_MISSING} == missing


def test_aliases_in_a_circle(world: NameServers) -> None:
    """They lead nowhere."""
    world.zones.seed("_acme-challenge.img.example.com", "CNAME", "a.example.com.")
    world.zones.seed("a.example.com", "CNAME", "_acme-challenge.img.example.com.")

    found = look(world, Account("example.com"), "img.example.com")

    assert {"_acme-challenge.img.example.com": Code.ALIAS_BROKEN} == found


def test_resolver_that_fails(world: NameServers) -> None:
    """What could not be looked at is told as that."""
    world.resolver.refusing(dns.rcode.SERVFAIL)

    found = look(world, Account("example.com"), "img.example.com")

    assert {"_acme-challenge.img.example.com": Code.NOT_LOOKED_AT} == found


def test_account_that_is_not_let_in_is_told_as_that(world: NameServers) -> None:
    """By the error of the provider."""
    account = Account("example.com")
    account.fail_with(DnsAccessDenied("the token is refused"))

    with pytest.raises(DnsAccessDenied):
        look(world, account)


def test_provider_that_cannot_list_its_zones_is_not_asked(world: NameServers) -> None:
    """Nothing is known, so nothing is told."""
    assert {} == look(world, Unlisted())


def test_cname_that_may_be_there_and_is_not_looked_for() -> None:
    """With a wait in the place of every question it is never seen, and none is printed to be set:
    what helps is another way to see it.
    """
    account = MemoryDns(["example.com"])
    blind = FixedWait(timedelta(seconds=1), lambda _: None, lambda: START)
    zones = ZonesLook("dns", account, blind, None)

    [finding] = zones.look([("img.example.org", account)])

    assert Code.ZONE_MISSING == finding.code
    assert "with `wait` under [dns] nothing is asked" in str(finding.message)
    assert "`doh` under [dns] in the place of `wait`" in str(finding.hint)
    assert "CNAME _acme" not in str(finding.hint)


def test_name_that_another_account_writes_is_left_to_it(world: NameServers) -> None:
    """Also where a CNAME leads there; what no account has, is told with the CNAME to set."""
    own, other = Account("example.com"), Account("example.net", hosts=HOSTS[2:])
    both = ByZone([("example.org", own), ("example.com", own)])
    shared = ByZone([("example.com", own), ("example.net", other)])
    world.zones.seed("_acme-challenge.led.example.com", "CNAME", "led.example.net.")
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)

    def found(account: Account, provider: ByZone) -> list[Problem]:
        look = ZonesLook("dns", account, world.propagation(), resolvers)
        return look.look([("led.example.com", provider), ("img.example.com", provider)])

    assert [] == found(own, shared)
    assert [] == found(other, shared)
    [missing] = found(own, both)
    assert (Code.ZONE_MISSING, "led.example.net") == (missing.code, missing.subject)
    assert "the CNAME at _acme-challenge.led.example.com leads to led.example.net" in str(
        missing.message
    )


def test_wildcard_in_a_zone_of_the_account_is_no_trouble(world: NameServers) -> None:
    """It is told, since `dig` shows a CNAME where certferry says that there is none."""
    world.zones.seed("*.example.com", "CNAME", "edge.example.net.")

    found = look(world, Account("example.com"))

    assert {"_acme-challenge.img.example.com": Code.ALIAS_BY_WILDCARD} == found


def test_wildcard_that_answers_for_a_challenge_is_explained(world: NameServers) -> None:
    """Its CNAME is seen, and is not the one that is missing."""
    world.zones.seed("*.example.net", "CNAME", "edge.cdn.test.")
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)
    account = Account("example.com")

    [missing] = ZonesLook("dns", account, world.propagation(), resolvers).look(
        [("img.example.net", account)]
    )

    challenge = "_acme-challenge.img.example.net"
    assert f"{challenge}. CNAME _acme-challenge.example.com." in str(missing.hint)
    assert "the CNAME to edge.cdn.test that is seen there is a wildcard's" in str(missing.message)
