"""Certificates of another client: imported, never issued."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.core.assessment.health import Recorded
from certferry.core.assessment.status import Standing
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    FileDelivery,
    PemFiles,
)
from certferry.core.desired.declaration import delivered
from certferry.core.planning.digest import digest_of_plans
from certferry.core.planning.plan import Action, Weight
from certferry.core.planning.planner import Claims
from certferry.core.planning.report import LineageReport, Outcome
from certferry.errors import CertificateError, PlanRefused
from certferry.ports.state import ChallengeRecord
from certferry.reconcile.by_hand import withdraw_by_hand
from certferry.reconcile.observe import as_known
from certferry.reconcile.reads import plans_of, plans_to_confirm, statuses_of
from certferry.reconcile.reconciler import LineageReconciler, RunRules
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import (
    make_bundle,
    with_another_chain,
    with_issuer_until,
)
from tests.reconcile.model import ModelWorld
from tests.support.tiers import sampled

FILES = PemFiles("/opt/ssl/static/fullchain.pem", "/opt/ssl/static/privkey.pem")
DOMAIN = "static.example.com"
DIRECTORY = "/srv/ssl"
DELIVERY = FileDelivery(DIRECTORY)
DESIRED = DesiredCertificate(
    lineage="static", names=(), files=FILES, deployments=(DesiredDeployment("qiniu"),)
)


@pytest.fixture
def world() -> ModelWorld:
    """Return a CDN with a domain, and files with a certificate for the domain."""
    world = ModelWorld()
    world.cdn.add_domain(DOMAIN)
    world.source.put(FILES, made(world))
    return world


def made(world: ModelWorld, *names: str) -> CertificateBundle:
    """Make a certificate as another client would now."""
    return make_bundle(*(names or (DOMAIN,)), not_before=world.clock)


def complete_run(world: ModelWorld) -> LineageReport:
    report = world.run(DESIRED)
    assert report is not None
    return report


def test_certificate_is_adopted_and_served(world: ModelWorld) -> None:
    """The run adopts, deploys and verifies, and asks no CA."""
    report = complete_run(world)

    assert report.ok
    assert [Action.ADOPT] == [s.action for s in report.outcomes if s.target is None]
    assert 0 == world.issuer.issued
    assert complete_run(world).is_unchanged
    assert (1, 1) == (world.cdn.uploads, world.cdn.writes)


def test_lineage_that_was_issued_here_before_leaves_its_challenge_alone(world: ModelWorld) -> None:
    """The lineage has no account for its old record, and is served nevertheless; other accounts'
    records are the reconciler's work.
    """
    left = ChallengeRecord("static", f"_acme-challenge.{DOMAIN}", "left", world.clock, "handle")
    world.state.save_challenge_record(left)

    assert complete_run(world).ok
    assert complete_run(world).is_unchanged
    assert (left,) == world.state.challenge_records("static")


def test_changed_files_are_a_new_version(world: ModelWorld) -> None:
    """A renewal by the other client is deployed, and the certificate before it is kept."""
    complete_run(world)
    world.pass_time(timedelta(days=60))
    renewed = made(world)
    world.source.put(FILES, renewed)

    report = complete_run(world)

    assert renewed.certificate.fingerprint == report.fingerprint
    assert 2 == len(world.state.versions("static"))
    assert 2 == len(world.cdn.remote_labels)
    assert [] == world.cdn.broken


def test_files_that_went_back_bring_the_older_certificate_back(world: ModelWorld) -> None:
    """The files' certificate is in force, also after a newer one."""
    first = made(world)
    for bundle in (first, made(world), first):
        world.source.put(FILES, bundle)
        report = complete_run(world)
        world.pass_time(timedelta(days=1))

    assert first.certificate.fingerprint == report.fingerprint
    assert complete_run(world).is_unchanged
    assert [] == world.cdn.broken


def test_certificate_near_its_end_is_not_renewed_by_us(world: ModelWorld) -> None:
    """The other client decides about the renewal."""
    complete_run(world)
    world.pass_time(timedelta(days=70))

    assert complete_run(world).is_unchanged
    assert 0 == world.issuer.issued


