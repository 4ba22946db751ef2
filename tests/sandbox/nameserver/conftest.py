"""What the tests of the name servers share."""

from __future__ import annotations

from collections.abc import Iterator

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest

from certferry_sandbox.nameserver.service import DnsServer, DnsService, NameServer, Resolver
from certferry_sandbox.zones import Zones
from tests.sandbox.nameserver.questions import BOTH, PATIENCE, Ask
from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """The zones' clock."""
    return ManualClock()


@pytest.fixture
def zones(clock: ManualClock) -> Zones:
    """A DNS provider's zone, a delegated one, a sub-zone and a CDN's zone."""
    store = Zones(clock)
    store.add_zone("example.com", BOTH)
    store.add_zone("dev.example.com", BOTH)
    store.add_zone("lab.example.com", ["ns3.dns.test"])
    store.add_zone("qiniudns.com", ["ns3.dns.test"], negative_ttl=60)
    store.seed("img.example.com", "CNAME", "img.example.com.qiniudns.com")
    for edge in ("127.0.54.1", "127.0.54.2"):
        store.seed("img.example.com.qiniudns.com", "A", edge)
    return store


@pytest.fixture
def service(zones: Zones) -> Iterator[DnsService]:
    """Two servers of example.com, the second 5 s behind, one of the CDN, and the resolver."""
    servers = [
        NameServer(zones, "ns1.dns.test", "127.0.53.1"),
        NameServer(zones, "ns2.dns.test", "127.0.53.2", lag=5),
        NameServer(zones, "ns3.dns.test", "127.0.53.3"),
    ]
    with DnsService(zones, servers, Resolver(zones, servers, "127.0.53.9")) as running:
        yield running


@pytest.fixture
def ask(service: DnsService) -> Ask:
    """Ask a server over UDP."""

    def ask(
        server: DnsServer, name: str, rtype: str = "TXT", timeout: float = PATIENCE
    ) -> dns.message.Message:
        query = dns.message.make_query(name, rtype)
        return dns.query.udp(query, server.address, timeout=timeout, port=service.port)

    return ask
