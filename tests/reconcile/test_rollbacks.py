"""Rollbacks to the previous certificate, and their reports."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import cast

import pytest

from certferry.core.assessment.status import Standing, status_of
from certferry.core.desired.certificate import DesiredCertificate, OnFailure
from certferry.core.observed.observation import Served, TargetRules
from certferry.core.planning.plan import Action
from certferry.core.planning.report import LineageReport, Outcome, SyncReport
from certferry.core.planning.rollbacks import all_work
from certferry.core.reasons import ReasonCode
from certferry.errors import CopyGone, DeployError, PlanRefused, TargetAccessDenied
from certferry.ports.target import DeployTarget
from certferry.present import documents, plan_text, report_text
from certferry.present.language import Voice
from certferry.present.layout import plain
from certferry.reconcile.by_hand import go_back, withdraw_by_hand
from certferry.reconcile.observe import observe
from certferry.reconcile.run import WaitLimit
from certferry.text import Text
from certferry.values import replace
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG, OTHER, outcome
from tests.support.tiers import sampled

# # --- Rollbacks after a refusal by edges, and by hand


def desired(world: ModelWorld, on_failure: OnFailure = OnFailure.ROLLBACK) -> DesiredCertificate:
    """Declare the certificate with the action after a refusal by edges."""
    declared = world.desired()
    (deployment,) = declared.deployments
    return replace(declared, deployments=(replace(deployment, on_failure=on_failure),))


def run(world: ModelWorld, wanted: DesiredCertificate, *, renew: bool = False) -> LineageReport:
    report = world.run(wanted, renew=renew)
    assert report is not None
    return report


def renewed(
    on_failure: OnFailure = OnFailure.ROLLBACK, *domains: str, **model: TargetRules
) -> tuple[ModelWorld, DesiredCertificate]:
    """Return a world with a served first certificate, and a stored second one that every edge
    refuses.
    """
    world = ModelWorld(**model)  # type: ignore[arg-type]  # a test's shorthand
    for domain in domains or (IMG,):
        world.cdn.add_domain(domain)
    wanted = desired(world, on_failure)
    assert run(world, wanted).ok
    world.pass_time(timedelta(days=61))
    world.cdn.breaks_new = True
    return world, wanted


def fingerprints(world: ModelWorld) -> list[str]:
    """Return the fingerprints of the lineage's certificates, newest first."""
    return [version.certificate.fingerprint for version in world.state.versions("img")]


def bound(world: ModelWorld, domain: str = IMG) -> str | None:
    remote_id = world.cdn.bound_to(domain)
    by_id = {u.remote_id: u.fingerprint for u in world.state.uploads("img", "qiniu")}
    return by_id.get(remote_id or "")


def test_edges_that_refuse_the_new_certificate_get_the_previous_one() -> None:
    """The run reports the refusal and fails, and the domain serves the previous certificate."""
    world, wanted = renewed()

    report = run(world, wanted)

    new, previous = fingerprints(world)
    assert previous == bound(world)
    (failed,) = report.having(Outcome.FAILED)
    assert Action.ROLLBACK is failed.action
    assert "refused the new certificate" in str(failed.detail)
    (entry,) = (e for e in world.state.history("img", 100) if e.event == "rolled back")
    assert {"target": "qiniu", "domain": IMG, "fingerprint": new} == entry.facts


def test_certificate_that_was_withdrawn_is_never_tried_again() -> None:
    """Later runs succeed without a write, give the reason, and keep both copies."""
    world, wanted = renewed()
    run(world, wanted)
    writes = world.cdn.writes

    for _ in range(3):
        world.pass_time(timedelta(days=1))
        report = run(world, wanted)
        assert report.ok
        (unchanged,) = report.having(Outcome.UNCHANGED)
        assert "rolled back" in str(unchanged.detail)

    assert writes == world.cdn.writes
    assert 2 == len(world.cdn.remote_ids)
    assert world.plan(wanted).is_settled


