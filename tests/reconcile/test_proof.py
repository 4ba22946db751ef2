"""What would stop an order is told by the plan, and before the order is made."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certferry.core.planning.plan import Weight
from certferry.core.planning.report import Outcome
from certferry.core.planning.steps import Action
from certferry.errors import (
    ClockWrong,
    DnsAccessDenied,
    DnsError,
    DnsUnavailable,
    StateError,
    TargetRejected,
    ZoneNotFound,
)
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import Ports
from certferry.reconcile.status import plans_of
from certferry.reconcile.work_queue import WaitLimit
from certferry_sandbox.testing.memory_dns import MemoryDns
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import outcome, synced


def ports_of(world: ModelWorld) -> Ports:
    """The ports of a run."""
    return world.ports("run")


def test_refused_token_is_told_by_the_plan(world: ModelWorld) -> None:
    """The plan still says what is to be issued, and that it is blocked, at the account."""
    denied = DnsAccessDenied("the token is refused")
    world.dns.fail_with(denied)

    [plan] = plans_of(ports_of(world), [world.wish()])

    assert plan.issue is not None
    assert [("dnspod", None, denied)] == [
        (o.target, o.domain, o.error) for o in plan.having(Weight.BLOCKED)
    ]


def test_plan_without_an_order_asks_the_provider_nothing(world: ModelWorld) -> None:
    """A no-op is not slowed by it."""
    synced(world)
    asked = world.dns.calls

    [plan] = plans_of(ports_of(world), [world.wish()])

    assert (True, asked) == (plan.is_empty, world.dns.calls)


def test_name_that_neither_the_target_nor_the_dns_account_has(world: ModelWorld) -> None:
    """A mistyped name is told from both sides, though nothing would be ordered."""
    wish = replace(world.wish(), names=("www.foo.test",))

    [plan] = plans_of(ports_of(world), [wish])

    assert plan.issue is None
    assert [("qiniu", TargetRejected), ("dnspod", ZoneNotFound)] == [
        (one.target, type(one.error)) for one in plan.having(Weight.BLOCKED)
    ]


def test_name_that_only_the_target_lacks(world: ModelWorld) -> None:
    """The zone is there: nothing more is said."""
    wish = replace(world.wish(), names=("www.example.com",))

    [plan] = plans_of(ports_of(world), [wish])

    assert [("qiniu", TargetRejected)] == [
        (one.target, type(one.error)) for one in plan.having(Weight.BLOCKED)
    ]


def test_account_with_the_zone_is_no_obstacle(world: ModelWorld) -> None:
    """It is asked, and nothing stands in the way."""
    [plan] = plans_of(ports_of(world), [world.wish()])

    assert (1, ()) == (world.dns.calls, plan.having(Weight.BLOCKED))


class Timely:
    """A provider that tells the time."""

    def __init__(self, dns: MemoryDns, ahead: timedelta | DnsError) -> None:
        self._dns = dns
        self._ahead = ahead
        self.looks = 0

    def clock_ahead(self) -> timedelta:
        """See `ports.examination.Timed.clock_ahead`."""
        self.looks += 1
        if isinstance(self._ahead, DnsError):
            raise self._ahead
        return self._ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dns, name)


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (timedelta(minutes=20), ClockWrong),
        (timedelta(minutes=5), None),
        (DnsUnavailable("no answer"), DnsUnavailable),
    ],
)
def test_wrong_clock_is_told_before_an_order(
    world: ModelWorld, ahead: timedelta | DnsError, expected: type[Exception] | None
) -> None:
    """Once for all the plans of a run, and before the keys are blamed."""
    dns = Timely(world.dns, ahead)
    ports = replace(world.ports("run"), dns={"dnspod": dns})
    wishes = [world.wish(lineage="one"), world.wish(lineage="two")]

    plans = plans_of(ports, wishes)

    found = [type(o.error) for plan in plans for o in plan.having(Weight.BLOCKED)]
    assert ([] if expected is None else [expected] * 2) == found
    assert 1 == dns.looks
    assert (0 if expected else 2) == world.dns.calls


def test_slip_that_is_put_back_orders_nothing(world: ModelWorld) -> None:
    """A name of no zone's fails before an order is made, so none is there to be gone on with."""
    synced(world)
    wish = world.wish()
    slip = replace(wish, names=(*wish.names, "x.notmine.test"))

    failed = world.run(slip)

    assert failed is not None
    step = outcome(failed, Action.ISSUE)
    assert (Outcome.FAILED, ZoneNotFound) == (step.outcome, type(step.error))
    assert world.state.order(wish.lineage) is None
    [plan] = plans_of(ports_of(world), [wish])
    assert plan.is_empty


def test_lost_key_is_told_before_anything_is_done(world: ModelWorld) -> None:
    """Also where nothing is due: not on the day of a renewal."""
    synced(world)
    world.state.lose_key()

    with pytest.raises(StateError, match="does not open"):
        plans_of(ports_of(world), [world.wish()])
    with pytest.raises(StateError, match="does not open"):
        Reconciler(ports_of(world)).sync([world.wish()], WaitLimit())
