"""Real Pebble, real DNS, and a bench between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from certferry.sandbox.nameserver import DnsService, NameServer, Resolver
from certferry.sandbox.pebble import Pebble
from certferry.sandbox.zones import Zones
from tests.adapters.acme.bench import ZONE, Bench


@pytest.fixture(scope="session")
def zones() -> Zones:
    """The zones that the CA's resolver knows."""
    zones = Zones()
    zones.add_zone(ZONE, ["ns1.dns.test"])
    return zones


@pytest.fixture(scope="session")
def dns_service(zones: Zones) -> Iterator[DnsService]:
    """The CA's resolver, and the name server that is asked by it."""
    servers = [NameServer(zones, "ns1.dns.test", "127.0.54.1")]
    with DnsService(zones, servers, Resolver(zones, servers, "127.0.54.9")) as service:
        yield service


@pytest.fixture(scope="session")
def pebble(dns_service: DnsService) -> Iterator[Pebble]:
    """A CA that refuses no good nonce."""
    with Pebble(dns_service.resolver_endpoint, nonce_reject=0) as pebble:
        yield pebble


@pytest.fixture
def new_bench(pebble: Pebble, zones: Zones, tmp_path: Path) -> Iterator[Callable[[], Bench]]:
    """Makes benches at the common CA, each with names of its own."""
    with ExitStack() as running:

        def new_bench() -> Bench:
            bench = Bench(pebble, zones, tmp_path)
            running.enter_context(bench.proxy)
            return bench

        yield new_bench


@pytest.fixture
def bench(new_bench: Callable[[], Bench]) -> Bench:
    """A bench of the test's own at the common CA."""
    return new_bench()
