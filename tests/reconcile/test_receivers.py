"""Certificates that are delivered to receivers: files, commands, and a CDN beside them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.core.assessment.status import Standing, status_of
from certferry.core.desired.certificate import DesiredCertificate, FileDelivery, delivered
from certferry.core.observed.observation import Change, DomainState
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome
from certferry.core.planning.steps import Action, Deploy
from certferry.core.reasons import ReasonCode
from certferry.errors import CaUnavailable
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler
from certferry.text import Text
from certferry_sandbox.testing.memory_receiver import MemoryReceiver
from tests.reconcile.model import ModelWorld
from tests.support.tiers import examples, sampled

IMG = "img.example.com"
DIRECTORY = "/opt/ssl/img"
DELIVERY = FileDelivery(DIRECTORY)


@pytest.fixture
def world() -> ModelWorld:
    """Nothing but a directory."""
    return ModelWorld()


@pytest.fixture
def receiver(world: ModelWorld) -> MemoryReceiver:
    """The directory."""
    return world.receivers.receiver(DELIVERY)


def wish(world: ModelWorld, *, cdn: bool = False) -> DesiredCertificate:
    """Ask for a certificate in the directory, and at the CDN as well."""
    wished = world.wish()
    served = wished.deployments if cdn else ()
    return replace(wished, deployments=(*served, delivered(DELIVERY)))


def synced(world: ModelWorld, *, cdn: bool = False) -> LineageReport:
    """Run to the end."""
    report = world.run(wish(world, cdn=cdn))
    assert report is not None
    return report


def step(report: LineageReport) -> StepOutcome:
    """The outcome of the delivery: its only one."""
    (found,) = (outcome for outcome in report.outcomes if outcome.target == "files")
    return found


def standing(world: ModelWorld) -> Standing:
    """How the directory stands."""
    wished = wish(world)
    status = status_of(wished, observe(wished, world.ports("looker")), world.clock)
    (found,) = status.domains
    assert (None, ()) == (found.upload_deadline, found.served)
    return found.standing


def test_certificate_is_delivered_in_one_visit(world: ModelWorld, receiver: MemoryReceiver) -> None:
    """There is nothing to wait for: a run without patience is done."""
    world.alive.add("run")
    run = LineageReconciler(wish(world), world.ports("run"))

    assert run.reconcile() is None

    assert (Action.DEPLOY, Outcome.DONE) == (step(run.report()).action, step(run.report()).outcome)
    assert [run.report().fingerprint] == receiver.deliveries
    assert Standing.VERIFIED is standing(world)
    events = [entry.event for entry in reversed(world.state.history("img", 10))]
    assert ["issued", "deployed", "verified"] == events
    assert () == world.state.uploads("img", "files")


def test_second_run_delivers_nothing(world: ModelWorld, receiver: MemoryReceiver) -> None:
    """It says so, and writes nothing into the state."""
    synced(world)
    entries = world.state.history(None, 100)

    report = synced(world)

    assert report.is_unchanged
    assert (DIRECTORY, Outcome.UNCHANGED) == (step(report).domain, step(report).outcome)
    assert 1 == len(receiver.deliveries)
    assert entries == world.state.history(None, 100)


def test_drift_is_planned_and_repaired(world: ModelWorld, receiver: MemoryReceiver) -> None:
    """What has changed stands in the plan; nothing is issued for it."""
    synced(world)
    receiver.drifted = True

    (planned,) = world.plan(wish(world)).steps
    assert isinstance(planned, Deploy)
    assert ReasonCode.DELIVERY_DRIFTED is planned.reason.code
    assert (Change("fullchain.pem", "changed", "delivered"),) == planned.changes
    assert Standing.DRIFTED is standing(world)

    assert synced(world).ok
    assert (1, 2) == (world.issuer.issued, len(receiver.deliveries))
    assert Standing.VERIFIED is standing(world)


def test_failed_delivery_is_tried_again_by_the_next_run(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """It is told, nothing is issued again, and the plan says what is left to do."""
    receiver.failures = 1

    failed = step(synced(world))

    assert Outcome.FAILED is failed.outcome
    assert "exit code 1" in str(failed.detail)
    (planned,) = world.plan(wish(world)).steps
    assert ReasonCode.DELIVERY_UNFINISHED is planned.reason.code
    assert synced(world).ok
    assert (1, 1) == (world.issuer.issued, len(receiver.deliveries))


def test_failed_delivery_is_tried_once_in_a_run(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """A run that waits for a CDN comes back often; the failure stays, the CDN is served."""
    world.cdn.add_domain(IMG)
    receiver.failures = 100

    report = synced(world, cdn=True)

    assert 99 == receiver.failures
    assert Outcome.FAILED is step(report).outcome
    assert {Outcome.DONE} == {o.outcome for o in report.outcomes if o.target == "qiniu"}


def test_receiver_that_takes_nothing_stops_nothing_else(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """The CDN is served; the directory's failure is told with its hint."""
    world.cdn.add_domain(IMG)
    receiver.closed = True

    report = synced(world, cdn=True)

    assert (Outcome.FAILED, DIRECTORY) == (step(report).outcome, step(report).domain)
    assert step(report).hint is not None
    assert {Outcome.DONE} == {o.outcome for o in report.outcomes if o.target == "qiniu"}
    receiver.closed = False
    assert synced(world, cdn=True).ok


