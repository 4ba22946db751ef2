"""The CA's renewal windows: asked for seldom, obeyed, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, cast

import pytest

from certferry.core.assessment.status import Standing, status_of
from certferry.core.certificates.certificate import (
    Certificate,
    CertificateBundle,
    RenewalInfo,
    RenewalWindow,
    renew_at,
)
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.reasons import ReasonCode
from certferry.errors import CaUnavailable, StateError
from certferry.ports.state import StateStore
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle, with_issuer_until
from tests.reconcile.model import START, ModelWorld
from tests.reconcile.one_lineage import IMG, complete_run
from tests.support.tiers import examples, thorough

HALF_DAY = timedelta(hours=12)
HOUR = timedelta(hours=1)
PAGE = "https://ca.example/why"


def as_lets_encrypt(certificate: Certificate) -> RenewalInfo:
    """Answer as Boulder does: a window of two fiftieths of the life around the last third, and the
    next question in six hours.
    """
    ideal = certificate.not_after - certificate.lifetime / 3
    margin = certificate.lifetime * 0.02
    return RenewalInfo(RenewalWindow(ideal - margin, ideal + margin), timedelta(hours=6))


def revoking(certificate: Certificate) -> RenewalInfo:
    """Answer as for a certificate that is about to be revoked."""
    start = certificate.not_before
    return RenewalInfo(RenewalWindow(start, start + timedelta(minutes=30), PAGE))


def fails(_: Certificate) -> RenewalInfo:
    raise CaUnavailable(Text("the CA is away"))


def versions(world: ModelWorld) -> list[tuple[datetime, Certificate]]:
    """Return each certificate with the moment of its arrival, oldest first."""
    stored = reversed(world.state.versions("img"))
    return [(version.saved_at, version.certificate) for version in stored]


def run_twice_a_day(world: ModelWorld, days: int) -> None:
    """Run like a timer, with some minutes of variation."""
    world.cdn.add_domain(IMG)
    for number in range(2 * days):
        world.clock = START + number * HALF_DAY + timedelta(seconds=number * 7919 % 1200)
        complete_run(world)


@pytest.mark.parametrize("days", [45, *(pytest.param(days, marks=thorough) for days in (64, 90))])
def test_year_of_runs_costs_one_request_each(days: int) -> None:
    """The CA gets two questions a day and one more for each new certificate. Every renewal comes in
    its window and names the replaced certificate.
    """
    world = ModelWorld(lifetime=timedelta(days=days), processing=timedelta(0))
    world.issuer.answer_with(as_lets_encrypt)

    run_twice_a_day(world, 365)

    assert 2 * 365 - 2 <= world.issuer.asked <= 2 * 365 + world.issuer.issued
    came = versions(world)
    assert abs(len(came) - 1 - 365 // (days * 2 / 3)) <= 1
    for (_, former), (saved_at, _) in pairwise(came):
        window = as_lets_encrypt(former).window
        assert window is not None
        assert window.start <= saved_at <= window.end
    leaves = [world.state.bundle("img", n + 1).cert_pem for n in range(len(came))]
    assert (None, *leaves[:-1]) == world.issuer.replaced


def test_runs_within_half_a_day_ask_nothing() -> None:
    """The question about a new certificate comes at once; then the CA has half a day of rest."""
    world = ModelWorld(processing=timedelta(0))
    world.cdn.add_domain(IMG)
    world.issuer.answer_with(as_lets_encrypt)
    world.clock = START.replace(hour=0)
    complete_run(world)
    assert 1 == world.issuer.asked

    for _ in range(11):
        world.pass_time(HOUR)
        complete_run(world)
    assert 1 == world.issuer.asked

    world.pass_time(HOUR)
    complete_run(world)
    assert 2 == world.issuer.asked


def test_what_only_looks_asks_nothing(world: ModelWorld) -> None:
    """A plan uses the last answer."""
    complete_run(world)
    asked = world.issuer.asked
    world.pass_time(timedelta(days=3))

    assert world.plan(world.desired()).is_empty
    assert asked == world.issuer.asked


def test_window_in_the_past_renews_at_once_and_says_why(world: ModelWorld) -> None:
    """The plan names the window and the CA's page."""
    complete_run(world)
    world.issuer.answer_with(revoking)
    world.pass_time(HALF_DAY)
    first = world.state.versions("img")[0]
    window = revoking(first.certificate).window
    world.state.save_renewal_info("img", first.certificate.fingerprint, window, world.clock)

    issue = world.plan(world.desired()).issue
    assert issue is not None
    assert window is not None
    assert f"between {window.start:%Y-%m-%d}" in str(issue.reason.message)
    assert PAGE in str(issue.reason.message)

    complete_run(world)
    assert 2 == world.issuer.issued


