"""Receivers, and settings of domains, in the reconciler."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.core.assessment.status import Standing, status_of
from certferry.core.desired.certificate import DesiredCertificate, DesiredHttps, FileDelivery, Kind
from certferry.core.desired.declaration import delivered
from certferry.core.observed.observation import Change, DomainState
from certferry.core.planning.plan import Action, Deploy
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome
from certferry.core.reasons import ReasonCode
from certferry.errors import CaUnavailable
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.memory_receiver import MemoryReceiver
from tests.reconcile.model import FALLEN, ModelWorld
from tests.support.tiers import examples, sampled

# --- Certificates that are delivered to receivers: files, commands, and a CDN beside them


IMG = "img.example.com"
DIRECTORY = "/opt/ssl/img"
DELIVERY = FileDelivery(DIRECTORY)


@pytest.fixture
def world() -> ModelWorld:
    """Return a world without domains."""
    return ModelWorld()


@pytest.fixture
def receiver(world: ModelWorld) -> MemoryReceiver:
    return world.receivers.receiver(DELIVERY)


def desired(world: ModelWorld, *, cdn: bool = False) -> DesiredCertificate:
    """Declare a certificate for the directory, and with `cdn` for the CDN as well."""
    declared = world.desired()
    served = declared.deployments if cdn else ()
    return replace(declared, deployments=(*served, delivered(DELIVERY)))


def complete_run(world: ModelWorld, *, cdn: bool = False) -> LineageReport:
    report = world.run(desired(world, cdn=cdn))
    assert report is not None
    return report


def step(report: LineageReport) -> StepOutcome:
    """Return the outcome of the only delivery."""
    (delivery,) = (outcome for outcome in report.outcomes if outcome.target == "files")
    return delivery


def standing(world: ModelWorld) -> Standing:
    declared = desired(world)
    status = status_of(declared, observe(declared, world.ports("looker")), world.clock)
    (domain,) = status.domains
    assert (None, ()) == (domain.upload_deadline, domain.served)
    assert (domain.word == "delivered") is (domain.standing is Standing.VERIFIED)
    return domain.standing


def test_certificate_is_delivered_in_one_pass(world: ModelWorld, receiver: MemoryReceiver) -> None:
    """A delivery needs no wait: a run without patience is done."""
    world.alive.add("run")
    run = LineageReconciler(desired(world), world.ports("run"))

    assert run.reconcile() is None

    assert (Action.DEPLOY, Outcome.DONE) == (step(run.report()).action, step(run.report()).outcome)
    assert [run.report().fingerprint] == receiver.deliveries
    assert Standing.VERIFIED is standing(world)
    events = [entry.event for entry in reversed(world.state.history("img", 10))]
    assert ["issued", "deployed", "verified"] == events
    assert () == world.state.uploads("img", "files")


def test_second_run_delivers_nothing(world: ModelWorld, receiver: MemoryReceiver) -> None:
    """The run reports no change, and the state is not written."""
    complete_run(world)
    entries = world.state.history(None, 100)

    report = complete_run(world)

    assert report.is_unchanged
    assert (DIRECTORY, Outcome.UNCHANGED) == (step(report).domain, step(report).outcome)
    assert 1 == len(receiver.deliveries)
    assert entries == world.state.history(None, 100)


def test_drift_is_planned_and_repaired(world: ModelWorld, receiver: MemoryReceiver) -> None:
    """The plan names the changed file; no certificate is issued."""
    complete_run(world)
    receiver.drifted = True

    (planned,) = world.plan(desired(world)).steps
    assert isinstance(planned, Deploy)
    assert ReasonCode.DELIVERY_DRIFTED is planned.reason.code
    assert (Change("fullchain.pem", "changed", "delivered"),) == planned.changes
    assert Standing.DRIFTED is standing(world)

    assert complete_run(world).ok
    assert (1, 2) == (world.issuer.issued, len(receiver.deliveries))
    assert Standing.VERIFIED is standing(world)


def test_receiver_that_has_all_stays_unchanged_beside_a_repair(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """A repair at the CDN takes several passes, without a delivery."""
    world.cdn.add_domain(IMG)
    complete_run(world, cdn=True)
    world.pass_time(timedelta(hours=1))
    before = step(complete_run(world, cdn=True))
    world.cdn.set_by_others(IMG, world.cdn.put_foreign(IMG))

    after = step(complete_run(world, cdn=True))

    assert (Outcome.UNCHANGED, before.detail) == (after.outcome, after.detail)
    assert 1 == len(receiver.deliveries)


def test_failed_delivery_is_tried_again_by_the_next_run(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """The failure is reported, no certificate is issued, and the plan names the open delivery."""
    receiver.failures = 1

    failed = step(complete_run(world))

    assert Outcome.FAILED is failed.outcome
    assert "exit code 1" in str(failed.detail)
    (planned,) = world.plan(desired(world)).steps
    assert ReasonCode.DELIVERY_UNFINISHED is planned.reason.code
    assert complete_run(world).ok
    assert (1, 1) == (world.issuer.issued, len(receiver.deliveries))


def test_failed_delivery_is_tried_once_in_a_run(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """A run that waits for a CDN comes back often; the failure stays, the CDN is served."""
    world.cdn.add_domain(IMG)
    receiver.failures = 100

    report = complete_run(world, cdn=True)

    assert 99 == receiver.failures
    assert Outcome.FAILED is step(report).outcome
    assert {Outcome.DONE} == {o.outcome for o in report.outcomes if o.target == "qiniu"}


def test_receiver_that_takes_nothing_stops_nothing_else(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """The CDN is served; the directory's failure is reported with its hint."""
    world.cdn.add_domain(IMG)
    receiver.closed = True

    report = complete_run(world, cdn=True)

    assert (Outcome.FAILED, DIRECTORY) == (step(report).outcome, step(report).domain)
    assert step(report).hint is not None
    assert {Outcome.DONE} == {o.outcome for o in report.outcomes if o.target == "qiniu"}
    receiver.closed = False
    assert complete_run(world, cdn=True).ok


