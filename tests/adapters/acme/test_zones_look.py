"""Whether challenges can be written and seen: an account's zones, and whom the world asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from certferry.reconcile.issue import ZoneRouter
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


CHALLENGE = "_acme-challenge.img.example.com"
BELOW_A_CUT = "www.sub.example.com"


def as_it_is(world: NameServers) -> None:
    """Leave the world as it is."""


def cut(world: NameServers) -> None:
    """Delegate a part of the zone elsewhere."""
    world.zones.add_zone("sub.example.com", HOSTS[2:])


def led(*aliases: tuple[str, str]) -> Callable[[NameServers], None]:
    """Add aliases."""

    def add(world: NameServers) -> None:
        for name, target in aliases:
            world.zones.seed(name, "CNAME", target)

    return add


AWAY = led((CHALLENGE, "img.example.net."))
IN_A_CIRCLE = led((CHALLENGE, "a.example.com."), ("a.example.com", f"{CHALLENGE}."))
BY_WILDCARD = led(("*.example.com", "edge.example.net."))


@pytest.mark.parametrize(
    ("prepare", "account", "names", "expected"),
    [
        (as_it_is, Account("example.com"), (), {}),
        (as_it_is, Account("example.net"), (), {CHALLENGE: Code.ZONE_MISSING}),
        (
            as_it_is,
            Account("example.com", paused="example.com"),
            (),
            {CHALLENGE: Code.ZONE_BLOCKED},
        ),
        (as_it_is, Account("no.test"), ("www.no.test",), {"no.test": Code.NOT_DELEGATED}),
        # An account that does not know its name servers, and one that cannot list its zones.
        (as_it_is, Account("example.com", hosts=()), (), {}),
        (as_it_is, Unlisted(), (), {}),
        # What is written above a cut is not seen below it.
        (cut, Account("example.com"), (BELOW_A_CUT,), {"example.com": Code.DELEGATED_ELSEWHERE}),
        (
            cut,
            MemoryDns(["example.com"]),
            (BELOW_A_CUT,),
            {"example.com": Code.DELEGATED_ELSEWHERE},
        ),
        # The zone at the end of an alias is the one that counts.
        (AWAY, Account("example.net", hosts=HOSTS[2:]), (), {}),
        (AWAY, Account("example.com"), (), {"img.example.net": Code.ZONE_MISSING}),
        (IN_A_CIRCLE, Account("example.com"), (), {CHALLENGE: Code.ALIAS_BROKEN}),
        (BY_WILDCARD, Account("example.com"), (), {CHALLENGE: Code.ALIAS_BY_WILDCARD}),
        (
            lambda world: world.resolver.refusing(dns.rcode.SERVFAIL),
            Account("example.com"),
            (),
            {CHALLENGE: Code.NOT_LOOKED_AT},
        ),
    ],
)
def test_account_and_the_world(
    world: NameServers,
    prepare: Callable[[NameServers], None],
    account: object,
    names: tuple[str, ...],
    expected: dict[str, Code],
) -> None:
    """What stands between them is told of each challenge, or zone, apex and wildcard once."""
    prepare(world)

    assert expected == look(world, account, *names)


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


def test_account_that_is_not_let_in_is_told_as_that(world: NameServers) -> None:
    """By the error of the provider."""
    account = Account("example.com")
    account.fail_with(DnsAccessDenied("the token is refused"))

    with pytest.raises(DnsAccessDenied):
        look(world, account)


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
    both = ZoneRouter([("example.org", own), ("example.com", own)])
    shared = ZoneRouter([("example.com", own), ("example.net", other)])
    world.zones.seed("_acme-challenge.led.example.com", "CNAME", "led.example.net.")
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)

    def found(account: Account, provider: ZoneRouter) -> list[Problem]:
        look = ZonesLook("dns", account, world.propagation(), resolvers)
        return look.look([("led.example.com", provider), ("img.example.com", provider)])

    assert [] == found(own, shared)
    assert [] == found(other, shared)
    [missing] = found(own, both)
    assert (Code.ZONE_MISSING, "led.example.net") == (missing.code, missing.subject)
    assert "the CNAME at _acme-challenge.led.example.com leads to led.example.net" in str(
        missing.message
    )


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
