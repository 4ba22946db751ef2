"""Pebble, DNS, and a bench between the two."""

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
def new_ca(dns_service: DnsService) -> Iterator[Pebble]:
    """Another CA, without accounts of other tests."""
    with Pebble(dns_service.resolver_endpoint, nonce_reject=0) as new_ca:
        yield new_ca


@pytest.fixture
def new_bench(pebble: Pebble, zones: Zones, tmp_path: Path) -> Iterator[Callable[[], Bench]]:
    """Makes benches at the shared CA, each with its own names."""
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
    """The sentences of a wait."""
    return Reports()
