"""Resolvers that lie or keep silent, and domains that lead elsewhere: at real name servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import dns.message
import pytest

from certferry.adapters.probe.resolver_look import ResolverLook
from certferry.core.findings import Code
from certferry.problem import Severity
from certferry_sandbox.nameserver.daemon import DnsDaemon, Reply, Transport
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.zones import Zones

NS = "ns1.example.com"
ADDRESSES = ("127.0.55.1", "127.0.55.9")
DOMAIN, CNAME = "img.example.com", "img.example.com.cdn.test"
ANSWER_WITHIN, IMPATIENT = timedelta(seconds=5), timedelta(seconds=0.4)


@dataclass
class World:
    """A zone, the CDN's zone, and a resolver that knows both."""

    zones: Zones
    dns: DnsService

    @property
    def resolver(self) -> Resolver:
        """The resolver, and its switches."""
        return self.dns.resolver

    def look(self, *more: str, at_home: bool = False, patient: bool = True) -> ResolverLook:
        """Look through it, and through what else is named."""
        places = [(address, self.dns.port) for address in (ADDRESSES[1], *more)]
        within = ANSWER_WITHIN if patient else IMPATIENT
        return ResolverLook(places, within, at_home=at_home)

    def domain(self, *, at_home: bool = False) -> list[tuple[Code | str, Severity]]:
        """Give the codes of what is found at the domain."""
        found = self.look(at_home=at_home).domains({DOMAIN: CNAME})
        assert all(finding.subject == DOMAIN for finding in found)
        return [(finding.code, finding.severity) for finding in found]


@pytest.fixture
def world() -> Iterator[World]:
    """A domain that leads to the CDN is yet to be seeded."""
    zones = Zones()
    zones.add_zone("example.com", [NS])
    zones.add_zone("cdn.test", [NS])
    zones.seed(CNAME, "A", "192.0.2.7")
    server = NameServer(zones, NS, ADDRESSES[0])
    with DnsService(zones, [server], Resolver(zones, [server], ADDRESSES[1])) as dns:
        yield World(zones, dns)


# --- honesty


def test_resolver_that_says_what_is_true(world: World) -> None:
    """A name that does not exist has no address."""
    assert [] == world.look().honesty()


def test_resolver_that_makes_up_an_answer(world: World) -> None:
    """It is named with the address that it gives."""
    world.resolver.invented = "192.0.2.66"

    [finding] = world.look().honesty()

    assert (Code.RESOLVER_INVENTS, Severity.ERROR) == (finding.code, finding.severity)
    assert ADDRESSES[1] == finding.subject
    assert "192.0.2.66" in str(finding.message)


def test_resolver_that_is_silent(world: World) -> None:
    """An error where it is the only one; where another answers, a warning."""
    world.dns.servers[0].down()
    [beside] = world.look(ADDRESSES[0], patient=False).honesty()
    assert (Code.RESOLVER_SILENT, Severity.WARNING) == (beside.code, beside.severity)
    assert ADDRESSES[0] == beside.subject

    world.resolver.down()
    [alone] = world.look(patient=False).honesty()
    assert (Code.RESOLVER_SILENT, Severity.ERROR) == (alone.code, alone.severity)


# --- domains


def test_domain_that_leads_to_the_target(world: World) -> None:
    """Also by way of another name of the operator's."""
    world.zones.seed(DOMAIN, "CNAME", "mine.example.com.")
    world.zones.seed("mine.example.com", "CNAME", f"{CNAME}.")

    assert [] == world.domain()


def test_wildcard_domain_is_looked_at_below(world: World) -> None:
    """Under a label of ours."""
    world.zones.seed("*.w.example.com", "CNAME", f"{CNAME}.")

    assert [] == world.look().domains({"*.w.example.com": CNAME})


def test_domain_that_does_not_exist(world: World) -> None:
    """It is served by none: an error, with the CNAME to set."""
    [finding] = world.look().domains({DOMAIN: CNAME})

    assert (Code.NOT_POINTED, Severity.ERROR) == (finding.code, finding.severity)
    assert f"set a CNAME of {DOMAIN} to {CNAME}" in str(finding.hint)


def test_domain_that_leads_elsewhere(world: World) -> None:
    """It may lead to the target from other places, so it is a warning."""
    world.zones.seed(DOMAIN, "A", "192.0.2.80")

    assert [(Code.POINTED_ELSEWHERE, Severity.WARNING)] == world.domain()


def test_alias_that_leads_elsewhere_is_named(world: World) -> None:
    """Its end tells more than an address."""
    world.zones.seed(DOMAIN, "CNAME", "other.example.com.")
    world.zones.seed("other.example.com", "A", "192.0.2.80")

    [finding] = world.look().domains({DOMAIN: CNAME})

    assert f"{DOMAIN} leads to other.example.com, and not to {CNAME}" in str(finding.message)


def test_addresses_of_the_target_in_the_place_of_a_cname(world: World) -> None:
    """Providers write them there for an apex, where a CNAME may not stand."""
    world.zones.seed(DOMAIN, "A", "192.0.2.7")

    assert [] == world.domain()


@pytest.mark.parametrize("address", ["198.18.0.5", "0.0.0.0", "127.0.0.2"])  # noqa: S104 - what filters answer with
def test_address_that_is_made_up(world: World, address: str) -> None:
    """A proxy on the host answers so, or a filter, whatever the CNAME is."""
    world.zones.seed(DOMAIN, "CNAME", "fake.example.com.")
    world.zones.seed("fake.example.com", "A", address)

    assert [(Code.ADDRESS_MADE_UP, Severity.ERROR)] == world.domain()


def test_loopback_is_true_in_a_world_on_loopback(world: World) -> None:
    """As in the sandbox."""
    world.zones.seed(DOMAIN, "A", "127.0.0.2")

    assert [(Code.POINTED_ELSEWHERE, Severity.WARNING)] == world.domain(at_home=True)


def test_record_of_another_class_is_no_address() -> None:
    """Its fields are others (RFC 1035 §3.4.1 is of the Internet alone)."""

    def handle(wire: bytes, _: Transport) -> Reply:
        response = dns.message.make_response(dns.message.from_wire(wire))
        response.answer += dns.message.from_text(
            f"id 1\n;ANSWER\n{DOMAIN}. 60 CLASS77 A \\# 4 00000000\n{DOMAIN}. 60 IN A 192.0.2.7\n"
        ).answer
        return Reply(response.to_wire())

    daemon = DnsDaemon({ADDRESSES[1]: handle})
    daemon.start()
    try:
        look = ResolverLook([(ADDRESSES[1], daemon.port)], ANSWER_WITHIN)

        assert [] == look.domains({DOMAIN: CNAME})
    finally:
        daemon.stop()


def test_silence_says_nothing_of_a_domain(world: World) -> None:
    """The resolver is told by itself."""
    world.resolver.down()

    assert [] == world.look(patient=False).domains({DOMAIN: CNAME})
