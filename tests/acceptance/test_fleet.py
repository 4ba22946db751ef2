"""Four hosts with forty lineages and one PostgreSQL: after any harm at any moment, the world is as
after the undisturbed runs of a single host.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry_sandbox.world import Pace, World
from tests.acceptance.fleet import Fleet
from tests.acceptance.requests_made import challenges
from tests.support.postgresql import Postgresql, running_postgresql
from tests.support.tiers import THOROUGH, long, thorough

SHARES = 20
LINEAGES, KILLS, PHASES = (40, 50, 3) if THOROUGH else (5, 4, 2)
"""The numbers of each share; all shares together make a thousand kills."""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """Start a separate server, because the test stops it."""
    with running_postgresql() as running:
        yield running


@pytest.fixture
def world() -> Iterator[World]:
    """Start a separate, fast world for the test, because Pebble freezes now and then over orders
    that hosts abandoned: later shares would find no CA.
    """
    with World(pace=Pace(nameserver_lags=(0.0, 0.0)), nonce_reject=0) as started:
        yield started


@long
@pytest.mark.timeout(600)  # seventy seconds on a machine that does nothing else
@pytest.mark.parametrize(
    "share", [0, *(pytest.param(each, marks=thorough) for each in range(1, SHARES))]
)
def test_killed_frozen_and_cut_off(
    world: World,
    server: Postgresql,
    tmp_path: Path,
    share: int,
) -> None:
    """Each declared certificate was issued once, uploaded once, and is bound; bindings never went
    back to an older certificate; all records are removed; frozen runs wrote nothing under old
    leases. A failure can be repeated with the printed seed.
    """
    seed = f"{share}/{os.urandom(4).hex()}"
    with Fleet(world, server, tmp_path, f"f{share}", LINEAGES, seed) as fleet:
        for phase in range(1, PHASES + 1):
            fleet.declare()
            fleet.harm(KILLS * phase // PHASES - fleet.harmed.total())
            fleet.quiet()

            versions = fleet.versions()
            numbers = {name: len(issued) for name, issued in versions.items()}
            assert dict.fromkeys(fleet.domains, phase) == numbers, seed
            assert phase * LINEAGES == fleet.issued, seed
            issued = {fingerprint for each in versions.values() for fingerprint in each}
            assert Counter(dict.fromkeys(issued, 1)) == fleet.uploads(), seed
            for name, bound in fleet.bound().items():
                in_order = sorted(bound, key=versions[name].index)
                assert bound == in_order, (seed, name)
                assert versions[name][-1] == bound[-1], (seed, name)
            left = [record for record in challenges(world) if f".f{share}-" in record]
            assert [] == left, seed

        sys.stdout.write(f"{fleet.harmed.total()} kills: {dict(fleet.harmed)}, seed {seed}\n")
        assert KILLS <= fleet.harmed.total()
        assert [] == fleet.written_after_waking(), seed
        assert fleet.orders - fleet.issued <= fleet.harmed.total(), seed
