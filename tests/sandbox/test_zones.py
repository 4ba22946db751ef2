"""The zones: current records of the provider, and older records of a server with a lag."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry_sandbox.zones import Zones
from tests.support.manual_clock import ManualClock

CHALLENGE = "_acme-challenge.example.com"
NAMESERVERS = ("ns1.dns.test", "ns2.dns.test")


@pytest.fixture
def zones(clock: ManualClock) -> Zones:
    store = Zones(clock)
    store.add_zone("example.com", NAMESERVERS)
    return store


def shown(zones: Zones, lag: float, name: str = CHALLENGE) -> set[str]:
    return {record.value for record in zones.served("example.com", name, zones.clock() - lag)}


def test_server_that_never_catches_up_shows_the_seeded_records_alone(
    zones: Zones, clock: ManualClock
) -> None:
    """With an endless lag no change arrives; seeded records are shown."""
    zones.create(CHALLENGE, "TXT", "v")
    clock.advance(1e9)

    assert set() == shown(zones, math.inf)
    assert {"ns1.dns.test.", "ns2.dns.test."} == shown(zones, math.inf, "example.com")


def test_ids_grow_and_are_not_given_again(zones: Zones) -> None:
    """An id names a single record for ever."""
    first = zones.create(CHALLENGE, "TXT", "a")
    zones.remove(first.id)
    second = zones.create(CHALLENGE, "TXT", "a")

    assert first.id < second.id
    with pytest.raises(KeyError):
        zones.remove(first.id)


def test_name_belongs_to_its_innermost_zone(zones: Zones) -> None:
    """A sub-zone takes its names from the zone above."""
    zones.add_zone("dev.example.com", NAMESERVERS)

    above = [zone.name for zone in zones.zones_above("a.DEV.example.com.")]
    assert ["dev.example.com", "example.com"] == above
    assert "dev.example.com" == zones.create("a.dev.example.com", "A", "192.0.2.1").zone
    assert [] == zones.zones_above("example.org")


@pytest.mark.parametrize(
    ("name", "nameservers"), [("Example.com.", NAMESERVERS), ("example.org", ())]
)
def test_zone_twice_or_without_servers_is_refused(
    zones: Zones, name: str, nameservers: tuple[str, ...]
) -> None:
    """A zone exists once and a name server serves it."""
    with pytest.raises(ValueError, match=r"exists already|nobody serves"):
        zones.add_zone(name, nameservers)


def test_record_outside_every_zone_is_refused(zones: Zones) -> None:
    """A name outside all zones cannot have records."""
    with pytest.raises(KeyError):
        zones.create("example.org", "A", "192.0.2.1")


def test_name_above_a_record_exists(zones: Zones) -> None:
    """An empty non-terminal exists as long as a name below is shown (RFC 8020)."""
    zones.create("_acme-challenge.img.example.com", "TXT", "v")
    now = zones.clock()

    assert zones.exists("example.com", "img.example.com", now)
    assert not zones.exists("example.com", "mg.example.com", now)
    assert not zones.exists("example.com", "img.example.com", now - 5)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=20), st.floats(0, 30))
def test_lagging_server_shows_the_records_of_an_earlier_moment(
    steps: list[tuple[bool, float]], lag: float
) -> None:
    """A server with lag L shows at T exactly the records that a server without lag showed at T
    - L.
    """
    clock = ManualClock()
    zones = Zones(clock)
    zones.add_zone("example.com", NAMESERVERS)
    past: list[tuple[float, set[str], int]] = [(-math.inf, set(), 1)]
    ids: list[int] = []
    for number, (create, pause) in enumerate(steps):
        if create or not ids:
            ids.append(zones.create(CHALLENGE, "TXT", str(number)).id)
        else:
            zones.remove(ids.pop(0))
        now = clock()
        past.append((now, shown(zones, 0), zones.serial("example.com", now)))
        clock.advance(pause)

    then = clock() - lag
    _, values, serial = [entry for entry in past if entry[0] <= then][-1]
    assert values == shown(zones, lag)
    assert serial == zones.serial("example.com", then)
