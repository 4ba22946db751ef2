"""Waits and pauses between the passes of a run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.lineage import Version
from certferry.core.events import StepEnded
from certferry.core.observed.observation import TargetRules
from certferry.core.planning.limits import (
    NEAR,
    NEAR_THE_END,
    PAUSES,
    longest_pause,
    pause_of,
    paused_until,
)
from certferry.core.planning.plan import Action
from certferry.core.planning.report import LineageReport, Outcome
from certferry.core.reasons import FIRST, Usual
from certferry.errors import (
    CertferryError,
    DnsUnavailable,
    LeaseHeld,
    LeaseLost,
    OrderFailed,
    StateUnavailable,
    TargetAccessDenied,
    TargetUnavailable,
)
from certferry.ports.state import ChallengeRecord, Lease
from certferry.reconcile.reconciler import LineageReconciler
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.interruptions import Altered
from tests.core.strategies import NOW, certificate
from tests.reconcile.model import START, ModelWorld
from tests.reconcile.one_lineage import IMG

# # --- Waits: found anew in every pass, and never of zero length


MOST_PASSES = 100
"""Far more than the passes of a change of ten minutes."""


class Between:
    """A port that raises in place of certain answers, between two moments."""

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


def reconciled(world: ModelWorld, run: LineageReconciler) -> LineageReport:
    """Make passes to the end; each pass comes later than the one before."""
    for _ in range(MOST_PASSES):
        waiting = run.reconcile()
        if waiting is None:
            return run.report()
        assert waiting.until > world.clock
        world.clock = waiting.until
    raise AssertionError("it waits for ever")


def run_with(world: ModelWorld, **ports: Any) -> LineageReconciler:
    world.alive.add("run")
    return LineageReconciler(world.desired(), replace(world.ports("run"), **ports))


def test_target_that_is_away_for_a_while_is_waited_for(world: ModelWorld) -> None:
    """During a change a silent target is asked again, at growing intervals."""
    away = TargetUnavailable(Text("no answer"), hint=Text("later"))
    cdn = Between(world.cdn, world, away, "observe", until=timedelta(minutes=8))

    report = reconciled(world, run_with(world, targets={"qiniu": cdn}, probe=world.cdn))

    assert {Outcome.DONE} == {step.outcome for step in report.outcomes}
    assert [None] * len(report.outcomes) == [step.hint for step in report.outcomes]
    assert 1 < cdn.raised < 20
    assert 1 == world.cdn.writes


def test_target_that_stays_away_is_given_up_at_the_deadline(world: ModelWorld) -> None:
    """After the verify timeout the domain fails, with the target's words."""
    away = TargetUnavailable(Text("no answer"), hint=Text("later"))
    cdn = Between(world.cdn, world, away, "observe")

    report = reconciled(world, run_with(world, targets={"qiniu": cdn}, probe=world.cdn))

    (failed,) = (step for step in report.outcomes if step.outcome is not Outcome.DONE)
    assert (Outcome.FAILED, IMG, "no answer") == (
        failed.outcome,
        failed.domain,
        str(failed.detail),
    )
    assert timedelta(hours=1) <= world.clock - START < timedelta(hours=2)


def test_target_that_refuses_the_keys_is_not_asked_again(world: ModelWorld) -> None:
    """Refused keys during a change end the run for the target at once."""
    denied = TargetAccessDenied(Text("bad token"), hint=Text("look at the keys"))
    cdn = Between(world.cdn, world, denied, "observe")

    report = reconciled(world, run_with(world, targets={"qiniu": cdn}, probe=world.cdn))

    (failed,) = (step for step in report.outcomes if step.outcome is not Outcome.DONE)
    assert (Action.DEPLOY, Outcome.FAILED, IMG) == (failed.action, failed.outcome, failed.domain)
    assert failed.hint is not None
    assert 1 == cdn.raised