def test_question_and_renewal_are_one_run(world: ModelWorld) -> None:
    """The question comes before the plan."""
    complete_run(world)
    world.issuer.answer_with(revoking)
    world.pass_time(HALF_DAY)

    complete_run(world)

    assert 2 == world.issuer.issued


def long_passed(certificate: Certificate) -> RenewalInfo:
    """Name a window that was over before the certificate began, as for a mass revocation."""
    start = certificate.not_before - timedelta(days=200)
    return RenewalInfo(RenewalWindow(start, start + timedelta(days=2)))


@pytest.mark.parametrize("answer", [revoking, long_passed])
def test_ca_that_wants_everything_renewed_at_once_gets_one_order_a_day(
    world: ModelWorld, answer: Callable[[Certificate], RenewalInfo]
) -> None:
    """The CA's mistake floods neither the CA nor the CDN, in any number of runs. The first request
    is obeyed within an hour, because the request may be right.
    """
    world.issuer.answer_with(answer)
    for _ in range(3 * 24 * 2):
        began = world.clock
        complete_run(world)
        world.clock = max(world.clock, began + timedelta(minutes=30))

    came = [saved_at for saved_at, _ in versions(world)]
    first, second, *others = came
    assert second - first <= timedelta(hours=2)
    assert len(others) == 2
    assert all(
        timedelta(days=1) <= later - former <= timedelta(hours=26)
        for former, later in pairwise(came[1:])
    )


def test_moment_of_the_pause_is_reported(world: ModelWorld) -> None:
    """`status` names the end of the pause before a second renewal."""
    world.issuer.answer_with(long_passed)
    complete_run(world)
    world.pass_time(HALF_DAY)
    complete_run(world)
    world.pass_time(HALF_DAY)
    complete_run(world)
    assert 2 == world.issuer.issued
    observed = observe(world.desired(), world.ports("status"))

    status = status_of(world.desired(), observed, world.clock)

    assert observed.current is not None
    assert observed.current.saved_at + timedelta(days=1) == status.renew_at
    assert Standing.VALID is status.standing


def test_operator_and_a_new_setting_are_not_kept_waiting(world: ModelWorld) -> None:
    """The pause of an hour is for certferry's own decisions alone."""
    complete_run(world)
    assert world.run(world.desired(), renew=True) is not None
    assert 2 == world.issuer.issued

    desired = replace(world.desired(), names=("img.example.com", "www.img.example.com"))
    assert world.run(desired) is not None
    assert 3 == world.issuer.issued


def test_ca_that_does_not_answer_is_asked_again_in_the_next_half_day(world: ModelWorld) -> None:
    """The certificate is renewed in the last third of its life, or by the CA's last answer."""
    world.issuer.answer_with(as_lets_encrypt)
    complete_run(world)
    version = world.state.versions("img")[0]
    world.issuer.answer_with(fails)
    asked = world.issuer.asked
    for _ in range(6):
        world.pass_time(timedelta(hours=4))
        assert complete_run(world).ok

    now = world.state.versions("img")[0]
    assert asked + 2 == world.issuer.asked
    assert version.window == now.window

    certificate = now.certificate
    world.clock = renew_at(certificate, version.window)
    complete_run(world)
    assert 2 == world.issuer.issued


