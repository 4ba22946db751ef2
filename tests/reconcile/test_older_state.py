"""A state that was put back from a backup, while the world has gone on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from certferry_sandbox.testing.memory_state import MemoryState
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG, outcome, synced

RENEWED_AFTER = timedelta(days=65)


@pytest.fixture
def restored(world: ModelWorld) -> ModelWorld:
    """A world in which a renewal was forgotten: the backup was made before it, half a day ago."""
    synced(world)
    backup = MemoryState(world.alive.__contains__)
    lease = backup.acquire("img", world.now())
    backup.save_version(lease, world.state.bundle("img", 1), world.now())
    backup.release(lease)
    assert world.run(world.wish(), renew=True)
    world.pass_time(timedelta(hours=12))
    world.state = backup
    world.issuer = MemoryIssuer(backup, world.now)
    return world


def test_nothing_older_is_deployed(restored: ModelWorld) -> None:
    """What is served is newer than what the state knows: the older one stays where it is."""
    before = restored.cdn.writes, restored.cdn.uploads, restored.cdn.removals

    report = synced(restored)

    refused = outcome(report, Action.DEPLOY, IMG)
    assert Outcome.REFUSED is refused.outcome
    assert "newer than what the state knows" in str(refused.detail)
    assert "`certferry sync --renew img`" in str(refused.hint)
    assert before == (restored.cdn.writes, restored.cdn.uploads, restored.cdn.removals)


def test_a_newer_one_is_deployed_when_the_operator_asks_for_it(restored: ModelWorld) -> None:
    """As the hint says; then all is in order again, and stays so."""
    report = restored.run(restored.wish(), renew=True)

    assert report is not None
    assert report.ok
    assert synced(restored).is_unchanged


def test_renewal_that_is_due_mends_it(restored: ModelWorld) -> None:
    """A state that is months old renews by itself, and what comes is newer."""
    restored.pass_time(RENEWED_AFTER)

    report = synced(restored)

    assert report.ok
    assert Outcome.DONE is outcome(report, Action.ISSUE).outcome