def test_nothing_is_issued_that_no_target_takes(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """A bad directory uses up none of the CA's limits."""
    receiver.closed = True

    assert not complete_run(world).ok
    assert 0 == world.issuer.issued
    assert Standing.UNKNOWN is standing(world)


def test_renewal_replaces_what_is_there(world: ModelWorld, receiver: MemoryReceiver) -> None:
    """The plan names both certificates; nothing is ever retired."""
    complete_run(world)
    world.pass_time(timedelta(days=61))
    planned = world.plan(desired(world))

    assert complete_run(world).ok

    issue, deploy = planned.steps
    assert isinstance(deploy, Deploy)
    (change,) = deploy.changes
    assert (Action.ISSUE, ReasonCode.NEW_CERTIFICATE) == (issue.action, deploy.reason.code)
    assert (receiver.deliveries[0][:12], "…") == (change.was, change.becomes)
    assert 2 == len(receiver.deliveries)
    assert world.plan(desired(world)).is_settled


def test_certificate_of_another_owner_is_replaced(
    world: ModelWorld, receiver: MemoryReceiver
) -> None:
    """A declared directory is for our certificate; the plan says so first."""
    complete_run(world)
    receiver.held = "ab" * 32

    (planned,) = world.plan(desired(world)).steps
    assert ReasonCode.HOLDS_FOREIGN is planned.reason.code
    assert complete_run(world).ok
    assert 2 == len(receiver.deliveries)


def test_expired_certificate_is_not_delivered(world: ModelWorld, receiver: MemoryReceiver) -> None:
    """The present files may still be valid."""
    complete_run(world)
    receiver.held = None
    world.pass_time(timedelta(days=91))
    world.issuer.fail_with(CaUnavailable(Text("no answer")))

    assert Outcome.REFUSED is step(complete_run(world)).outcome
    assert 1 == len(receiver.deliveries)


def test_every_position_is_killed_once() -> None:
    """After a kill at each gap between two calls: one certificate, delivered, and an empty plan."""
    calm = ModelWorld()
    calm.cdn.add_domain(IMG)
    calm.run(desired(calm, cdn=True))

    for position in sampled(range(1, calm.calls)):
        world = ModelWorld()
        world.cdn.add_domain(IMG)
        assert world.run(desired(world, cdn=True), kill_after=position) is None
        report = world.run(desired(world, cdn=True))

        assert report is not None
        assert report.ok, position
        assert (1, 1) == (world.issuer.issued, world.cdn.uploads), position
        assert world.receivers.receiver(DELIVERY).deliveries, position
        assert world.plan(desired(world, cdn=True)).is_settled, position


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
def test_any_world_ends_as_declared(phases: list[tuple[timedelta, list[int], int, bool]]) -> None:
    """After any kills, failures and foreign changes the certificate is delivered."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    receiver = world.receivers.receiver(DELIVERY)
    for pause, kills, failures, drifted in phases:
        world.pass_time(pause)
        receiver.failures, receiver.drifted = failures, drifted
        for position in kills:
            world.run(desired(world, cdn=True), kill_after=position)
        for _ in range(failures + 1):
            world.run(desired(world, cdn=True))

        current = world.state.versions("img")[0].certificate.fingerprint
        assert world.plan(desired(world, cdn=True)).is_settled
        assert current == receiver.observe(None).bound
        assert DomainState.READY is receiver.observe(None).state
        assert [] == world.cdn.broken


# # --- A domain's settings, also unreported ones: each value is sent once


VERSIONS = ("TLSv1.2", "TLSv1.3")
UNTOLD = frozenset({"force_https", "http2", "tls_versions"})
ALL_DESIRED = [
    pytest.param(DesiredHttps(tls_versions=VERSIONS), id="tls_versions"),
    pytest.param(DesiredHttps(force_https=False), id="force_https"),
    pytest.param(DesiredHttps(http2=True), id="http2"),
]


def served(*, untold: frozenset[str] = UNTOLD) -> ModelWorld:
    """Return a domain with our certificate, at a CDN that reports none of its settings."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    world.cdn.untold = untold
    synced_with_settings(world, world.desired())
    return world


def synced_with_settings(world: ModelWorld, desired: DesiredCertificate) -> LineageReport:
    report = world.run(desired)
    assert report is not None
    return report


def footprint(world: ModelWorld) -> tuple[int, int, int]:
    """Count certificates, uploads and changes of domains."""
    return world.issuer.issued, world.cdn.uploads, world.cdn.writes


@pytest.mark.parametrize("untold", [UNTOLD, frozenset()], ids=["untold", "told-once-set"])
@pytest.mark.parametrize("https", ALL_DESIRED)
def test_setting_added_to_a_domain_that_serves_ours(
    https: DesiredHttps, untold: frozenset[str]
) -> None:
    """The setting is planned, applied without a certificate or an upload, and then left alone."""
    world = served(untold=untold)
    desired = world.desired(https=https)

    (deploy, _) = world.plan(desired).steps
    assert isinstance(deploy, Deploy)
    assert ReasonCode.SETTINGS_DRIFTED is deploy.reason.code
    assert ["unknown"] == [change.was for change in deploy.changes]

    assert synced_with_settings(world, desired).ok
    assert https.tls_versions == world.cdn.settings(IMG).tls_versions
    assert (https.force_https, https.http2) == (
        world.cdn.settings(IMG).force_https,
        world.cdn.settings(IMG).http2,
    )
    assert (1, 1, 2) == footprint(world)
    assert world.plan(desired).is_settled
    assert synced_with_settings(world, desired).is_unchanged
    assert (1, 1, 2) == footprint(world)


def test_setting_that_changes_is_sent_each_time() -> None:
    """Another list of versions is another setting; another order of the list is the same."""
    world = served()
    lists = [VERSIONS, VERSIONS[::-1], ("TLSv1.3",), VERSIONS]

    for versions in lists:
        assert synced_with_settings(
            world, world.desired(https=DesiredHttps(tls_versions=versions))
        ).ok

    assert set(VERSIONS) == set(world.cdn.settings(IMG).tls_versions or ())
    assert (1, 1, 4) == footprint(world)


def test_setting_stands_in_the_diff_of_another_deployment() -> None:
    """The diff has the setting beside the replaced certificate."""
    world = served()
    world.pass_time(timedelta(days=61))

    plan = world.plan(world.desired(https=DesiredHttps(tls_versions=VERSIONS)))

    deploy = plan.rollouts[0].deploy
    assert deploy is not None
    assert Change("tls_versions", None, "TLSv1.2, TLSv1.3", untold=True) == deploy.changes[1]


def test_renewal_forgets_nothing_that_was_sent() -> None:
    """The new certificate has the same settings, and no setting is sent twice."""
    world = served()
    desired = world.desired(https=DesiredHttps(tls_versions=VERSIONS))
    synced_with_settings(world, desired)
    world.pass_time(timedelta(days=61))

    assert synced_with_settings(world, desired).ok

    assert (2, 2, 3) == footprint(world)
    assert world.plan(desired).is_settled


def test_edge_that_falls_back_forgets_nothing_that_was_sent() -> None:
    """A second look at a domain sends no setting."""
    world = served()
    desired = world.desired(https=DesiredHttps(tls_versions=VERSIONS))
    synced_with_settings(world, desired)
    world.alive.add("fallen")
    run = LineageReconciler(desired, replace(world.ports("fallen"), probe=FALLEN))
    assert run.reconcile() is not None

    assert world.plan(desired).is_settled
    assert synced_with_settings(world, desired).ok
    assert (1, 1, 2) == footprint(world)


def test_change_of_a_setting_that_fails_is_made_again() -> None:
    """The target first accepted the setting and failed later: the plan is open again."""
    world = served()
    desired = world.desired(https=DesiredHttps(tls_versions=VERSIONS))
    world.cdn.fail_next(IMG, "verify tls fail")

    failed = synced_with_settings(world, desired)

    assert [Outcome.FAILED] == [step.outcome for step in failed.outcomes]
    assert None is world.cdn.settings(IMG).tls_versions
    assert not world.plan(desired).is_settled
    assert synced_with_settings(world, desired).ok
    assert VERSIONS == world.cdn.settings(IMG).tls_versions
    assert world.plan(desired).is_settled


def test_change_that_fails_after_it_seemed_done_is_made_again() -> None:
    """A lagging read showed the domain at rest; the later failure counts."""
    world = served()
    desired = world.desired(https=DesiredHttps(tls_versions=VERSIONS))
    world.cdn.fail_next(IMG, "verify tls fail")
    world.cdn.hide_changes(IMG, 1)
    assert synced_with_settings(world, desired).ok
    world.pass_time(timedelta(hours=1))

    assert not world.plan(desired).is_settled
    assert synced_with_settings(world, desired).ok
    assert VERSIONS == world.cdn.settings(IMG).tls_versions
    assert world.plan(desired).is_settled


def test_change_of_another_tool_that_fails_takes_nothing_back() -> None:
    """An earlier successful setting is not sent again."""
    world = served()
    desired = world.desired(https=DesiredHttps(tls_versions=VERSIONS))
    synced_with_settings(world, desired)
    [remote_id] = world.cdn.used
    world.cdn.fail_next(IMG, "verify redirect fail")
    world.cdn.bind(IMG, Kind.CDN, remote_id, DesiredHttps(force_https=True))
    world.pass_time(timedelta(hours=1))

    assert world.plan(desired).is_settled
    assert synced_with_settings(world, desired).is_unchanged


def test_every_position_of_a_change_of_settings_is_killed_once() -> None:
    """After any kill the settings end as declared, with one certificate and one upload."""
    desired = ModelWorld().desired(https=DesiredHttps(tls_versions=VERSIONS))
    calm = served()
    calm.run(desired)

    for position in sampled(range(1, calm.calls)):
        world = served()
        assert world.run(desired, kill_after=position) is None
        assert synced_with_settings(world, desired).ok, position

        assert VERSIONS == world.cdn.settings(IMG).tls_versions, position
        assert (1, 1, 2) == footprint(world), position
        assert world.plan(desired).is_settled, position


def test_status_names_the_setting_that_differs() -> None:
    """The domain has drifted, and the sentence names the setting."""
    world = served()
    desired = world.desired(https=DesiredHttps(tls_versions=VERSIONS))

    [domain] = status_of(desired, observe(desired, world.ports("looker")), world.clock).domains

    assert Standing.DRIFTED is domain.standing
    assert domain.problem is not None
    assert "settings differ from the file: tls_versions unknown → TLSv1.2, TLSv1.3" == str(
        domain.problem.message
    )
