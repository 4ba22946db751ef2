"""A scheduled run leaves alone for a while what has failed; a run by hand tries at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.lineage import Version
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
from certferry.errors import DnsUnavailable, OrderFailed
from certferry.text import Text
from tests.core.strategies import NOW, certificate
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG

MINUTE = timedelta(minutes=1)


def scheduled(world: ModelWorld) -> LineageReport:
    """Run as the schedule does."""
    report = world.run(world.wish(), scheduled=True)
    assert report is not None
    return report


def tries(world: ModelWorld, minutes: int) -> list[int]:
    """Run every minute as the schedule could; return the minutes in which the target was asked."""
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
    """Of the newest one, whatever is left of it; of the one before, while it may be served."""
    newest, older = (
        Version(2 - place, replace(certificate(), not_after=NOW + left), NOW)
        for place, left in enumerate((left, before))
    )

    assert PAUSES[-1] == longest_pause((), NOW)
    assert (left <= NEAR) is (longest_pause((newest,), NOW) == NEAR_THE_END)
    is_near = left <= NEAR or abs(before) <= NEAR
    assert is_near is (longest_pause((newest, older), NOW) == NEAR_THE_END)


def test_renewal_that_fails_is_tried_by_every_run_of_the_last_days() -> None:
    """A certificate of six days is renewed though its DNS service came back hours before its
    end; a day's pause would have let it expire.
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
    """In which the certificate before is still served; earlier, after a day or more."""
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
    """The operator has mended something, and wants to see it."""
    world = ModelWorld(processing=timedelta(0))
    world.cdn.add_domain(IMG)
    for _ in range(2):
        world.cdn.fail_next(IMG, "verify https crt fail")
    scheduled(world)
    world.run(world.wish())

    report = world.run(world.wish())

    assert report is not None
    assert report.ok


def test_pause_is_told_with_its_end() -> None:
    """It is no failure again: the exit code says "try later", and the moment stands beside it."""
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
    """The CA counts failures; a run by hand orders all the same, and what comes ends the count."""
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
    assert world.run(world.wish()) is not None
    assert 0 == world.state.remembered("img").issue_tries
    assert 1 == world.issuer.issued


@given(st.integers(0, 9), st.integers(-100, 2000).map(lambda minutes: NOW - minutes * MINUTE))
def test_pause_ends(tries_made: int, last: datetime) -> None:
    """It begins with a failure, is never longer than a day, and grows with the tries."""
    until = paused_until(last, tries_made, NOW)

    if until is not None:
        assert last <= NOW < until <= last + PAUSES[-1]
        assert tries_made > 0
    assert pause_of(tries_made) <= pause_of(tries_made + 1)
