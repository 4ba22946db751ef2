"""What is not ordered now: told with its moment, while everything else goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.core.budget import Allowance, Limits, PastOrder, Wanted
from certferry.core.plan import Action
from certferry.core.report import LineageReport, Outcome
from certferry.errors import (
    AuthorizationFailed,
    CaUnavailable,
    DnsAccessDenied,
    OrderHeldBack,
    RateLimited,
    Retry,
)
from certferry.testing.memory_issuer import DIRECTORY, MemoryIssuer
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG, outcome, synced

HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
LIMITS = Limits(
    orders=Allowance(300, 3 * HOUR),
    domain=Allowance(50, WEEK),
    same_names=Allowance(2, WEEK),
    failed_proofs=Allowance(2, HOUR),
)


@pytest.fixture
def world(world: ModelWorld) -> ModelWorld:
    """A world whose CA has limits."""
    world.issuer = MemoryIssuer(world.state, world.now, limits=LIMITS)
    return world


def renewed(world: ModelWorld) -> LineageReport:
    """Ask for a new certificate."""
    report = world.run(world.wish(), renew=True)
    assert report is not None
    return report


def test_budget_of_the_same_names(world: ModelWorld) -> None:
    """Two certificates a week: a third is not asked for, and the run says until when."""
    synced(world)
    began = world.clock
    renewed(world)

    report = renewed(world)

    told = outcome(report, Action.ISSUE)
    assert Outcome.WAITING is told.outcome
    assert None is told.waiting
    assert isinstance(told.error, OrderHeldBack)
    until = told.error.retry.after
    assert until is not None
    assert began - HOUR < until - WEEK <= began
    assert not report.having(Outcome.FAILED)
    assert 2 == world.issuer.issued

    world.clock = until
    assert renewed(world).ok
    assert 3 == world.issuer.issued


def test_deployment_goes_on_while_an_order_is_held_back(world: ModelWorld) -> None:
    """The certificate that is there is brought where it is missing."""
    synced(world)
    renewed(world)
    world.cdn.add_domain(f"a.{IMG}")

    report = renewed(world)

    assert Outcome.WAITING is outcome(report, Action.ISSUE).outcome
    assert Outcome.DONE is outcome(report, Action.VERIFY, f"a.{IMG}").outcome


def test_failed_proofs_are_not_repeated_until_the_hour_is_over(world: ModelWorld) -> None:
    """The CA stops taking orders for a name whose proofs fail again and again."""
    world.issuer.fail_with(AuthorizationFailed("the CA does not see the value"))
    for _ in range(2):
        assert Outcome.FAILED is outcome(synced(world), Action.ISSUE).outcome
    world.issuer.fail_with(None)

    held = outcome(synced(world), Action.ISSUE)
    assert Outcome.WAITING is held.outcome
    assert "has refused the proof of img.example.com 2 times" in str(held.detail)

    world.pass_time(HOUR)
    assert synced(world).ok


@pytest.mark.parametrize("error", [RateLimited, CaUnavailable])
def test_moment_that_the_ca_names_is_kept_by_later_runs(
    world: ModelWorld, error: type[RateLimited | CaUnavailable]
) -> None:
    """The run that is told so waits, and so does each after it, without asking the CA."""
    moment = world.clock + 2 * HOUR
    world.issuer.fail_with(error("later, please", retry=Retry.at(moment)))
    first = outcome(synced(world), Action.ISSUE)
    world.issuer.fail_with(None)

    for told in (first, outcome(synced(world), Action.ISSUE)):
        assert Outcome.WAITING is told.outcome
        assert told.error is not None
        assert moment == told.error.retry.after

    world.clock = moment
    assert synced(world).ok


def test_refused_keys_spend_no_second_order(world: ModelWorld) -> None:
    """The DNS account is asked before the CA, until it takes the keys again."""
    world.dns.fail_with(DnsAccessDenied("the token is wrong"))
    assert Outcome.FAILED is outcome(synced(world), Action.ISSUE).outcome
    with world.doors("other").lease("img") as lease:
        world.state.drop_order(lease)
    orders = len(ordered(world))

    again = outcome(synced(world), Action.ISSUE)
    assert Outcome.FAILED is again.outcome
    assert isinstance(again.error, DnsAccessDenied)
    assert orders == len(ordered(world))

    world.dns.fail_with(None)
    assert synced(world).ok


def ordered(world: ModelWorld) -> tuple[PastOrder, ...]:
    """What the ledger has of the lineage's orders."""
    return world.state.spent(DIRECTORY, Wanted(world.wish().names)).orders