@pytest.mark.parametrize(("days", "words"), [(80, "and expires at"), (95, "and expired at")])
def test_client_that_renews_no_more_is_noticed_in_time(
    world: ModelWorld, days: int, words: str
) -> None:
    """From two weeks before the end of a 90-day certificate, each run reports one failure. The
    served certificate stays, and a renewal ends the failure.
    """
    complete_run(world)
    world.pass_time(timedelta(days=days))
    ports = world.ports("planner")

    report = complete_run(world)
    (plan,) = plans_of(ports, [DESIRED])
    (status,) = statuses_of(ports, [DESIRED], Recorded())

    [result] = report.having(Outcome.FAILED)
    assert (None, None) == (result.action, result.target)
    assert f"{FILES.fullchain}: not renewed" in str(result.detail)
    assert words in str(result.detail)
    assert result.detail == plan.having(Weight.BLOCKED)[0].problem.message
    assert status.reason is not None
    assert result.detail == status.reason.message
    assert 0 == world.issuer.issued

    world.source.put(FILES, made(world))

    assert complete_run(world).ok
    assert complete_run(world).is_unchanged


def test_client_that_renews_while_the_run_waits(world: ModelWorld) -> None:
    """The first report of the run is over, and the run succeeds."""
    complete_run(world)
    world.pass_time(timedelta(days=80))
    world.cdn.add_domain(DOMAIN, foreign=True)  # to be bound again, which takes its time
    world.alive.add("run")
    run = LineageReconciler(DESIRED, world.ports("run"))

    waiting = run.reconcile()
    before = run.report().having(Outcome.FAILED)
    world.source.put(FILES, made(world))
    world.pass_to_the_end(run)

    assert waiting is not None
    assert [True] == ["not renewed yet" in str(result.detail) for result in before]
    assert run.report().ok


def test_certificate_with_nothing_left_to_serve_need_not_be_renewed(world: ModelWorld) -> None:
    """The domains have gone to another lineage: the run reports the new owner alone."""
    complete_run(world)
    other = replace(DESIRED, lineage="new", names=(DOMAIN,), files=None, dns="dnspod")
    world.claims = Claims([other, replace(DESIRED, names=(DOMAIN,))])
    world.pass_time(timedelta(days=89))
    ports = world.ports("planner")

    report = complete_run(world)
    (status,) = statuses_of(ports, [DESIRED], Recorded())

    assert report.ok
    assert ["every domain of the certificate is served by new"] == [
        str(result.detail) for result in report.outcomes
    ]
    assert status.reason is None


def test_certificate_that_expired_before_it_was_declared(world: ModelWorld) -> None:
    """The run sends nothing, advises the other client, and reports the end once."""
    world.pass_time(timedelta(days=91))

    report = complete_run(world)

    refused = report.having(Outcome.REFUSED)
    assert () == report.having(Outcome.FAILED)
    assert ["the certificate expired at" in str(result.detail) for result in refused] == [True]
    assert all("renew the certificate with its client" in str(result.hint) for result in refused)
    assert 0 == world.cdn.uploads


def test_certificate_that_lives_too_short_is_for_its_client_to_renew(world: ModelWorld) -> None:
    """The other client chooses the CA and the profile."""
    world.pass_time(timedelta(days=65))

    [refused] = complete_run(world).having(Outcome.REFUSED)

    assert "renew the certificate with its client" in str(refused.hint)


def test_renewing_on_demand_is_not_for_us_either(world: ModelWorld) -> None:
    """`--renew` leaves imported certificates alone."""
    complete_run(world)

    report = world.run(DESIRED, renew=True)

    assert report is not None
    assert report.is_unchanged


def test_going_back_to_nothing_is_for_its_client_to_mend(world: ModelWorld) -> None:
    """The hint names no command that certferry would refuse."""
    complete_run(world)

    with pytest.raises(PlanRefused) as refused:
        withdraw_by_hand(world.ports("sync"), DESIRED)

    assert "have the certificate's client issue it again" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (PlanRefused(Text("is not the key of"), hint=Text("wait")), Outcome.REFUSED),
        (CertificateError(Text("cannot be read"), hint=Text("look")), Outcome.FAILED),
    ],
)
def test_pair_that_cannot_be_taken_leaves_everything_as_it_was(
    world: ModelWorld, error: CertificateError | PlanRefused, outcome: Outcome
) -> None:
    """Half-written files are refused, with a hint, and tried again by the next run."""
    complete_run(world)
    world.source.put(FILES, error)

    (result,) = complete_run(world).outcomes

    assert outcome is result.outcome
    assert error.hint == result.hint
    world.source.put(FILES, made(world))
    assert complete_run(world).ok


