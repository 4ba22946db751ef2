"""Drift that is met in the middle of a change, of a renewal, or while the target is busy."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.core.desired.certificate import DriftPolicy, HttpsSettings
from certferry.core.planning.report import Outcome
from tests.reconcile.one_lineage import IMG
from tests.reconcile.test_drift import HTTP2, LEFT, run, synced, told, wish


@pytest.mark.parametrize("policy", LEFT)
def test_setting_that_is_left_stays_so_after_a_renewal(policy: DriftPolicy) -> None:
    """The new certificate is bound and seen, and no later run sets what was left."""
    world = synced(policy, HTTP2)
    before = world.cdn.bound_to(IMG)
    world.cdn.set_by_others(IMG, before, HttpsSettings(http2=False))
    world.pass_time(timedelta(days=61))

    for _ in range(3):
        assert run(world, wish(world, policy, HTTP2)).ok
        assert world.cdn.settings(IMG).http2 is False
        assert before != world.cdn.bound_to(IMG)
        world.pass_time(timedelta(days=1))

    (record,) = world.state.remembered("img").rollouts
    assert record.verified_at is not None
    assert () == record.repairs
    assert 2 == world.issuer.issued


@pytest.mark.parametrize("policy", LEFT)
def test_certificate_that_another_tool_is_about_to_bind_is_left(policy: DriftPolicy) -> None:
    """A look while its change is under way does not make the domain one that was never in order."""
    world = synced(policy)
    theirs = world.cdn.put_foreign(IMG)
    world.cdn.begin_by_others(IMG, theirs)

    for _ in range(2):
        assert run(world, wish(world, policy)).ok
        assert theirs == world.cdn.bound_to(IMG)
        world.pass_time(timedelta(days=1))

    assert ["drift found"] == told(world)


def test_tools_that_fight_are_noticed_though_each_look_meets_a_change() -> None:
    """The third repair within a day is refused, also where each began as a wait."""
    world = synced(DriftPolicy.REPAIR)
    theirs = world.cdn.put_foreign(IMG)
    refused = []
    for _ in range(4):
        world.cdn.begin_by_others(IMG, theirs)
        refused.append(bool(run(world, wish(world, DriftPolicy.REPAIR)).having(Outcome.REFUSED)))
        world.pass_time(timedelta(hours=1))

    assert [False, False, True, True] == refused


def test_repair_that_a_busy_target_puts_off_is_counted_once() -> None:
    """Nothing was written while the target was busy: it is no fight, and told once."""
    world = synced(DriftPolicy.REPAIR)
    ours = world.cdn.bound_to(IMG)
    world.cdn.set_by_others(IMG, world.cdn.put_foreign(IMG))
    world.cdn.touch(IMG)
    world.cdn.hide_changes(IMG, 30)

    assert run(world, wish(world, DriftPolicy.REPAIR)).ok

    assert ours == world.cdn.bound_to(IMG)
    assert ["drift found"] == told(world)
    (record,) = world.state.remembered("img").rollouts
    assert 1 == len(record.repairs)