def test_newer_certificate_takes_the_place_of_both() -> None:
    """A third certificate, issued before the previous one is due, is served."""
    world, wanted = renewed()
    run(world, wanted)
    world.cdn.breaks_new = False

    report = run(world, wanted, renew=True)

    assert report.ok
    assert fingerprints(world)[0] == bound(world)
    assert [] == world.cdn.broken


def test_previous_certificate_is_renewed_before_it_ends() -> None:
    """The withdrawn certificate's longer life helps no visitor."""
    world, wanted = renewed()
    run(world, wanted)
    world.cdn.breaks_new = False

    world.pass_time(timedelta(days=10))
    assert world.plan(wanted).issue is None
    world.pass_time(timedelta(days=6))
    step = world.plan(wanted).issue
    assert step is not None
    assert step.reason.code is ReasonCode.ROLLED_BACK
    assert run(world, wanted).ok

    assert 3 == world.issuer.issued
    assert fingerprints(world)[0] == bound(world)


def test_certificates_that_are_refused_again_and_again_are_not_issued_every_day() -> None:
    """While edges refuse every new certificate, the CA gets an order every three days."""
    world, wanted = renewed()
    run(world, wanted)
    world.pass_time(timedelta(days=16))
    issued = world.issuer.issued

    for _ in range(9):
        run(world, wanted)
        world.pass_time(timedelta(days=1))

    assert 3 == world.issuer.issued - issued


def test_setting_to_keep_is_kept() -> None:
    """Without `on_failure = "rollback"` the new certificate stays bound, and the run fails."""
    world, wanted = renewed(OnFailure.KEEP)

    report = run(world, wanted)

    assert not report.ok
    assert fingerprints(world)[0] == bound(world)
    assert Action.ROLLBACK not in {outcome.action for outcome in report.outcomes}


