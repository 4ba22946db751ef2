"""Receivers whose hosts must present the certificate (`serves`), in the reconciler."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.core.assessment.sightings import sighted
from certferry.core.assessment.status import DomainStatus, Standing, status_of
from certferry.core.desired.certificate import DesiredCertificate, FileDelivery, OnFailure
from certferry.core.desired.declaration import delivered
from certferry.core.network import Host
from certferry.core.observed.observation import Served
from certferry.core.planning.plan import Action, Deploy, Verify
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome
from certferry.core.reasons import ReasonCode
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler
from certferry.values import replace
from certferry_sandbox.testing.memory_receiver import MemoryReceiver
from tests.reconcile.model import ModelWorld
from tests.support.tiers import sampled

DIRECTORY = "/etc/nginx/tls"
DELIVERY = FileDelivery(DIRECTORY)
WEB, OTHER = Host("img.example.com", 8443), Host("img.example.com", 9443)
TWO_MINUTES = timedelta(minutes=2)


class Server:
    """A model world, a directory, and the server of the directory as a host to prove."""

    def __init__(self, *, on_failure: OnFailure = OnFailure.KEEP) -> None:
        self.world = ModelWorld()
        self.receiver: MemoryReceiver = self.world.receivers.receiver(DELIVERY)
        self.world.cdn.servers[WEB] = self.receiver.presented
        deployment = replace(delivered(DELIVERY, (WEB,)), on_failure=on_failure)
        self.desired: DesiredCertificate = replace(self.world.desired(), deployments=(deployment,))

    def run(self, *, renew: bool = False) -> LineageReport:
        report = self.world.run(self.desired, renew=renew)
        assert report is not None
        return report

    def run_again(self, *, renew: bool = False) -> LineageReport:
        """Run half a day later, as the schedule does."""
        self.world.pass_time(timedelta(hours=12))
        return self.run(renew=renew)

    def events(self) -> list[str]:
        return [entry.event for entry in reversed(self.world.state.history("img", 20))]

    def status(self) -> DomainStatus:
        observed = observe(self.desired, self.world.ports("looker"))
        (domain,) = status_of(self.desired, observed, self.world.clock).domains
        return domain

    def is_sighted(self) -> bool:
        observed = observe(self.desired, self.world.ports("looker"))
        (place,) = sighted("img", observed, self.world.clock).places
        return place.served


@pytest.fixture
def server() -> Server:
    return Server()


def of(report: LineageReport, action: Action) -> StepOutcome:
    """Return the outcome of the only step of a kind."""
    (step,) = (step for step in report.outcomes if step.action is action)
    return step


def test_certificate_is_delivered_and_then_seen_served(server: Server) -> None:
    """The delivery waits for the handshake, and the report has both steps."""
    report = server.run()

    assert report.ok
    assert (Outcome.DONE, "delivered") == (
        of(report, Action.DEPLOY).outcome,
        str(of(report, Action.DEPLOY).detail),
    )
    assert (Outcome.DONE, "served by every address that answers") == (
        of(report, Action.VERIFY).outcome,
        str(of(report, Action.VERIFY).detail),
    )
    assert ["issued", "deployed", "verified"] == server.events()
    assert (Standing.VERIFIED, "verified") == (server.status().standing, server.status().word)
    assert ["img.example.com:8443 (192.0.2.9)"] == [a.place for a in server.status().served]
    assert server.is_sighted()


def test_plan_says_that_the_certificate_will_be_verified(server: Server) -> None:
    """A receiver with hosts has two steps, as a domain of a CDN has."""
    steps = server.world.plan(server.desired).steps

    assert [Deploy, Verify] == [type(step) for step in steps if not hasattr(step, "names")]


def test_second_run_has_nothing_to_do(server: Server) -> None:
    """The run asks the host once, and reports the host as served."""
    server.run()

    report = server.run_again()

    assert report.is_unchanged
    assert "served by every address that answers" == str(of(report, Action.VERIFY).detail)
    assert 1 == len(server.receiver.deliveries)


def test_reload_without_effect_fails_by_address(server: Server) -> None:
    """The program ended with 0, and the server presents the earlier certificate."""
    server.run()
    server.receiver.deaf = True
    begun = server.world.clock

    report = server.run(renew=True)

    failed = of(report, Action.VERIFY)
    assert Outcome.FAILED is failed.outcome
    assert "img.example.com:8443 (192.0.2.9)" in str(failed.detail)
    assert "the log of the server" in str(failed.hint)
    assert TWO_MINUTES <= server.world.clock - begun < TWO_MINUTES + timedelta(seconds=10)
    assert Outcome.DONE is of(report, Action.DEPLOY).outcome
    assert Standing.PROPAGATING is server.status().standing
    assert not server.is_sighted()


def test_shorter_time_out_of_the_file_counts(server: Server) -> None:
    """`[verify] timeout` bounds the wait."""
    ports = replace(server.world.ports("run"), verify_timeout=timedelta(seconds=20))
    server.receiver.deaf = True
    server.world.alive.add("run")
    begun = server.world.clock
    run = LineageReconciler(server.desired, ports)

    server.world.pass_to_the_end(run)

    assert Outcome.FAILED is of(run.report(), Action.VERIFY).outcome
    assert server.world.clock - begun < timedelta(seconds=30)


def test_next_run_delivers_again(server: Server) -> None:
    """A later reload takes effect; the program is run although every file is in place."""
    server.receiver.deaf = True
    server.run()
    server.receiver.deaf = False

    (planned, *_) = server.world.plan(server.desired).steps
    report = server.run_again()

    assert isinstance(planned, Deploy)
    assert ReasonCode.DELIVERY_UNFINISHED is planned.reason.code
    assert report.ok
    assert 2 == len(server.receiver.deliveries)
    assert server.run_again().is_unchanged


def test_server_that_recovers_by_itself(server: Server) -> None:
    """No delivery is needed once the host presents the certificate; the state stores the proof."""
    server.receiver.deaf = True
    server.run()
    server.receiver.served = server.receiver.held

    assert server.run_again().ok
    assert 1 == len(server.receiver.deliveries)
    assert server.run_again().is_unchanged


def test_server_that_loses_the_certificate(server: Server) -> None:
    """The run waits for two minutes and fails; a later run delivers again."""
    server.run()
    server.receiver.served = "ff" * 32

    report = server.run_again()

    assert Outcome.FAILED is of(report, Action.VERIFY).outcome
    assert 1 == len(server.receiver.deliveries)
    assert server.run_again().ok
    assert 2 == len(server.receiver.deliveries)


def test_silent_address_beside_an_answering_address(server: Server) -> None:
    """A silent address is named and does not count, as at edges."""
    seen = server.receiver.presented

    def presented() -> tuple[Served, ...]:
        return (*seen(), Served("192.0.2.10", None, valid=False, silent=True))

    server.world.cdn.servers[WEB] = presented

    report = server.run()

    assert report.ok
    assert "no answer from img.example.com:8443 (192.0.2.10)" in str(
        of(report, Action.VERIFY).detail
    )


def test_host_without_an_answering_address_is_not_served(server: Server) -> None:
    """The other host proves nothing about the silent host."""
    (deployment,) = server.desired.deployments
    server.world.cdn.servers[OTHER] = lambda: (
        Served("192.0.2.11", None, valid=False, silent=True),
    )
    server.desired = replace(
        server.desired, deployments=(replace(deployment, serves=(WEB, OTHER)),)
    )

    failed = of(server.run(), Action.VERIFY)

    assert Outcome.FAILED is failed.outcome
    assert "1 of 2 addresses" in str(failed.detail)
    assert "img.example.com:9443 (192.0.2.11)" in str(failed.detail)


def test_impatient_run_leaves_the_proof_to_the_next_run(server: Server) -> None:
    """`--no-wait` ends after the delivery; the next run only looks."""
    server.world.alive.add("run")
    run = LineageReconciler(server.desired, server.world.ports("run"))
    assert run.reconcile() is not None
    assert Outcome.WAITING is of(run.report(), Action.DEPLOY).outcome
    server.world.alive.discard("run")

    assert server.run().ok
    assert 1 == len(server.receiver.deliveries)


@pytest.fixture
def careful() -> Server:
    return Server(on_failure=OnFailure.ROLLBACK)


def test_certificate_that_is_not_served_is_put_back(careful: Server) -> None:
    """The earlier certificate is delivered and seen again; the failure is reported."""
    careful.run()
    before = careful.receiver.held
    careful.receiver.deaf = True

    report = careful.run(renew=True)

    failed = of(report, Action.ROLLBACK)
    assert Outcome.FAILED is failed.outcome
    assert "img.example.com:8443 (192.0.2.9)" in str(failed.detail)
    assert before == careful.receiver.held == careful.receiver.served
    assert Outcome.DONE is of(report, Action.VERIFY).outcome
    assert 3 == len(careful.receiver.deliveries)
    assert "rolled back" in careful.events()


def test_withdrawn_certificate_is_not_tried_again(careful: Server) -> None:
    """Later runs keep the earlier certificate; the next new certificate replaces both."""
    careful.run()
    before = careful.receiver.held
    careful.receiver.deaf = True
    careful.run(renew=True)
    careful.receiver.deaf = False

    assert careful.run_again().ok
    assert before == careful.receiver.held
    assert ReasonCode.ROLLED_BACK.value == getattr(careful.status().problem, "code", None)

    report = careful.run_again(renew=True)
    assert report.ok
    assert report.fingerprint == careful.receiver.served


def test_without_an_earlier_certificate_the_new_one_stays(careful: Server) -> None:
    """There is nothing to put back, and the failure is that of the proof."""
    careful.receiver.deaf = True

    report = careful.run()

    assert Outcome.FAILED is of(report, Action.VERIFY).outcome
    assert careful.receiver.held == report.fingerprint


def test_server_that_was_down_before_is_no_reason_to_go_back(careful: Server) -> None:
    """Only a host that served the earlier certificate refuses because of the delivery."""
    careful.run()
    careful.receiver.served = None
    careful.receiver.deaf = True

    report = careful.run(renew=True)

    assert Outcome.FAILED is of(report, Action.VERIFY).outcome
    assert careful.receiver.held == report.fingerprint


def test_failed_reload_that_leaves_the_server_down_is_put_back_by_the_next_run(
    careful: Server,
) -> None:
    """The program failed with the new files in place, and the host is silent since."""
    careful.run()
    before = careful.receiver.held
    careful.receiver.failures, careful.receiver.served = 1, careful.receiver.held
    assert Outcome.FAILED is of(careful.run(renew=True), Action.DEPLOY).outcome
    careful.receiver.served = None

    report = careful.run_again()

    assert Outcome.FAILED is of(report, Action.ROLLBACK).outcome
    assert before == careful.receiver.held == careful.receiver.served


def test_setting_to_keep_is_kept(server: Server) -> None:
    """Without `rollback` the new certificate stays in place."""
    server.run()
    server.receiver.deaf = True

    report = server.run(renew=True)

    assert server.receiver.held == report.fingerprint


@pytest.mark.parametrize("kill_after", sampled(range(1, 60), 12))
def test_rollback_killed_anywhere_ends_the_same(kill_after: int) -> None:
    """The next runs put the earlier certificate back, and deliver the refused one no more."""
    server = Server(on_failure=OnFailure.ROLLBACK)
    server.run()
    before = server.receiver.held
    server.receiver.deaf = True
    server.world.run(server.desired, renew=True, kill_after=kill_after)
    if len(server.world.state.versions("img")) == 1:
        return  # killed before the order ended

    for _ in range(3):
        server.run_again()

    assert before == server.receiver.held == server.receiver.served