def test_absurd_answer_takes_an_earlier_window_away(world: ModelWorld) -> None:
    """The certificate is then renewed as without any window."""
    world.issuer.answer_with(as_lets_encrypt)
    complete_run(world)
    world.issuer.answer_with(lambda c: RenewalInfo(RenewalWindow(c.not_after, c.not_before)))
    world.pass_time(HALF_DAY)
    complete_run(world)

    version = world.state.versions("img")[0]
    assert version.window is None
    assert version.ask_after is not None


def test_window_before_the_certificates_life_renews_it_once(
    world: ModelWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """A CA asks in this way for the replacement of a certificate before its revocation; a successor
    with a window of its own ends the renewals.
    """
    complete_run(world)
    (first,) = world.state.versions("img")

    def asked_for(certificate: Certificate) -> RenewalInfo:
        is_first = certificate.fingerprint == first.certificate.fingerprint
        return (long_passed if is_first else as_lets_encrypt)(certificate)

    world.issuer.answer_with(asked_for)
    for _ in range(6):
        world.pass_time(HALF_DAY)
        complete_run(world)

    assert 2 == world.issuer.issued
    assert [] == caplog.records
    assert world.state.versions("img")[0].window is not None


def test_window_of_a_newer_certificate_is_reported_and_orders_nothing(
    world: ModelWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """The CA has mixed up two certificates."""

    def of_another(certificate: Certificate) -> RenewalInfo:
        start = certificate.not_before + timedelta(days=200)
        return RenewalInfo(RenewalWindow(start, start + timedelta(days=2)))

    world.issuer.answer_with(of_another)
    complete_run(world)
    world.pass_time(HALF_DAY)
    complete_run(world)

    assert 1 == world.issuer.issued
    assert None is world.state.versions("img")[0].window
    [*_, result] = caplog.records
    assert ("WARNING", 2) == (result.levelname, len(caplog.records))
    assert "img: certferry ignores the CA's renewal time, between " in result.getMessage()


def test_many_certificates_cost_one_question_each_in_half_a_day() -> None:
    """The number of runs and of certificates does not matter."""
    many = examples(1000, 20)
    world = ModelWorld(processing=timedelta(0))
    world.issuer.answer_with(as_lets_encrypt)
    world.clock = START.replace(hour=0)
    names = [f"n{number}.example.com" for number in range(many)]
    all_desired = [DesiredCertificate(name, (name,), "dnspod") for name in names]

    for half_days in range(1, 4):
        for _ in range(2):
            assert world.run_together(all_desired) is not None
        assert many == world.issuer.issued
        assert half_days * many == world.issuer.asked
        world.pass_time(HALF_DAY)


def test_former_certificate_that_cannot_be_read_is_replaced_all_the_same(world: ModelWorld) -> None:
    """The CA gets no replaced certificate and no question about a window; neither is an error."""
    complete_run(world)
    world.pass_time(timedelta(days=70))
    world.alive.add("run")
    ports = world.ports("run")
    run = LineageReconciler(
        world.desired(), replace(ports, state=cast("Any", Damaged(ports.state)))
    )

    world.pass_to_the_end(run)

    assert run.report().ok
    assert (None, None) == world.issuer.replaced


class Damaged:
    """A state with an unreadable first certificate."""

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def bundle(self, lineage: str, number: int) -> CertificateBundle:
        if number == 1:
            raise StateError(Text("the row is damaged"))
        return self._state.bundle(lineage, number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


def test_certificate_whose_signer_expires_is_replaced(world: ModelWorld) -> None:
    """The new certificate brings the CA's present chain; nothing is delivered before."""
    lease = world.state.acquire("img", world.clock)
    made = make_bundle(*world.desired().names, not_before=world.clock)
    ending = with_issuer_until(made, world.clock + timedelta(days=10))
    world.state.save_version(lease, ending, world.clock)
    world.state.release(lease)
    complete_run(world)
    assert 0 == world.issuer.issued
    world.pass_time(timedelta(days=11))

    issue = world.plan(world.desired()).issue
    complete_run(world)

    assert issue is not None
    assert ReasonCode.ISSUER_EXPIRED is issue.reason.code
    assert 1 == world.issuer.issued
    assert world.plan(world.desired()).is_empty