def test_state_that_fails_ends_the_run(world: ModelWorld) -> None:
    """A disk that fills up during a change is reported once, and services get no further
    request.
    """
    full = StateUnavailable(Text("the disk is full"), hint=Text("free some space"))
    ports = world.ports("run")
    state = Between(ports.state, world, full, "remembered")

    report = reconciled(world, run_with(world, state=state))

    assert "the disk is full" in [str(step.detail) for step in report.outcomes]
    assert 1 == state.raised
    assert timedelta(hours=1) > world.clock - START


def test_domain_that_is_gone_is_not_waited_for(world: ModelWorld) -> None:
    """A domain removed at the target during its change ends the wait."""

    class Emptied:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.cdn, name)

        def observe(self, look: Any) -> Any:
            observed = world.cdn.observe(look)
            is_gone = world.clock > START + timedelta(minutes=2)
            return replace(observed, domains=()) if is_gone else observed

    report = reconciled(world, run_with(world, targets={"qiniu": Emptied()}, probe=world.cdn))

    assert not report.ok
    assert timedelta(hours=1) > world.clock - START


@pytest.mark.parametrize("error", [LeaseHeld, LeaseLost])
def test_lease_that_is_another_runs_is_waited_for(
    world: ModelWorld, error: Callable[[Text], CertferryError]
) -> None:
    """A run without the lease comes back later, after any earlier wait."""
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
def test_how_long_a_change_usually_takes_is_reported_by_the_target(usual: Usual | None) -> None:
    """Run and plan show the target's usual minutes, if the target has them."""
    world = ModelWorld(rules=TargetRules(usual_change=usual))
    world.cdn.add_domain(IMG)
    run = run_with(world)
    run.reconcile()
    world.clock += timedelta(minutes=3)

    plan = world.plan(world.desired())
    run.reconcile()

    result = [e.outcome for e in world.events if isinstance(e, StepEnded) and e.outcome.waiting]
    sentence = "qiniu is applying the change" + ("" if usual is None else " (usually 1–5 min)")
    assert [sentence, sentence] == [str(step.detail) for step in result]
    assert sentence == str(plan.rollouts[0].steps[-1].reason.message)


# # --- A scheduled run pauses after a failure; a run by hand tries at once


MINUTE = timedelta(minutes=1)


def scheduled(world: ModelWorld) -> LineageReport:
    report = world.run(world.desired(), scheduled=True)
    assert report is not None
    return report


def tries(world: ModelWorld, minutes: int) -> list[int]:
    """Run every minute like the schedule; return the minutes with a write at the target."""
    asked = []
    for minute in range(minutes):
        before = world.cdn.writes
        began = world.clock
        scheduled(world)
        if world.cdn.writes > before:
            asked.append(minute)
        world.clock = began + MINUTE
    return asked


def test_change_that_fails_is_tried_after_1_10_and_100_minutes() -> None:
    """Each later try of the same certificate waits longer, at most a day."""
    world = ModelWorld(processing=timedelta(0))
    world.cdn.add_domain(IMG)
    for _ in range(9):
        world.cdn.fail_next(IMG, "verify https crt fail")

    first, *later = tries(world, 120)

    assert 0 == first
    assert [1, 11, 111] == later


@given(
    left=st.timedeltas(timedelta(days=-400), timedelta(days=400)),
    before=st.timedeltas(timedelta(days=-400), timedelta(days=400)),
)
def test_near_the_end_of_a_certificate_every_run_tries(left: timedelta, before: timedelta) -> None:
    """The newest certificate always counts; the one before counts while it may be served."""
    newest, older = (
        Version(2 - place, replace(certificate(), not_after=NOW + left), NOW)
        for place, left in enumerate((left, before))
    )

    assert PAUSES[-1] == longest_pause((), NOW)
    assert (left <= NEAR) is (longest_pause((newest,), NOW) == NEAR_THE_END)
    is_near = left <= NEAR or abs(before) <= NEAR
    assert is_near is (longest_pause((newest, older), NOW) == NEAR_THE_END)


