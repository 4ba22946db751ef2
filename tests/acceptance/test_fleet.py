"""Four hosts over forty lineages and one PostgreSQL: whatever befalls them at whatever moment, the
world ends as if one host had done it all undisturbed.
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
"""Of each share; all shares together are a thousand kills."""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A server that is stopped in the middle: no other test's."""
    with running_postgresql() as running:
        yield running


@pytest.fixture
def world() -> Iterator[World]:
    """A world of this test's own, in which nothing is slower than it must be, and a request is made
    once. Pebble freezes now and then over orders that hosts left in the middle: the shares after
    that one would find no CA.
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
    """For each that is declared one certificate was issued, uploaded once, and is bound; none was
    bound after a newer one; no record is left; what was frozen wrote nothing under its old leases.
    What went wrong can be tried again with the seed that is printed.
    """
    seed = f"{share}/{os.urandom(4).hex()}"
    with Fleet(world, server, tmp_path, f"f{share}", LINEAGES, seed) as fleet:
        for phase in range(1, PHASES + 1):
            fleet.declare()
            fleet.harm(KILLS * phase // PHASES - fleet.harmed.total())
            fleet.quiet()

            versions = fleet.versions()
            numbers = {name: len(found) for name, found in versions.items()}
            assert dict.fromkeys(fleet.domains, phase) == numbers, seed  # none is lost, none spare
            assert phase * LINEAGES == fleet.issued, seed
            issued = {one for found in versions.values() for one in found}
            assert Counter(dict.fromkeys(issued, 1)) == fleet.uploads(), seed
            for name, bound in fleet.bound().items():
                in_order = sorted(bound, key=versions[name].index)
                assert bound == in_order, (seed, name)
                assert versions[name][-1] == bound[-1], (seed, name)
            left = [one for one in challenges(world) if f".f{share}-" in one]
            assert [] == left, seed

        sys.stdout.write(f"{fleet.harmed.total()} kills: {dict(fleet.harmed)}, seed {seed}\n")
        assert KILLS <= fleet.harmed.total()
        assert [] == fleet.written_after_waking(), seed
        assert fleet.orders - fleet.issued <= fleet.harmed.total(), seed
