"""A world that the tests of a worker share, and a machine in the world for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certferry_sandbox.heartbeat import HeartbeatService
from certferry_sandbox.messages.event_receiver import EventReceiver
from certferry_sandbox.world import Pace, World
from tests.acceptance.host import Host, certificate
from tests.acceptance.requests_made import challenges

PACE = Pace(nameserver_lags=(0.0, 0.0))
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def one_world() -> Iterator[World]:
    """Start a fast world for the tests of a worker: name servers show records at once, and the CA
    accepts every nonce.
    """
    with World(pace=PACE, nonce_reject=0) as started:
        yield started


@pytest.fixture(scope="module")
def shared_world(one_world: World) -> Iterator[World]:
    """Return the worker's world, with an empty CDN account for the tests of the module."""
    with one_world.at_an_empty_qiniu() as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """Return the shared world. After the test, repair the services and assert that all new
    challenge records are gone.
    """
    before = challenges(shared_world)
    yield shared_world
    for service in shared_world.qiniu.services:
        service.faults.clear()
    shared_world.dnspod.faults.clear()
    for server in (shared_world.dns.resolver, *shared_world.dns.servers):
        server.recover()
    assert before == challenges(shared_world)


@pytest.fixture
def new_name() -> Callable[[], str]:
    """Return a function that makes a fresh name for the shared world."""
    return lambda: f"n{next(_numbers)}.example.com"


@pytest.fixture
def name(new_name: Callable[[], str], world: World) -> str:
    """Add a CDN domain with HTTPS off, and return the domain."""
    fresh = new_name()
    world.add_http_domain(fresh)
    return fresh


@pytest.fixture
def host(world: World, tmp_path: Path, name: str) -> Host:
    """Return a machine that declares a certificate for the domain, before its first run."""
    return Host(world, tmp_path, certificate(name))


@pytest.fixture
def hook() -> Iterator[EventReceiver]:
    """Run a receiver of messages."""
    with EventReceiver() as service:
        yield service


@pytest.fixture
def heartbeat() -> Iterator[HeartbeatService]:
    """Run a service that counts pings, and assert that every ping was well-formed."""
    with HeartbeatService() as service:
        yield service
        assert [] == service.mistakes