def test_edges_that_never_worked_are_no_reason_to_go_back() -> None:
    """A first certificate has no predecessor."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    world.cdn.breaks_new = True

    report = run(world, desired(world))

    assert not report.ok
    assert fingerprints(world)[0] == bound(world)


def test_edges_are_found_to_refuse_after_a_change_that_was_stuck() -> None:
    """The verify timeout was over before the first look at the edges: the run that meets the
    refusal still looks long enough to withdraw the certificate.
    """
    world, wanted = renewed()
    world.cdn.stick_next(IMG)
    run(world, wanted)
    world.cdn.end_change(IMG)
    world.pass_time(timedelta(days=1))

    report = run(world, wanted)

    assert [Action.ROLLBACK] == [outcome.action for outcome in report.having(Outcome.FAILED)]
    assert fingerprints(world)[1] == bound(world)


def test_run_on_the_day_after_a_kill_finds_that_edges_refuse() -> None:
    """After a kill at any call of the renewal, two daily runs roll the domain back."""
    for position in sampled(range(1, 90), 15):
        world, wanted = renewed()
        world.run(wanted, kill_after=position)
        for _ in range(2):
            world.pass_time(timedelta(days=1))
            run(world, wanted)

        assert 2 == world.issuer.issued, position
        assert fingerprints(world)[1] == bound(world), position


def test_address_that_refused_before_is_no_reason_to_go_back() -> None:
    """A single broken address would otherwise undo every renewal."""
    refusing = Served("192.0.2.2", None, valid=False)
    served = (Served("192.0.2.1", "aa" * 32, valid=True), refusing)

    assert not all_work(served)
    assert not all_work(())
    assert all_work(served[:1])


def test_rollback_killed_anywhere_ends_the_same() -> None:
    """The next run binds the previous certificate, and no third is issued."""
    finished = 0
    for position in sampled(range(140), 15):
        world, wanted = renewed()
        killed = world.run(wanted, kill_after=position) is None
        finished += killed

        run(world, wanted)
        run(world, wanted)

        assert 2 == world.issuer.issued
        assert fingerprints(world)[1] == bound(world)
        assert world.plan(wanted).is_settled
        assert [] == world.cdn.broken
    assert finished


def test_status_reports_that_the_previous_certificate_is_served() -> None:
    """The domain stands as verified by its expected certificate."""
    world, wanted = renewed()
    run(world, wanted)
    observed = observe(wanted, world.ports("look"), every_edge=True)

    (domain,) = status_of(wanted, observed, world.clock).domains

    assert domain.standing is Standing.VERIFIED
    assert "rolled back: the previous certificate is served" in str(domain.problem)
    assert domain.fingerprint == fingerprints(world)[1]


# by hand


def back_by_hand(world: ModelWorld, wanted: DesiredCertificate) -> int:
    """Roll back like the command; return the number of domains."""
    world.alive.add("hand")
    before = len(world.state.remembered(wanted.lineage).withdrawals)
    try:
        withdraw_by_hand(world.ports("hand"), wanted)
        return len(world.state.remembered(wanted.lineage).withdrawals) - before
    finally:
        world.alive.discard("hand")


def with_two_certificates(*domains: str, rules: TargetRules | None = None) -> ModelWorld:
    world = ModelWorld(rules=rules)
    for domain in domains or (IMG,):
        world.cdn.add_domain(domain)
    run(world, world.desired())
    world.pass_time(timedelta(days=61))
    run(world, world.desired())
    return world


def test_rollback_by_hand_binds_the_previous_certificate_everywhere() -> None:
    """Every domain goes back, and later runs keep the rollback."""
    world = with_two_certificates(IMG, OTHER)
    wanted = world.desired()

    assert 2 == back_by_hand(world, wanted)

    for _ in range(2):
        assert run(world, wanted).ok
        assert {fingerprints(world)[1]} == {bound(world, IMG), bound(world, OTHER)}
    assert 2 == world.issuer.issued


def test_rollback_by_hand_twice_goes_back_once() -> None:
    """A second rollback finds no work, and goes back no further."""
    world = with_two_certificates()
    back_by_hand(world, world.desired())
    run(world, world.desired())

    assert 0 == back_by_hand(world, world.desired())


NOT_ALLOWED = TargetAccessDenied(Text("these keys may not change domains"), hint=Text("others"))


class Refusing:
    """A readable target that refuses every change."""

    def __init__(self, target: DeployTarget, error: DeployError) -> None:
        self._target = target
        self._error = error

    def __getattr__(self, name: str) -> object:
        return getattr(self._target, name)

    def bind(self, *_: object) -> None:
        raise self._error


def back_for_nothing(world: ModelWorld, error: DeployError) -> None:
    """Roll back with the whole command at a refusing target."""
    ports = world.ports("hand")
    world.alive.add("hand")
    refusing = cast("DeployTarget", Refusing(ports.targets["qiniu"], error))
    ports = replace(ports, targets={"qiniu": refusing})

    report = go_back(ports, withdraw_by_hand(ports, world.desired()), WaitLimit(timedelta(0)))

    assert not report.ok
    world.alive.discard("hand")


def test_rollback_to_a_copy_that_stays_away_is_kept() -> None:
    """A missing copy is no refusal of the certificate: the next run goes on with the rollback."""
    world = with_two_certificates()

    back_for_nothing(world, CopyGone(Text("no such certificate")))

    assert 1 == len(world.state.remembered("img").withdrawals)
    world.pass_time(timedelta(hours=1))
    assert run(world, world.desired()).ok
    assert fingerprints(world)[1] == bound(world)


def test_rollback_with_keys_that_may_not_write_changes_nothing() -> None:
    """The run fails with the target's words, and a later run with good keys does not roll back by
    itself.
    """
    world = with_two_certificates()

    back_for_nothing(world, NOT_ALLOWED)

    assert () == world.state.remembered("img").withdrawals
    assert fingerprints(world)[0] == bound(world)
    assert "rollback refused" == world.state.history("img", 1)[0].event
    assert world.plan(world.desired()).is_settled


def test_rollback_without_a_previous_certificate_is_refused() -> None:
    """The world stays as it was; the message names the next step."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    run(world, world.desired())

    with pytest.raises(PlanRefused) as refused:
        back_by_hand(world, world.desired())

    assert "no previous certificate" in str(refused.value)
    assert refused.value.hint is not None
    assert world.plan(world.desired()).is_settled


