"""Real Pebble, real DNS, and a bench between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from certferry_sandbox.nameserver.service import DnsService
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import Bench, Ca
from tests.adapters.acme.name_servers import NameServers, Reports, name_servers


@pytest.fixture(scope="session")
def zones(ca: Ca) -> Zones:
    return ca.zones


@pytest.fixture(scope="session")
def dns_service(ca: Ca) -> DnsService:
    return ca.dns


@pytest.fixture(scope="session")
def pebble(ca: Ca) -> Pebble:
    return ca.pebble


@pytest.fixture(scope="session")
def newborn(dns_service: DnsService) -> Iterator[Pebble]:
    """Another CA, at which no test has an account."""
    with Pebble(dns_service.resolver_endpoint, nonce_reject=0) as newborn:
        yield newborn


@pytest.fixture
def new_bench(pebble: Pebble, zones: Zones, tmp_path: Path) -> Iterator[Callable[[], Bench]]:
    """Makes benches at the common CA, each with names of its own."""
    with ExitStack() as running:

        def new_bench() -> Bench:
            return running.enter_context(Bench(pebble, zones, tmp_path))

        yield new_bench


@pytest.fixture
def bench(new_bench: Callable[[], Bench]) -> Bench:
    return new_bench()


@pytest.fixture
def world() -> Iterator[NameServers]:
    with name_servers() as world:
        yield world


@pytest.fixture
def reports() -> Reports:
    """What is reported while waiting."""
    return Reports()