def test_renewal_that_fails_is_tried_by_every_run_of_the_last_days() -> None:
    """The DNS service of a six-day certificate came back hours before the end, and the certificate
    is renewed; a day's pause would have let it expire.
    """
    world = ModelWorld(lifetime=timedelta(hours=160), rules=TargetRules(timedelta(0)))
    world.cdn.add_domain(IMG)
    scheduled(world)
    (first,) = world.state.versions("img")
    world.dns.fail_with(DnsUnavailable(Text("no answer")))
    begin = first.certificate.not_after - timedelta(hours=77)
    for minutes in (0, 1, 11, 111):  # as one scheduled run does
        world.clock = begin + minutes * MINUTE
        scheduled(world)
    for half_days in range(1, 7):
        assert 1 == world.issuer.issued
        world.clock = begin + half_days * timedelta(hours=12)
        world.dns.fail_with(DnsUnavailable(Text("no answer")) if half_days < 6 else None)
        scheduled(world)

    assert 2 == world.issuer.issued
    assert world.clock < first.certificate.not_after


@pytest.mark.parametrize(("days", "tried"), [(75, 1), (88, 4)])
def test_deployment_that_fails_is_tried_by_every_run_of_the_last_days(
    days: int, tried: int
) -> None:
    """In the last days of the served certificate each run tries; earlier, the pause is a day or
    more.
    """
    world = ModelWorld(processing=timedelta(0))
    world.cdn.add_domain(IMG)
    scheduled(world)
    begin = world.clock + timedelta(days=days)
    for _ in range(12):
        world.cdn.fail_next(IMG, "verify https crt fail")
    for minutes in (0, 1, 11, 111):  # as one scheduled run does
        world.clock = begin + minutes * MINUTE
        scheduled(world)
    before = world.cdn.writes

    for half_days in range(1, 5):
        world.clock = begin + half_days * timedelta(hours=12)
        scheduled(world)

    assert tried == world.cdn.writes - before


def test_run_by_hand_tries_at_once() -> None:
    """The operator has mended the cause, and wants the result."""
    world = ModelWorld(processing=timedelta(0))
    world.cdn.add_domain(IMG)
    for _ in range(2):
        world.cdn.fail_next(IMG, "verify https crt fail")
    scheduled(world)
    world.run(world.desired())

    report = world.run(world.desired())

    assert report is not None
    assert report.ok


def test_pause_is_reported_with_its_end() -> None:
    """The exit code says "try later" in place of a failure, with the moment beside it."""
    world = ModelWorld(processing=timedelta(0))
    world.cdn.add_domain(IMG)
    world.cdn.fail_next(IMG, "verify https crt fail")
    scheduled(world)
    ended = world.clock

    report = scheduled(world)

    (outcome,) = report.having(Outcome.WAITING)
    assert Action.DEPLOY is outcome.action
    assert outcome.error is not None
    assert outcome.error.retry.after is not None
    assert ended < outcome.error.retry.after <= ended + MINUTE
    assert not report.having(Outcome.FAILED)


def test_order_that_fails_is_not_repeated_by_every_scheduled_run() -> None:
    """The CA counts failures; a run by hand orders nevertheless, and a success ends the count."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    world.issuer.fail_with(OrderFailed("the CA refuses"))
    for _ in range(3):
        scheduled(world)
    assert 1 == world.state.remembered("img").issue_tries
    world.pass_time(2 * MINUTE)
    scheduled(world)
    assert 2 == world.state.remembered("img").issue_tries

    report = scheduled(world)
    (outcome,) = report.having(Outcome.WAITING)
    assert Action.ISSUE is outcome.action

    world.issuer.fail_with(None)
    assert world.run(world.desired()) is not None
    assert 0 == world.state.remembered("img").issue_tries
    assert 1 == world.issuer.issued


@given(st.integers(0, 9), st.integers(-100, 2000).map(lambda minutes: NOW - minutes * MINUTE))
def test_pause_ends(tries_made: int, last: datetime) -> None:
    """A pause begins with a failure, lasts at most a day, and grows with the tries."""
    until = paused_until(last, tries_made, NOW)

    if until is not None:
        assert last <= NOW < until <= last + PAUSES[-1]
        assert tries_made > 0
    assert pause_of(tries_made) <= pause_of(tries_made + 1)
