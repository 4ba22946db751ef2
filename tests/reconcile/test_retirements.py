"""`retire = "all-unused"`: removed, kept and postponed copies."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredCertificate, Retirement
from certferry.core.events import StepEnded
from certferry.core.observed.observation import DomainState
from certferry.core.observed.records import NO_LINEAGE, RolloutRecord
from certferry.core.planning.plan import Action, Retire
from certferry.core.planning.planner import Claims
from certferry.core.planning.removals import MOST_SUPERSEDED, MOST_UNMANAGED
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import DeployError, TargetAccessDenied, TargetRejected, TargetUnavailable
from certferry.reconcile.reconciler import LineageReconciler
from certferry.reconcile.run import Removals
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from tests.reconcile.model import START, ModelWorld

IMG = "img.example.com"
ELSEWHERE = "www.example.org"
HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> ModelWorld:
    """Return a CDN with a domain bound by hand, and a domain of another tool."""
    world = ModelWorld()
    world.cdn.add_domain(IMG, foreign=True)
    world.cdn.add_domain(ELSEWHERE, foreign=True)
    return world


@pytest.fixture
def desired(world: ModelWorld) -> DesiredCertificate:
    """Declare one certificate, for an account without unused copies."""
    return world.desired(retire=Retirement.ALL_UNUSED)


def complete_run(world: ModelWorld, desired: DesiredCertificate) -> LineageReport:
    report = world.run(desired)
    assert report is not None
    return report


def retirements(report: LineageReport) -> list[StepOutcome]:
    return [step for step in report.outcomes if step.action is Action.RETIRE]


def on_its_way(world: ModelWorld, domain: str = "static.example.com") -> RolloutRecord:
    """Have another lineage's certificate on its way to the account."""
    record = RolloutRecord("static", "qiniu", domain, "ab" * 32, world.now())
    world.state.save_rollout(record)
    return record


def test_the_first_run_cleans_up(world: ModelWorld, desired: DesiredCertificate) -> None:
    """The run removes two copies of one name and the earlier bound copy, and keeps the bound one.
    Then the plan is empty, and the next run changes nothing.
    """
    for _ in range(2):
        world.cdn.put_foreign(ELSEWHERE, "img.example.com")

    report = complete_run(world, desired)

    assert report.ok
    removed = [s for s in retirements(report) if s.outcome is Outcome.DONE]
    assert ["by hand", "img.example.com", "img.example.com"] == sorted(
        s.label or "" for s in removed
    )
    assert 3 == len({step.remote_id for step in removed})
    [kept] = [step for step in retirements(report) if step.outcome is Outcome.UNCHANGED]
    assert "others still in use and kept: 1" == str(kept.detail)
    assert world.plan(desired).is_settled
    removals = world.cdn.removals
    assert complete_run(world, desired).is_unchanged
    assert removals == world.cdn.removals