NAMES_OF_ONE = [
    pytest.param(False, False, (), id="not-known"),
    pytest.param(True, False, (DOMAIN,), id="remembered"),
    pytest.param(False, True, ("new.example.com",), id="only-in-the-files"),
    pytest.param(True, True, ("new.example.com",), id="the-files-say-it-better"),
]


@pytest.mark.parametrize(("remembered", "readable", "names"), NAMES_OF_ONE)
def test_names_of_a_delivered_certificate_count_as_its_claim(
    world: ModelWorld, *, remembered: bool, readable: bool, names: tuple[str, ...]
) -> None:
    """The names come from the files, or from the state for unreadable files."""
    if remembered:
        complete_run(world)
    trouble = CertificateError(Text("cannot be read"))
    world.source.put(FILES, made(world, "new.example.com") if readable else trouble)

    assert names == as_known(DESIRED, world.source, world.state, read=True).names


def test_files_that_are_a_mistake_of_ours_stop_no_other(world: ModelWorld) -> None:
    """An unforeseen error is reported at the certificate's turn."""

    class Surprised:
        def read(self, files: PemFiles) -> CertificateBundle:
            raise RuntimeError

    assert () == as_known(DESIRED, Surprised(), world.state, read=True).names


def test_files_of_a_certificate_that_is_known_need_not_be_read(world: ModelWorld) -> None:
    """A run for another certificate does not read the keys of a thousand."""
    complete_run(world)
    world.source.put(FILES, made(world, "new.example.com"))

    assert (DOMAIN,) == as_known(DESIRED, world.source, world.state, read=False).names


def test_wildcard_leaves_a_domain_to_the_delivered_certificate_for_it(world: ModelWorld) -> None:
    """In every run the certificate with the exact name serves the domain; neither run changes the
    domain again.
    """
    wide = DesiredCertificate(
        "wide", ("*.example.com",), "dnspod", deployments=(DesiredDeployment("qiniu"),)
    )
    world.cdn.add_domain("img.example.com")
    world.claims = Claims([wide, as_known(DESIRED, world.source, world.state, read=True)])
    all_desired = [wide, DESIRED]

    first = world.run_together(all_desired)
    second = world.run_together(all_desired)

    assert first is not None
    assert second is not None
    assert all(report.ok for report in first)
    assert all(report.is_unchanged for report in second)
    assert [["img.example.com"], [DOMAIN]] == [
        sorted({o.domain for o in report.outcomes if o.domain is not None}) for report in first
    ]


def test_certificate_that_others_leave_nothing_to_is_in_order(world: ModelWorld) -> None:
    """The report names the owner of the domains, without a failure and without an order."""
    wide = DesiredCertificate(
        "wide", ("*.example.com",), "dnspod", deployments=(DesiredDeployment("qiniu"),)
    )
    world.claims = Claims([wide, as_known(DESIRED, world.source, world.state, read=True)])
    ports = world.ports("planner")

    report = world.run(wide)
    (plan,) = plans_of(ports, [wide])
    (status,) = statuses_of(ports, [wide], Recorded())

    assert report is not None
    assert report.ok
    assert ["every domain of the certificate is served by static"] == [
        str(result.detail) for result in report.outcomes
    ]
    assert plan.is_settled
    assert (("qiniu", ("static",)),) == plan.owned_elsewhere == status.owned_elsewhere
    assert status.reason is None
    assert 0 == world.issuer.issued


def test_plan_and_status_survive_files_that_cannot_be_read(world: ModelWorld) -> None:
    """The plan has an obstacle; the status shows the earlier certificate of the files."""
    complete_run(world)
    world.source.put(FILES, CertificateError(Text("cannot be read")))
    ports = world.ports("planner")

    (plan,) = plans_of(ports, [DESIRED])
    (status,) = statuses_of(ports, [DESIRED], Recorded())

    assert ["cannot be read"] == [str(obstacle.error) for obstacle in plan.having(Weight.BLOCKED)]
    assert (DOMAIN,) == status.names
    assert status.renew_at is None
    assert 1 == len(status.domains)


