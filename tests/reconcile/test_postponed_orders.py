"""Postponed orders: reported with a moment, while all other work goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.planning.limits import Allowance, Limits, PastOrder, PlannedOrder
from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome
from certferry.errors import (
    AuthorizationFailed,
    CaUnavailable,
    DnsAccessDenied,
    OrderPostponed,
    RateLimited,
    Retry,
)
from certferry_sandbox.testing.memory_issuer import DIRECTORY, MemoryIssuer
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG, complete_run, outcome

HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
LIMITS = Limits(
    orders=Allowance(3, 3 * HOUR),
    domain=Allowance(50, WEEK),
    same_names=Allowance(5, WEEK),
    failed_proofs=Allowance(2, HOUR),
)


def undeployed(lineage: str) -> DesiredCertificate:
    """Declare a certificate without a deployment."""
    return DesiredCertificate(lineage, (f"{lineage}.example.com",), "dnspod")


@pytest.fixture
def world(world: ModelWorld) -> ModelWorld:
    world.issuer = MemoryIssuer(world.state, world.now, limits=LIMITS)
    return world


def test_budget_of_orders(world: ModelWorld) -> None:
    """With three orders in three hours a fourth is postponed, and the run names the moment."""
    began = world.clock
    reports = [world.run(undeployed(f"n{number}")) for number in range(4)]

    *ok, held = [outcome(report, Action.ISSUE) for report in reports if report is not None]
    assert [Outcome.DONE] * 3 == [one.outcome for one in ok]
    assert Outcome.WAITING is held.outcome
    assert None is held.waiting
    assert isinstance(held.error, OrderPostponed)
    assert began + 3 * HOUR == held.error.retry.after
    assert 3 == world.issuer.issued

    world.clock = began + 3 * HOUR
    report = world.run(undeployed("n3"))
    assert report is not None
    assert report.ok
    assert 4 == world.issuer.issued


def test_renewal_that_says_what_it_replaces_counts_nowhere(world: ModelWorld) -> None:
    """Let's Encrypt exempts such renewals from its limits."""
    desired = undeployed("n0")
    for _ in range(4):
        report = world.run(desired, renew=True)
        assert report is not None
        assert report.ok

    assert 4 == world.issuer.issued


def test_deployment_goes_on_while_an_order_is_held(world: ModelWorld) -> None:
    """A new domain gets the existing certificate."""
    complete_run(world)
    moment = world.clock + 2 * HOUR
    world.issuer.fail_with(RateLimited("later, please", retry=Retry.at(moment)))
    world.run(world.desired(), renew=True)
    world.issuer.fail_with(None)
    world.cdn.add_domain(f"a.{IMG}")

    report = world.run(world.desired(), renew=True)

    assert report is not None
    assert Outcome.WAITING is outcome(report, Action.ISSUE).outcome
    assert Outcome.DONE is outcome(report, Action.VERIFY, f"a.{IMG}").outcome


def test_failed_proofs_are_not_repeated_until_the_hour_is_over(world: ModelWorld) -> None:
    """The CA stops taking orders for a name whose proofs fail again and again."""
    world.issuer.fail_with(AuthorizationFailed("the CA does not see the value"))
    for _ in range(2):
        assert Outcome.FAILED is outcome(complete_run(world), Action.ISSUE).outcome
    world.issuer.fail_with(None)

    held = outcome(complete_run(world), Action.ISSUE)
    assert Outcome.WAITING is held.outcome
    assert "has refused the proof of img.example.com 2 times" in str(held.detail)

    world.pass_time(HOUR)
    assert complete_run(world).ok


@pytest.mark.parametrize("error", [RateLimited, CaUnavailable])
def test_moment_that_the_ca_names_is_kept_by_later_runs(
    world: ModelWorld, error: type[RateLimited | CaUnavailable]
) -> None:
    """The first run and every later run wait without a question to the CA."""
    moment = world.clock + 2 * HOUR
    world.issuer.fail_with(error("later, please", retry=Retry.at(moment)))
    first = outcome(complete_run(world), Action.ISSUE)
    world.issuer.fail_with(None)

    for result in (first, outcome(complete_run(world), Action.ISSUE)):
        assert Outcome.WAITING is result.outcome
        assert result.error is not None
        assert moment == result.error.retry.after

    world.clock = moment
    assert complete_run(world).ok


def test_refused_keys_spend_no_second_order(world: ModelWorld) -> None:
    """The DNS account is asked before the CA, until the account accepts the keys."""
    world.dns.fail_with(DnsAccessDenied("the token is wrong"))
    assert Outcome.FAILED is outcome(complete_run(world), Action.ISSUE).outcome
    with world.ports("other").lease("img") as lease:
        world.state.drop_order(lease)
    orders = len(ordered(world))

    again = outcome(complete_run(world), Action.ISSUE)
    assert Outcome.FAILED is again.outcome
    assert isinstance(again.error, DnsAccessDenied)
    assert orders == len(ordered(world))

    world.dns.fail_with(None)
    assert complete_run(world).ok


def ordered(world: ModelWorld) -> tuple[PastOrder, ...]:
    return world.state.spent(DIRECTORY, PlannedOrder(world.desired().names)).orders
