"""A CA, or a gateway before it, that gives another certificate than the one that was ordered."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.chain import must_be_as_ordered
from certferry.core.certificates.renewal import RenewalInfo
from certferry.core.planning.planner import ANEW_AFTER
from certferry.core.planning.report import LineageReport, Outcome
from certferry.core.planning.steps import Action
from certferry.errors import CertificateRejected, OrderHeldBack
from certferry.ports.issuer import IssueRequest
from certferry.reconcile.reconciler import LineageReconciler
from certferry_sandbox.testing.certificates import make_bundle
from tests.reconcile.model import ModelWorld, issuing_of
from tests.reconcile.one_lineage import IMG, outcome, synced


class Gateway:
    """An `Issuer` that is handed another certificate than the CA has issued for its order."""

    def __init__(self, issuer: Any) -> None:
        self._issuer = issuer

    def must_be_provable(self, *arguments: Any) -> frozenset[str]:
        """As ever."""
        proven: frozenset[str] = self._issuer.must_be_provable(*arguments)
        return proven

    def issue(self, request: IssueRequest, *ports: Any) -> CertificateBundle:
        """Look at what comes, as the port's contract says."""
        issued = self._issuer.issue(request, *ports)
        evil = make_bundle("evil.example.net", not_before=issued.certificate.not_before)
        must_be_as_ordered(evil, request.names, issued.certificate.not_before)
        return evil

    def rate_limit_hold(self, *asked: Any, **how: Any) -> OrderHeldBack | None:
        """As ever."""
        held: OrderHeldBack | None = self._issuer.rate_limit_hold(*asked, **how)
        return held

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        """As ever."""
        answer: RenewalInfo = self._issuer.renewal_info(cert_pem)
        return answer

    def sweep(self, *arguments: Any) -> None:
        """As ever."""
        self._issuer.sweep(*arguments)


def run(world: ModelWorld, *, renew: bool = False) -> LineageReport:
    """Run to the end behind the gateway."""
    world.alive.add("run")
    ports = world.ports("run")
    issuing, ports = issuing_of(renew=renew), replace(ports, issuer=Gateway(ports.issuer))
    one = LineageReconciler(world.wish(), ports, issuing)
    world.visit_to_the_end(one)
    world.alive.discard("run")
    world.pass_time(timedelta(minutes=1))
    return one.report()


def test_certificate_that_was_not_ordered_goes_nowhere(world: ModelWorld) -> None:
    """It is not kept, not uploaded, not bound, and told as the CA's mistake."""
    report = run(world)

    told = outcome(report, Action.ISSUE)
    assert Outcome.FAILED is told.outcome
    assert isinstance(told.error, CertificateRejected)
    assert "the CA gave a certificate that was not ordered" in str(told.detail)
    assert "`certferry sync --renew img` at once" in str(told.hint)
    assert () == world.state.versions("img")
    assert None is world.state.order("img")
    assert (0, 0) == (world.cdn.uploads, world.cdn.writes)
    assert [] == world.challenge_values()


def test_wrong_renewal_leaves_what_is_served(world: ModelWorld) -> None:
    """The certificate in force stays in force, and is still brought where it lacks."""
    first = synced(world).fingerprint
    world.pass_time(timedelta(days=61))

    report = run(world)

    assert first == report.fingerprint
    assert 1 == len(world.state.versions("img"))
    assert Outcome.UNCHANGED is outcome(report, Action.VERIFY, IMG).outcome


def test_nothing_is_ordered_again_for_a_day(world: ModelWorld) -> None:
    """Later runs fail as well, and say until when; then one orders again."""
    run(world)

    report = synced(world)

    assert 1 == world.issuer.issued
    (told,) = report.outcomes
    assert Outcome.FAILED is told.outcome
    assert isinstance(told.error, CertificateRejected)
    assert told.error.retry.after is not None
    assert world.plan(world.wish()).issue is None

    world.pass_time(ANEW_AFTER)
    assert synced(world).ok
    assert 2 == world.issuer.issued


def test_certificate_is_ordered_at_once_where_the_operator_asks_for_it(world: ModelWorld) -> None:
    """`--renew` by hand; what was wrong before is forgotten then."""
    run(world)

    renewed = world.run(world.wish(), renew=True)

    assert renewed is not None
    assert renewed.ok
    assert 2 == world.issuer.issued
    assert synced(world).is_unchanged
    assert None is world.state.remembered("img").rejected_at


def test_renewal_by_hand_that_failed_holds_nothing_up(world: ModelWorld) -> None:
    """What is not due needs no order, so there is nothing to tell of."""
    synced(world)
    run(world, renew=True)

    assert synced(world).is_unchanged
