"""A world that tests share, and a machine in it for each test."""

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
    """A world in which nothing is slower than it must be, and no request is made twice, one of
    each worker's.
    """
    with World(pace=PACE, nonce_reject=0) as started:
        yield started


@pytest.fixture(scope="module")
def shared_world(one_world: World) -> Iterator[World]:
    """That world, with domains and certificates of this module's tests alone."""
    with one_world.at_an_empty_qiniu() as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The shared world, in order before and after; no test leaves a challenge record in it."""
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
    """Make a name that no test has used in the shared world."""
    return lambda: f"n{next(_numbers)}.example.com"


@pytest.fixture
def name(new_name: Callable[[], str], world: World) -> str:
    """A domain on the CDN, without HTTPS."""
    fresh = new_name()
    world.add_http_domain(fresh)
    return fresh


@pytest.fixture
def host(world: World, tmp_path: Path, name: str) -> Host:
    """A machine that is to get a certificate for the domain, and has done nothing yet."""
    return Host(world, tmp_path, certificate(name))


@pytest.fixture
def hook() -> Iterator[EventReceiver]:
    """A service that takes messages."""
    with EventReceiver() as service:
        yield service


@pytest.fixture
def heart() -> Iterator[HeartbeatService]:
    """A service that counts pings, each of which is as it is to be."""
    with HeartbeatService() as service:
        yield service
        assert [] == service.mistakes