def test_nothing_is_issued_that_no_target_takes(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """An operator who corrects the directory finds the CA's count as it was."""
    receiver.closed = True

    assert not synced(world).ok
    assert 0 == world.issuer.issued
    assert Standing.UNKNOWN is standing(world)


def test_renewal_replaces_what_is_there(world: ModelWorld, receiver: MemoryReceiver) -> None:
    """The plan says from which certificate to which; nothing is ever retired."""
    synced(world)
    world.pass_time(timedelta(days=61))
    planned = world.plan(wish(world))

    assert synced(world).ok

    issue, deploy = planned.steps
    assert isinstance(deploy, Deploy)
    (change,) = deploy.changes
    assert (Action.ISSUE, ReasonCode.NEW_CERTIFICATE) == (issue.action, deploy.reason.code)
    assert (receiver.deliveries[0][:12], "…") == (change.was, change.becomes)
    assert 2 == len(receiver.deliveries)
    assert world.plan(wish(world)).is_settled


def test_certificate_of_another_owner_is_replaced(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """An operator who declares the directory wants ours in it; the plan says so first."""
    synced(world)
    receiver.held = "ab" * 32

    (planned,) = world.plan(wish(world)).steps
    assert ReasonCode.HOLDS_FOREIGN is planned.reason.code
    assert synced(world).ok
    assert 2 == len(receiver.deliveries)


def test_expired_certificate_is_not_delivered(world: ModelWorld, receiver: MemoryReceiver) -> None:
    """What is there may still be valid."""
    synced(world)
    receiver.held = None
    world.pass_time(timedelta(days=91))
    world.issuer.fail_with(CaUnavailable(Text("no answer")))

    assert Outcome.REFUSED is step(synced(world)).outcome
    assert 1 == len(receiver.deliveries)


def test_every_position_is_killed_once() -> None:
    """Each gap between two calls in turn: one certificate, delivered, and nothing left to plan."""
    calm = ModelWorld()
    calm.cdn.add_domain(IMG)
    calm.run(wish(calm, cdn=True))

    for position in sampled(range(1, calm.calls)):
        world = ModelWorld()
        world.cdn.add_domain(IMG)
        assert world.run(wish(world, cdn=True), kill_after=position) is None
        report = world.run(wish(world, cdn=True))

        assert report is not None
        assert report.ok, position
        assert (1, 1) == (world.issuer.issued, world.cdn.uploads), position
        assert world.receivers.receiver(DELIVERY).deliveries, position
        assert world.plan(wish(world, cdn=True)).is_settled, position


@settings(max_examples=examples(40))
@given(
    phases=st.lists(
        st.tuples(
            st.sampled_from([timedelta(0), timedelta(days=20), timedelta(days=70)]),
            st.lists(st.integers(0, 80), max_size=3),
            st.integers(0, 2),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_world_ends_as_declared(
    phases: list[tuple[timedelta, list[int], int, bool]],
) -> None:
    """Whenever it was killed, however often it failed or another tool meddled: it is delivered."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    receiver = world.receivers.receiver(DELIVERY)
    for pause, kills, failures, drifted in phases:
        world.pass_time(pause)
        receiver.failures, receiver.drifted = failures, drifted
        for position in kills:
            world.run(wish(world, cdn=True), kill_after=position)
        for _ in range(failures + 1):
            world.run(wish(world, cdn=True))

        current = world.state.versions("img")[0].certificate.fingerprint
        assert world.plan(wish(world, cdn=True)).is_settled
        assert current == receiver.observe(None).bound
        assert DomainState.READY is receiver.observe(None).state
        assert [] == world.cdn.broken
