"""Rejected certificates, and changes that do not end."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.status import status_of
from certferry.core.certificates.certificate import CertificateBundle, RenewalInfo
from certferry.core.certificates.chain import must_be_as_ordered
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.observed.records import RolloutRecord, TargetTask
from certferry.core.planning.limits import ANEW_AFTER
from certferry.core.planning.plan import Action
from certferry.core.planning.problems import stuck_since
from certferry.core.planning.report import LineageReport, Outcome
from certferry.errors import CertificateRejected, OrderPostponed, TargetStuck
from certferry.ports.issuer import IssueRequest
from certferry.present.status_text import ticket
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler, RunRules
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from tests.core.strategies import NOW
from tests.reconcile.model import ModelWorld, issuing_of
from tests.reconcile.one_lineage import IMG, complete_run, outcome

# # --- A CA, or a gateway before the CA, gives another certificate than ordered


class Gateway:
    """An `Issuer` behind a gateway that replaces the CA's certificate."""

    def __init__(self, issuer: Any) -> None:
        self._issuer = issuer

    def must_be_provable(self, *arguments: Any) -> frozenset[str]:
        proven: frozenset[str] = self._issuer.must_be_provable(*arguments)
        return proven

    def issue(self, request: IssueRequest, *ports: Any) -> CertificateBundle:
        """Check the received certificate, as the port's contract says."""
        issued = self._issuer.issue(request, *ports)
        evil = make_bundle("evil.example.net", not_before=issued.certificate.not_before)
        must_be_as_ordered(evil, request.names, issued.certificate.not_before)
        return evil

    def rate_limit_hold(self, *asked: Any, **how: Any) -> OrderPostponed | None:
        held: OrderPostponed | None = self._issuer.rate_limit_hold(*asked, **how)
        return held

    def renewal_info(self, cert_pem: str, directory: str = "") -> RenewalInfo:
        answer: RenewalInfo = self._issuer.renewal_info(cert_pem)
        return answer

    def sweep(self, *arguments: Any) -> None:
        self._issuer.sweep(*arguments)


def run(world: ModelWorld, *, renew: bool = False) -> LineageReport:
    world.alive.add("run")
    ports = world.ports("run")
    issuing, ports = issuing_of(renew=renew), replace(ports, issuer=Gateway(ports.issuer))
    reconciler = LineageReconciler(world.desired(), ports, RunRules(issuing))
    world.pass_to_the_end(reconciler)
    world.alive.discard("run")
    world.pass_time(timedelta(minutes=1))
    return reconciler.report()


def test_certificate_that_was_not_ordered_goes_nowhere(world: ModelWorld) -> None:
    """The certificate is neither kept, uploaded nor bound, and is reported as the CA's mistake."""
    report = run(world)

    result = outcome(report, Action.ISSUE)
    assert Outcome.FAILED is result.outcome
    assert isinstance(result.error, CertificateRejected)
    assert "the CA gave a certificate that was not ordered" in str(result.detail)
    assert "`certferry sync --renew img` at once" in str(result.hint)
    assert () == world.state.versions("img")
    assert None is world.state.order("img")
    assert (0, 0) == (world.cdn.uploads, world.cdn.writes)
    assert [] == world.challenge_values()


def test_wrong_renewal_leaves_what_is_served(world: ModelWorld) -> None:
    """The certificate in force stays in force, and still goes to domains without one."""
    first = complete_run(world).fingerprint
    world.pass_time(timedelta(days=61))

    report = run(world)

    assert first == report.fingerprint
    assert 1 == len(world.state.versions("img"))
    assert Outcome.UNCHANGED is outcome(report, Action.VERIFY, IMG).outcome


def test_nothing_is_ordered_again_for_a_day(world: ModelWorld) -> None:
    """Later runs fail as well and name the moment; then a run orders again."""
    run(world)

    report = complete_run(world)

    assert 1 == world.issuer.issued
    (result,) = report.outcomes
    assert Outcome.FAILED is result.outcome
    assert isinstance(result.error, CertificateRejected)
    assert result.error.retry.after is not None
    assert world.plan(world.desired()).issue is None

    world.pass_time(ANEW_AFTER)
    assert complete_run(world).ok
    assert 2 == world.issuer.issued


def test_certificate_is_ordered_at_once_where_the_operator_asks_for_it(world: ModelWorld) -> None:
    """`--renew` by hand orders at once, and clears the rejection."""
    run(world)

    renewed = world.run(world.desired(), renew=True)

    assert renewed is not None
    assert renewed.ok
    assert 2 == world.issuer.issued
    assert complete_run(world).is_unchanged
    assert None is world.state.remembered("img").rejected_at