def test_rollback_of_what_was_never_issued_is_refused() -> None:
    """There is no certificate to go back from."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)

    with pytest.raises(PlanRefused):
        back_by_hand(world, world.desired())


def test_rollback_at_a_target_that_cannot_be_read_is_refused() -> None:
    """The binding is unknown: no withdrawal is stored."""
    world = with_two_certificates()
    world.cdn.denies = True

    with pytest.raises(PlanRefused) as refused:
        back_by_hand(world, world.desired())

    assert "the keys are not accepted" in str(refused.value)
    assert () == world.state.remembered("img").withdrawals


def test_rollback_to_an_expired_certificate_is_refused() -> None:
    """Visitors would get an error."""
    world = with_two_certificates()
    world.pass_time(timedelta(days=30))

    with pytest.raises(PlanRefused):
        back_by_hand(world, world.desired())


def test_rollback_to_what_could_not_be_uploaded_any_more_is_refused() -> None:
    """The target has no copy, and would refuse a copy with so short a life: no withdrawal is
    stored.
    """
    world = with_two_certificates(rules=TargetRules(timedelta(days=30)))
    previous = fingerprints(world)[1]
    (copy,) = (u for u in world.state.uploads("img", "qiniu") if u.fingerprint == previous)
    world.cdn.retire(copy.remote_id, copy.label)

    with pytest.raises(PlanRefused) as refused:
        back_by_hand(world, world.desired())

    assert "left" in str(refused.value)
    assert () == world.state.remembered("img").withdrawals


# # --- `status`, `plan` and `sync` after a rollback


def test_status_reports_the_certificate_that_is_served() -> None:
    """The status has its end, and the moment of the next order: until then the plan is empty."""
    world, wanted = renewed()
    run(world, wanted)
    new, previous = world.state.versions("img")

    status = status_of(wanted, observe(wanted, world.ports("looker")), world.clock)

    (domain,) = status.domains
    assert previous.certificate.not_after == status.until == domain.not_after
    assert new.certificate.not_after > previous.certificate.not_after
    assert domain.problem is not None
    assert "rolled_back" == domain.problem.code
    assert status.renew_at is not None
    world.pass_time(status.renew_at - world.clock - timedelta(minutes=1))
    assert world.plan(wanted).issue is None
    world.pass_time(timedelta(minutes=1))
    assert world.plan(wanted).issue is not None


def test_run_that_goes_back_says_until_when_the_previous_certificate_is_valid() -> None:
    """The operator reads the end of the rollback; a newer certificate is bound as any other."""
    world, wanted = renewed()

    report = run(world, wanted)
    _, previous = world.state.versions("img")
    world.pass_time(timedelta(days=80))
    newer = run(world, wanted)

    assert (
        Text(
            "bound: the previous certificate, valid until {moment}",
            moment=previous.certificate.not_after,
        )
        == outcome(report, Action.DEPLOY, IMG).detail
    )
    assert "bound" == str(outcome(newer, Action.DEPLOY, IMG).detail)


def test_plan_and_run_say_what_is_left_on_the_previous_certificate() -> None:
    """Neither claims that all is as declared."""
    world, wanted = renewed()
    run(world, wanted)

    plan, report = world.plan(wanted), run(world, wanted)

    (back,) = plan.rolled_back
    assert ("qiniu", IMG) == (back.target, back.domain)
    said = "\n".join(map(plain, plan_text.lines([plan], Voice())))
    assert f"kept     qiniu → {IMG}: rolled back: the previous certificate is served" in said
    assert "1 rolled back. Nothing was changed." in said
    assert plan.is_settled
    (*_, last) = map(plain, report_text.lines(SyncReport((report,)), Voice()))
    conclusion = "Nothing changed: 1 domain differs from the file, everything else is as declared."
    assert conclusion == last
    document = json.loads(json.dumps(documents.rendered(documents.of_plans([plan]), Voice())))
    (written,) = document["certificates"]
    assert ["rolled_back"] == [one["reason"]["code"] for one in written["rolled_back"]]