def test_killed_after_any_call_the_next_run_finishes(world: ModelWorld) -> None:
    """After a kill at any call: a single version and a single upload."""
    bundle = made(world)
    world.source.put(FILES, bundle)
    complete_run(world)

    for position in sampled(range(1, world.calls)):
        other = ModelWorld()
        other.cdn.add_domain(DOMAIN)
        other.source.put(FILES, bundle)
        assert other.run(DESIRED, kill_after=position) is None
        report = other.run(DESIRED)

        assert report is not None
        assert report.ok, position
        assert 1 == len(other.state.versions("static")), position
        assert 1 == other.cdn.uploads, position


def in_files(*, cdn: bool = False) -> DesiredCertificate:
    """Declare the imported certificate for a directory, and with `cdn` for the CDN as well."""
    served = DESIRED.deployments if cdn else ()
    return replace(DESIRED, deployments=(*served, delivered(DELIVERY)))


@pytest.mark.parametrize("cdn", [True, False])
def test_chain_that_changes_follows_into_files(world: ModelWorld, *, cdn: bool) -> None:
    """The same version gets the new chain, the files are delivered again, and the CDN keeps its
    copy.
    """
    desired, bundle = in_files(cdn=cdn), made(world)
    world.source.put(FILES, bundle)
    world.run(desired)
    writes = world.cdn.uploads, world.cdn.writes
    world.source.put(FILES, with_another_chain(bundle))

    plan = plans_of(world.ports("planner"), [desired])[0]
    report = world.run(desired)

    assert plan.issue is not None
    assert "holds other issuer certificates" in str(plan.issue.reason.message)
    [rollout] = plan.rollouts
    assert (DIRECTORY, 1) == (rollout.domain, len(rollout.steps))
    assert "delivered earlier with other issuer" in str(rollout.steps[0].reason.message)
    assert report is not None
    assert report.ok
    receiver = world.receivers.receiver(DELIVERY)
    assert [bundle.certificate.fingerprint] * 2 == receiver.deliveries
    assert with_another_chain(bundle) == world.state.bundle("static", 1)
    assert 1 == len(world.state.versions("static"))
    assert writes == (world.cdn.uploads, world.cdn.writes)
    again = world.run(desired)
    assert again is not None
    assert again.is_unchanged
    assert 2 == len(receiver.deliveries)


def test_chain_whose_signer_has_expired_is_delivered_nowhere(world: ModelWorld) -> None:
    """Files and CDN are refused the chain; `plan` and `status` say so, and a mended chain
    is taken.
    """
    desired, bundle = in_files(cdn=True), made(world)
    world.pass_time(timedelta(days=2))
    world.source.put(FILES, with_issuer_until(bundle, world.clock - timedelta(days=1)))
    (before,) = plans_of(world.ports("look"), [desired])
    assert {DOMAIN, DIRECTORY} == {refusal.domain for refusal in before.having(Weight.REFUSED)}

    report = world.run(desired)

    assert report is not None
    refused = report.having(Outcome.REFUSED)
    assert {DOMAIN, DIRECTORY} == {refused_place.domain for refused_place in refused}
    assert all(
        "Test Issuer, which signed the certificate, expired" in str(refused_place)
        for refused_place in refused
    )
    assert all(
        "renew the certificate with its client" in str(refused_place.hint)
        for refused_place in refused
    )
    assert 0 == world.cdn.uploads
    assert [] == world.receivers.receiver(DELIVERY).deliveries
    assert_reported(world, desired)
    world.source.put(FILES, bundle)
    assert (mended := world.run(desired)) is not None
    assert mended.ok


def test_signer_that_expires_is_reported_where_it_is_served(world: ModelWorld) -> None:
    """A certificate delivered in time fails at the end of its signer: the client has to renew."""
    bundle = with_issuer_until(made(world), world.clock + timedelta(days=10))
    world.source.put(FILES, bundle)
    desired = in_files()
    world.run(desired)
    world.pass_time(timedelta(days=11))

    report = world.run(desired)

    assert report is not None
    assert any("which signed the certificate, expired" in str(one) for one in report.outcomes)
    assert not report.ok
    assert_reported(world, desired)


def assert_reported(world: ModelWorld, desired: DesiredCertificate) -> None:
    """Check that `plan` and `status` name the expired signer."""
    ports = world.ports("look")
    (plan,) = plans_of(ports, [desired])
    (status,) = statuses_of(ports, [desired], Recorded())
    result = [str(finding.problem.message) for finding in plan.having(Weight.BLOCKED)]
    result += [str(finding.problem.message) for finding in plan.having(Weight.REFUSED)]
    assert any("which signed the certificate, expired" in finding for finding in result)
    assert status.reason is not None
    assert "which signed the certificate, expired" in str(status.reason.message)