def test_the_plan_lists_what_would_go_and_touches_nothing(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """The plan lists each copy by id, with the remaining days; without the setting the list is
    empty.
    """
    foreign = world.cdn.put_foreign(ELSEWHERE, "left over")

    listed = [
        (step.label, step.left and step.left.days)
        for step in world.plan(desired).retirements
        if step.remote_id == foreign
    ]

    assert [("left over", 9)] == listed
    assert () == world.plan(world.desired()).retirements
    assert 0 == world.cdn.removals


def test_what_is_used_is_tried_again_a_day_later(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """All lineages of the account share the memory, so an account gets one try a day."""
    complete_run(world, desired)
    other = world.desired("static.example.com", names=("static.example.com",), lineage="static")
    asking = replace(
        other, deployments=(replace(other.deployments[0], retire=Retirement.ALL_UNUSED),)
    )
    world.cdn.add_domain("static.example.com")

    assert [] == retirements(complete_run(world, asking))
    [used] = world.state.uploads(NO_LINEAGE, "qiniu")
    assert used.in_use_until is not None
    world.pass_time(timedelta(days=1))
    assert [used.remote_id] == [step.remote_id for step in world.plan(desired).retirements]


def test_what_is_no_longer_used_goes_then(world: ModelWorld, desired: DesiredCertificate) -> None:
    """The copy is kept for its time, and removed once the operator has bound another."""
    complete_run(world, desired)
    [used] = world.cdn.used & {u.remote_id for u in world.state.uploads(NO_LINEAGE, "qiniu")}
    world.cdn.add_domain(ELSEWHERE)  # without a certificate now
    world.pass_time(timedelta(days=1))

    assert ["removed"] == [str(step.detail) for step in retirements(complete_run(world, desired))]
    assert used not in world.cdn.remote_ids
    assert () == world.state.uploads(NO_LINEAGE, "qiniu")


def test_nothing_goes_before_the_successor_is_seen(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """A domain that cannot be changed postpones every removal."""
    world.cdn.add_domain("a.img.example.com", state=DomainState.UNAVAILABLE)
    world.cdn.put_foreign(ELSEWHERE, "left over")

    report = complete_run(world, desired)

    assert not report.ok
    assert 0 == world.cdn.removals


def test_one_that_vanished_is_fine(world: ModelWorld, desired: DesiredCertificate) -> None:
    """Another tool removed the copy between look and call."""
    foreign = world.cdn.put_foreign(ELSEWHERE, "left over")

    class Vanishing:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def retire(self, remote_id: str, label: str, *, unmanaged: bool) -> bool:
            world.cdn.retire(remote_id, label, unmanaged=unmanaged)
            return world.cdn.retire(remote_id, label, unmanaged=unmanaged)

    report = with_target(world, desired, Vanishing())

    [gone] = [step for step in retirements(report) if step.remote_id == foreign]
    assert (Outcome.DONE, "the certificate was already gone") == (gone.outcome, str(gone.detail))


def test_one_that_fails_stops_neither_the_others_nor_the_certificate(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """The failure is reported by itself, and the next run tries again."""
    first, second = (world.cdn.put_foreign(ELSEWHERE, "left over") for _ in range(2))

    class Unwilling:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def retire(self, remote_id: str, label: str, *, unmanaged: bool) -> bool:
            if remote_id == first:
                raise TargetUnavailable(Text("away"))
            return world.cdn.retire(remote_id, label, unmanaged=unmanaged)

    report = with_target(world, desired, Unwilling())

    [failed] = report.having(Outcome.FAILED)
    assert (Action.RETIRE, first) == (failed.action, failed.remote_id)
    assert {first} == {first, second} & world.cdn.remote_ids
    assert [first] == [step.remote_id for step in world.plan(desired).retirements]


class Refusing:
    """A target with a fixed answer to each removal of another tool's certificate."""

    def __init__(self, world: ModelWorld, error: DeployError) -> None:
        self._world = world
        self._error = error
        self.tried: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._world.cdn, name)

    def retire(self, remote_id: str, label: str, *, unmanaged: bool) -> bool:
        assert unmanaged, label
        self.tried.append(remote_id)
        raise self._error


def test_what_is_refused_for_a_reason_of_its_own_is_kept_and_counted(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """The operator did not name the copies: the run succeeds, quotes the target's answer once, and
    waits a day for the next try.
    """
    for _ in range(3):
        world.cdn.put_foreign(ELSEWHERE, "left over")
    refusing = Refusing(world, TargetRejected(Text("not this one (400612)")))

    report = with_target(world, desired, refusing)

    assert report.ok
    [result] = retirements(report)
    assert Outcome.UNCHANGED is result.outcome
    counted = f"others that the target did not remove: {len(refusing.tried)}"
    assert f"{counted} (not this one (400612))" == str(result.detail)
    tried = len(refusing.tried)
    assert with_target(world, desired, refusing).is_unchanged
    assert tried == len(refusing.tried)


def test_keys_that_may_not_remove_are_reported_once(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """Hundreds of copies would get the same answer."""
    for _ in range(3):
        world.cdn.put_foreign(ELSEWHERE, "left over")
    refusing = Refusing(world, TargetAccessDenied(Text("may not")))

    report = with_target(world, desired, refusing)

    assert 1 == len(report.having(Outcome.FAILED)) == len(refusing.tried)


def test_used_ones_are_counted_in_one_line(world: ModelWorld, desired: DesiredCertificate) -> None:
    """The log of a large account has a single line for all kept copies."""
    for number in range(5):
        world.cdn.add_domain(f"d{number}.example.org", foreign=True)

    complete_run(world, desired)

    result = [
        str(event.outcome.detail)
        for event in world.events
        if isinstance(event, StepEnded) and "and kept" in str(event.outcome.detail)
    ]
    assert ["others still in use and kept: 6"] == result


def test_one_that_is_tried_again_is_no_pending_change(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """A day later a check finds all as declared, before and after a try without success."""
    complete_run(world, desired)
    world.pass_time(timedelta(days=1, hours=1))

    plan = world.plan(desired)

    assert [True] == [step.again for step in plan.retirements]
    assert plan.retirements == plan.steps  # the copy may go after all, and a plan hides no step
    assert plan.is_settled
    assert complete_run(world, desired).is_unchanged
    assert () == world.plan(desired).retirements


def test_one_run_removes_only_so_many(world: ModelWorld, desired: DesiredCertificate) -> None:
    """A mistake that would remove everything is noticed in time; the plan counts the rest."""
    for number in range(MOST_UNMANAGED + 1):
        world.cdn.put_foreign(f"n{number}.example.net", f"left over {number}")
    complete_run(world, world.desired())  # replaces one more; another copy is used

    assert (("qiniu", 3),) == world.plan(desired).retire_later
    report = complete_run(world, desired)

    done = [step for step in retirements(report) if step.outcome is Outcome.DONE]
    assert world.cdn.removals == len(done) in {MOST_UNMANAGED, MOST_UNMANAGED - 1}
    complete_run(world, desired)
    assert MOST_UNMANAGED + 2 == world.cdn.removals
    assert () == world.plan(desired).retire_later


def test_lineages_share_what_a_run_may_remove() -> None:
    """The limit for unused copies is per account; the limit for superseded copies is per
    lineage.
    """
    step = Retire("qiniu", "id", "certferry", Reason(ReasonCode.SUPERSEDED, Text("superseded")))
    removals = Removals()

    of_account, of_lineage = (
        sum(removals.may_try(replace(step, unmanaged=unmanaged), lineage) for lineage in "ab" * 60)
        for unmanaged in (True, False)
    )

    assert (MOST_UNMANAGED, 2 * MOST_SUPERSEDED) == (of_account, of_lineage)


def with_target(world: ModelWorld, desired: DesiredCertificate, target: object) -> LineageReport:
    """Run to the end with another target in place of the CDN."""
    world.alive.add("run")
    ports = replace(world.ports("run"), targets={"qiniu": target})  # type: ignore[dict-item]  # by name
    run = LineageReconciler(desired, ports)
    world.pass_to_the_end(run)
    return run.report()


# --- other lineages -------------------------------------------------------------------------


def test_another_certificate_on_its_way_is_waited_for(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """The replaced copy may still be served; after the arrival the same run goes on."""
    world.cdn.put_foreign(ELSEWHERE, "left over")
    record = on_its_way(world)
    world.alive.add("run")
    run = LineageReconciler(desired, world.ports("run"))
    while run.report().fingerprint is None or not retirements(run.report()):
        waiting = run.reconcile()
        assert waiting is not None
        world.clock = max(world.clock, waiting.until)

    [held] = retirements(run.report())
    assert (Outcome.WAITING, None) == (held.outcome, held.remote_id)
    assert 0 == world.cdn.removals
    world.state.save_rollout(replace(record, verified_at=world.now()))
    world.pass_to_the_end(run)
    assert run.report().ok
    assert Outcome.WAITING not in {step.outcome for step in retirements(run.report())}
    assert 2 == world.cdn.removals


def test_one_that_does_not_arrive_is_waited_for_no_longer_than_a_verification(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """The run succeeds without a removal; after a day the rollout delays nothing."""
    record = on_its_way(world)
    world.claims = Claims([desired, replace(desired, lineage=record.lineage)])

    report = complete_run(world, desired)

    assert report.ok
    assert START + HOUR <= world.now() <= START + 2 * HOUR
    assert 0 == world.cdn.removals
    world.pass_time(timedelta(days=1))
    complete_run(world, desired)
    assert 1 == world.cdn.removals


def test_one_that_is_declared_no_more_is_waited_for_as_long_as_a_change_takes(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """No run would see the arrival, so a day's wait would leave the plan pending."""
    on_its_way(world)
    world.claims = Claims([desired])

    assert complete_run(world, desired).ok

    assert START + HOUR <= world.now() <= START + 2 * HOUR
    assert 1 == world.cdn.removals
    assert world.plan(desired).is_settled


def test_another_target_holds_nothing_up(world: ModelWorld, desired: DesiredCertificate) -> None:
    """Only rollouts to the same account may still use its copies."""
    world.state.save_rollout(replace(on_its_way(world), target="elsewhere"))
    world.state.save_rollout(replace(on_its_way(world), verified_at=world.now()))

    complete_run(world, desired)

    assert 1 == world.cdn.removals


def test_what_another_lineage_waits_to_bind_stays(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """The mark of a declared lineage protects an unbound upload, and so does the state of a dropped
    lineage; without either the copy belongs to no lineage.
    """
    made = make_bundle("static.example.com", not_before=world.now())
    with_lease = world.state.acquire("dropped", world.now())
    world.state.save_version(with_lease, made, world.now())
    world.claims = Claims([desired, replace(desired, lineage="static")])
    fingerprint = made.certificate.fingerprint
    kept = [
        world.cdn.put_foreign(ELSEWHERE, label_of(name, fingerprint))
        for name in ("static", "dropped")
    ]
    untrusted = world.cdn.put_foreign(ELSEWHERE, label_of("unknown", fingerprint))

    complete_run(world, desired)

    assert set(kept) <= world.cdn.remote_ids
    assert untrusted not in world.cdn.remote_ids
    assert world.plan(desired).is_settled


def test_our_own_mark_on_what_we_do_not_know(
    world: ModelWorld, desired: DesiredCertificate
) -> None:
    """The copy is left from a lost state: no other tool looks after it."""
    lost = world.cdn.put_foreign(IMG, label_of("img", "0" * 64))

    complete_run(world, desired)

    assert lost not in world.cdn.remote_ids


def test_upload_that_another_program_wrote_into_the_state_removes_nothing(
    world: ModelWorld,
) -> None:
    """The mark at the target proves a copy as ours; a row of the state proves nothing."""
    theirs = world.cdn.put_foreign(ELSEWHERE, "somebody's")
    complete_run(world, world.desired())
    (ours,) = world.state.uploads("img", "qiniu")
    for label in (ours.label, "somebody's", label_of("img", "ee" * 32)):
        world.state.save_upload(replace(ours, remote_id=theirs, label=label, fingerprint="ee" * 32))
        world.pass_time(timedelta(days=65))

        assert complete_run(world, world.desired()).ok

    assert theirs in world.cdn.remote_ids
