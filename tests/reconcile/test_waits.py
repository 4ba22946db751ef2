"""What a run waits for: found anew at every visit, and never come back for at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from certferry.core.events import StepEnded
from certferry.core.observed.observation import TargetRules
from certferry.core.planning.report import LineageReport, Outcome
from certferry.core.planning.steps import Action
from certferry.core.waiting import FIRST, Usual
from certferry.errors import (
    CertferryError,
    LeaseHeld,
    LeaseLost,
    StateUnavailable,
    TargetAccessDenied,
    TargetUnavailable,
)
from certferry.ports.state import ChallengeRecord, Lease
from certferry.reconcile.reconciler import LineageReconciler
from certferry.text import Text
from certferry_sandbox.testing.interruptions import Altered
from tests.reconcile.model import START, ModelWorld
from tests.reconcile.one_lineage import IMG

MOST_VISITS = 100
"""Far more than a change of ten minutes takes."""


class Between:
    """A port that raises instead of answering certain calls, from one moment to another."""

    def __init__(
        self,
        port: Any,
        world: ModelWorld,
        error: CertferryError,
        *calls: str,
        until: timedelta = timedelta(days=1),
    ) -> None:
        self._port = port
        self._world = world
        self._error = error
        self._calls = calls
        self._from = START + timedelta(minutes=2)
        self._until = START + until
        self.raised = 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if name in self._calls and self._from <= self._world.clock < self._until:
                self.raised += 1
                raise self._error
            return getattr(self._port, name)(*arguments, **named)

        return call


def visited(world: ModelWorld, run: LineageReconciler) -> LineageReport:
    """Visit to the end; each visit but the first comes after its predecessor."""
    for _ in range(MOST_VISITS):
        waiting = run.reconcile()
        if waiting is None:
            return run.report()
        assert waiting.until > world.clock
        world.clock = waiting.until
    raise AssertionError("it waits for ever")


def run_with(world: ModelWorld, **ports: Any) -> LineageReconciler:
    """Begin a run with some ports replaced."""
    world.alive.add("run")
    return LineageReconciler(world.wish(), replace(world.ports("run"), **ports))


def test_target_that_is_away_for_a_while_is_waited_for(world: ModelWorld) -> None:
    """In the middle of a change, a target that does not answer is asked again, ever more rarely."""
    away = TargetUnavailable(Text("no answer"), hint=Text("later"))
    cdn = Between(world.cdn, world, away, "observe", until=timedelta(minutes=8))

    report = visited(world, run_with(world, targets={"qiniu": cdn}, probe=world.cdn))

    assert {Outcome.DONE} == {step.outcome for step in report.outcomes}
    assert [None] * len(report.outcomes) == [step.hint for step in report.outcomes]
    assert 1 < cdn.raised < 20
    assert 1 == world.cdn.writes


def test_target_that_stays_away_is_given_up_at_the_deadline(world: ModelWorld) -> None:
    """After the verify timeout it is the domain's failure, with what the target said."""
    away = TargetUnavailable(Text("no answer"), hint=Text("later"))
    cdn = Between(world.cdn, world, away, "observe")

    report = visited(world, run_with(world, targets={"qiniu": cdn}, probe=world.cdn))

    (failed,) = (step for step in report.outcomes if step.outcome is not Outcome.DONE)
    assert (Outcome.FAILED, IMG, "no answer") == (failed.outcome, failed.domain, str(failed.detail))
    assert timedelta(hours=1) <= world.clock - START < timedelta(hours=2)


def test_target_that_refuses_the_keys_is_not_asked_again(world: ModelWorld) -> None:
    """Keys that are refused in the middle of a change end the run for that target at once."""
    denied = TargetAccessDenied(Text("bad token"), hint=Text("look at the keys"))
    cdn = Between(world.cdn, world, denied, "observe")

    report = visited(world, run_with(world, targets={"qiniu": cdn}, probe=world.cdn))

    (failed,) = (step for step in report.outcomes if step.outcome is not Outcome.DONE)
    assert (Action.DEPLOY, Outcome.FAILED, IMG) == (failed.action, failed.outcome, failed.domain)
    assert failed.hint is not None
    assert 1 == cdn.raised


def test_state_that_fails_ends_the_run(world: ModelWorld) -> None:
    """A disk that fills up during a change is told once, and no service is asked again."""
    full = StateUnavailable(Text("the disk is full"), hint=Text("free some space"))
    ports = world.ports("run")
    state = Between(ports.state, world, full, "remembered")

    report = visited(world, run_with(world, state=state))

    assert "the disk is full" in [str(step.detail) for step in report.outcomes]
    assert 1 == state.raised
    assert timedelta(hours=1) > world.clock - START


def test_domain_that_is_gone_is_not_waited_for(world: ModelWorld) -> None:
    """A domain that is removed at the target while its change is under way ends the wait."""

    class Emptied:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.cdn, name)

        def observe(self, look: Any) -> Any:
            found = world.cdn.observe(look)
            is_gone = world.clock > START + timedelta(minutes=2)
            return replace(found, domains=()) if is_gone else found

    report = visited(world, run_with(world, targets={"qiniu": Emptied()}, probe=world.cdn))

    assert not report.ok
    assert timedelta(hours=1) > world.clock - START


@pytest.mark.parametrize("error", [LeaseHeld, LeaseLost])
def test_lease_that_is_another_runs_is_waited_for(
    world: ModelWorld, error: Callable[[Text], CertferryError]
) -> None:
    """A run that may not act comes back later, whatever else it had waited for before."""
    ports = world.ports("run")
    is_held = False

    def acquire(lineage: str, now: datetime) -> Lease:
        if is_held:
            raise error(Text("{lineage}: another run", lineage=lineage))
        return ports.state.acquire(lineage, now)

    run = run_with(world, state=Altered(ports.state, acquire=acquire))
    waiting = run.reconcile()
    name = f"_acme-challenge.{IMG}"
    world.state.save_challenge_record(ChallengeRecord("img", name, "left", START, "handle"))
    is_held = True

    for _ in range(5):
        assert waiting is not None
        world.clock = waiting.until
        waiting = run.reconcile()
        assert waiting is not None
        assert waiting.until - world.clock >= FIRST
    assert "img: another run" in [str(step.detail) for step in run.report().outcomes]
    assert {Outcome.DONE, Outcome.WAITING} == {step.outcome for step in run.report().outcomes}


@pytest.mark.parametrize("usual", [None, (timedelta(minutes=1), timedelta(minutes=5))])
def test_how_long_a_change_usually_takes_is_told_by_the_target(usual: Usual | None) -> None:
    """In a run and in a plan; of a target that does not say it, no minutes are told."""
    world = ModelWorld(rules=TargetRules(usual_change=usual))
    world.cdn.add_domain(IMG)
    run = run_with(world)
    run.reconcile()
    world.clock += timedelta(minutes=3)

    plan = world.plan(world.wish())
    run.reconcile()

    told = [e.outcome for e in world.events if isinstance(e, StepEnded) and e.outcome.waiting]
    said = "qiniu is applying the change" + ("" if usual is None else " (usually 1–5 min)")
    assert [said, said] == [str(one.detail) for one in told]
    assert said == str(plan.rollouts[0].steps[-1].reason.message)