def test_renewal_by_hand_that_failed_holds_nothing_up(world: ModelWorld) -> None:
    """A certificate that is not due needs no order, so later runs report no failure."""
    complete_run(world)
    run(world, renew=True)

    assert complete_run(world).is_unchanged


# # --- A change without an end: reported, not overwritten, with a ticket for support


HOUR = timedelta(hours=1)


def stuck() -> tuple[ModelWorld, LineageReport]:
    """Return a world with a stuck first change, and the report of the run that began the change."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    world.cdn.stick_next(IMG)
    report = world.run(world.desired())
    assert report is not None
    return world, report


def error_of(report: LineageReport) -> TargetStuck:
    (outcome,) = report.having(Outcome.FAILED)
    assert isinstance(outcome.error, TargetStuck)
    return outcome.error


def test_change_that_does_not_end_is_stuck_after_the_timeout() -> None:
    """The run waits for the usual length of a change, then reports the domain as stuck."""
    world, report = stuck()

    error = error_of(report)

    assert "qiniu has not finished its change since" in str(error)
    assert "until qiniu has finished" in str(error.hint)
    assert 1 == world.cdn.writes


def test_stuck_domain_is_not_written_to_and_not_waited_for_again() -> None:
    """A day later a single look is enough, and the count of tries stays."""
    world, _ = stuck()
    world.pass_time(timedelta(days=1))
    began = world.clock

    report = world.run(world.desired())

    assert report is not None
    error_of(report)
    assert world.clock - began < timedelta(seconds=1)
    assert 1 == world.cdn.writes


def test_change_that_ends_after_all_is_gone_on_with() -> None:
    """Support has ended the change: the next run notices by itself."""
    world, _ = stuck()
    world.pass_time(timedelta(days=1))
    world.cdn.end_change(IMG)
    world.pass_time(timedelta(minutes=5))

    report = world.run(world.desired())

    assert report is not None
    assert report.ok
    assert 1 == world.cdn.writes


def test_ticket_has_all_that_support_asks_for() -> None:
    """The ticket is Chinese in every language of the operator: domain, times, states, request."""
    _, report = stuck()
    (line, *more) = ticket(error_of(report).ticket).splitlines()

    assert IMG in line
    assert "您好" in line
    whole = "\n".join(more)
    for detail in ("request-1", "task-1", "processing", "httpsconf", "2026-11-24 12:00"):
        assert detail in whole


def test_ticket_is_punctuated_as_chinese_is() -> None:
    """A clerk at the target reads the ticket: half-width punctuation looks like a broken form."""
    _, report = stuck()

    words = ticket(error_of(report).ticket)

    assert [] == re.findall(r"[\u4e00-\u9fff] ?[,;:(]|[,;]\s?[\u4e00-\u9fff]", words)
    assert "小时，仍未结束。" in words


def test_status_shows_the_ticket() -> None:
    """The ticket does not need a run on the same day."""
    world, _ = stuck()
    observed = observe(world.desired(), world.ports("look"))

    (domain,) = status_of(world.desired(), observed, world.clock).domains

    assert domain.ticket
    assert domain.problem is not None


def test_stuck_after_every_edge_serves_is_distinguished() -> None:
    """Visitors have the new certificate: there is no hurry."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    world.run(world.desired())
    world.cdn.stick_next(IMG)
    world.cdn.touch(IMG)
    world.pass_time(2 * HOUR)

    report = world.run(world.desired())

    assert report is not None
    assert "every address already serves" in str(error_of(report))


moments = st.none() | st.integers(-300, 30).map(lambda minutes: NOW + timedelta(minutes=minutes))


@given(result=moments, accepted=moments, verified=st.booleans())
def test_older_of_both_times_counts(
    result: datetime | None,
    accepted: datetime | None,
    verified: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    """A domain is stuck if the target or our record dates the change far back; a record of a
    verified change does not count.
    """
    record = None
    if accepted is not None:
        record = RolloutRecord("img", "qiniu", IMG, "aa" * 32, accepted, accepted_at=accepted)
        record = replace(record, verified_at=accepted if verified else None)
    domain = ObservedDomain(
        IMG,
        Kind.CDN,
        DomainState.PROCESSING,
        last=record,
        task=TargetTask("processing", since=result),
    )

    since = stuck_since(domain, NOW, HOUR)

    begun = [] if accepted is None or verified else [accepted]
    if result is not None and all(result >= moment - timedelta(minutes=1) for moment in begun):
        begun.append(result)
    past = [moment for moment in begun if moment <= NOW]
    oldest = min(past, default=NOW)
    assert since == (oldest if NOW - oldest >= HOUR else None)
    assert stuck_since(replace(domain, state=DomainState.READY), NOW, HOUR) is None