def test_chain_that_changes_costs_the_cdn_nothing(world: ModelWorld) -> None:
    """The chain is stored for the next upload; the copies at the CDN stay, also the copy for a
    rollback.
    """
    complete_run(world)
    world.pass_time(timedelta(days=60))
    bundle = made(world)
    world.source.put(FILES, bundle)
    complete_run(world)
    before = world.cdn.remote_ids, world.cdn.uploads, world.cdn.writes
    world.source.put(FILES, with_another_chain(bundle))

    plan = plans_of(world.ports("planner"), [DESIRED])[0]

    assert [Action.ADOPT] == [step.action for step in plan.steps]
    assert complete_run(world).ok
    assert before == (world.cdn.remote_ids, world.cdn.uploads, world.cdn.writes)
    assert with_another_chain(bundle) == world.state.bundle("static", 2)
    assert complete_run(world).is_unchanged


def test_chain_that_is_mended_is_uploaded_where_the_first_was_refused(world: ModelWorld) -> None:
    """The first upload at last has the present chain of the files."""
    bundle = made(world)
    world.source.put(FILES, bundle)
    world.cdn.denies = True
    complete_run(world)
    world.cdn.denies = False
    world.source.put(FILES, with_another_chain(bundle))

    assert complete_run(world).ok

    assert with_another_chain(bundle) == world.state.bundle("static", 1)
    assert 1 == world.cdn.uploads


def test_chain_that_changes_is_killed_at_every_position(world: ModelWorld) -> None:
    """The next run delivers the chain to the directory."""
    bundle = made(world)

    def delivered_once() -> ModelWorld:
        fresh = ModelWorld()
        fresh.source.put(FILES, bundle)
        assert fresh.run(in_files()) is not None
        fresh.source.put(FILES, with_another_chain(bundle))
        return fresh

    calm = delivered_once()
    calm.run(in_files())

    for position in sampled(range(1, calm.calls)):
        other = delivered_once()
        assert other.run(in_files(), kill_after=position) is None
        report = other.run(in_files())

        assert report is not None
        assert report.ok, position
        found = other.receivers.receiver(DELIVERY).observe(None)
        assert with_another_chain(bundle).fullchain_digest == found.fullchain_digest, position


def test_files_whose_delivery_is_left_over_are_not_in_order(world: ModelWorld) -> None:
    """The chain is adopted, and the directory has the old one: status and plan agree."""
    bundle = made(world)
    world.source.put(FILES, bundle)
    world.run(in_files(cdn=True))
    world.source.put(FILES, with_another_chain(bundle))
    receiver = world.receivers.receiver(DELIVERY)
    receiver.closed = True
    world.run(in_files(cdn=True))
    receiver.closed = False

    ports = world.ports("looker")
    [plan], [status] = (
        plans_of(ports, [in_files(cdn=True)]),
        statuses_of(ports, [in_files(cdn=True)], Recorded()),
    )

    assert not plan.is_settled
    standings = {domain.domain: domain.standing for domain in status.domains}
    assert {DOMAIN: Standing.VERIFIED, DIRECTORY: Standing.DRIFTED} == standings


@pytest.mark.parametrize("is_refused", [False, True])
def test_adoption_that_was_shown_is_carried_out(world: ModelWorld, *, is_refused: bool) -> None:
    """A shown plan may hold a refusal that the run meets only after the adoption."""
    desired = in_files(cdn=True)
    if is_refused:
        world.pass_time(timedelta(days=2))
        ended = world.clock - timedelta(days=1)
        world.source.put(FILES, with_issuer_until(made(world), ended))
    (shown,), first = plans_to_confirm(world.ports("planner"), [desired])
    assert is_refused is bool(shown.having(Weight.REFUSED))
    assert is_refused is (first["static"] != digest_of_plans([shown]))

    world.alive.add("run")
    run = LineageReconciler(
        desired, world.ports("run"), RunRules(confirmed={desired.lineage: first["static"]})
    )
    world.pass_to_the_end(run)

    codes = {step.code for step in run.report().having(Outcome.REFUSED)}
    assert "plan_changed" not in codes
    assert is_refused is bool(codes)
    assert 1 == len(world.state.versions("static"))
