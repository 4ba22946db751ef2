"""A run over all lineages, with any number of passes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from certferry.core.assessment.causes import causes_of_run
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.status import Standing
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    Kind,
    PemFiles,
    Retirement,
)
from certferry.core.events import StepEnded
from certferry.core.observed.observation import ObservedTarget
from certferry.core.planning.plan import Action, Clean, Weight
from certferry.core.planning.planner import Claims
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import LineageReport, Outcome, Result, SyncReport, of_run
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import (
    AuthorizationFailed,
    Interrupted,
    LeaseLost,
    StateUnavailable,
    TargetAccessDenied,
    TargetRejected,
    TargetUnavailable,
)
from certferry.ports.state import ChallengeRecord
from certferry.ports.target import Scope
from certferry.reconcile.apply import carry_out
from certferry.reconcile.observe import observe
from certferry.reconcile.reads import plans_of, statuses_of
from certferry.reconcile.reconciler import LineageReconciler, RunRules
from certferry.reconcile.run import WORKERS, StepContext, WaitLimit
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.interruptions import Altered, failing
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.reconcile.many_certificates import ManyCertificates, now
from tests.reconcile.model import ModelWorld, issuing_of
from tests.reconcile.one_lineage import IMG, OTHER, complete_run, outcome

# # --- Plan, sync and status with worker threads


class SlowCdn(MemoryCdn):
    asked = threading.Barrier(WORKERS, timeout=20)

    def observe(self, scope: Scope) -> ObservedTarget:
        self.asked.wait()
        return super().observe(scope)


class StoppedCdn(MemoryCdn):
    trouble: BaseException = KeyboardInterrupt()

    def observe(self, scope: Scope) -> ObservedTarget:
        raise self.trouble


class InterruptedCdn(StoppedCdn):
    """A CDN under a run that is stopped while every worker makes a pass."""

    trouble = Interrupted(Text("stopped"))

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.all_ask = threading.Barrier(WORKERS, timeout=30)

    def observe(self, scope: Scope) -> ObservedTarget:
        """Raise in every worker."""
        self.all_ask.wait()
        return super().observe(scope)


class BrokenCdn(StoppedCdn):
    trouble = StateUnavailable(Text("it cannot be read"))


def test_lineages_are_was_observed_side_by_side() -> None:
    """A thousand answers one after the other would take many minutes."""
    many = ManyCertificates(2 * WORKERS, cdn=SlowCdn)
    reconciler = many.reconciler()

    plans = plans_of(reconciler.ports, many.certificates)
    statuses = statuses_of(reconciler.ports, many.certificates, Recorded())

    lineages = [desired.lineage for desired in many.certificates]
    assert lineages == [plan.lineage for plan in plans]
    assert lineages == [status.lineage for status in statuses]


@pytest.mark.parametrize("cdn", [StoppedCdn, BrokenCdn])
def test_what_ends_one_look_ends_them_all(cdn: type[StoppedCdn]) -> None:
    """Ctrl-C, or an unreadable state, ends the waits of the other threads."""
    many = ManyCertificates(1, cdn=cdn)

    with pytest.raises(type(cdn.trouble)):
        plans_of(many.ports(), many.certificates)

    assert many.run.is_stopped


def test_run_that_is_stopped_does_not_report_what_it_did_not_come_to() -> None:
    """Begun passes report the stop; the other lineages count as unobserved."""
    many = ManyCertificates(WORKERS + 2, cdn=InterruptedCdn)

    report = many.reconciler().sync(many.certificates, WaitLimit())

    assert [True] * WORKERS + [False] * 2 == [one.was_observed for one in report.lineages]
    assert not any(one.ok or one.is_unchanged for one in report.lineages)


def test_company_is_synced_and_stays_so() -> None:
    """Every certificate ends served; the second run is unchanged; status and plan agree."""
    many = ManyCertificates(30)
    reconciler = many.reconciler()
    assert 30 * 3 == sum(len(plan.steps) for plan in plans_of(reconciler.ports, many.certificates))

    first = reconciler.sync(many.certificates, WaitLimit())
    second = reconciler.sync(many.certificates, WaitLimit())

    assert first.ok
    assert first.complete
    assert all(lineage.is_unchanged for lineage in second.lineages)
    assert [desired.lineage for desired in many.certificates] == [
        one.lineage for one in first.lineages
    ]
    assert all(plan.is_settled for plan in plans_of(reconciler.ports, many.certificates))
    standings = {
        d.standing
        for s in statuses_of(reconciler.ports, many.certificates, Recorded())
        for d in s.domains
    }
    assert {Standing.VERIFIED} == standings
    assert {desired.lineage for desired in many.certificates} == {
        event.lineage for event in many.events if isinstance(event, StepEnded)
    }


@pytest.mark.parametrize("files", [None, PemFiles("/gone/fullchain.pem", "/gone/privkey.pem")])
def test_records_of_a_lineage_that_is_issued_no_more_are_removed(files: PemFiles | None) -> None:
    """A killed lineage was later imported from files, or dropped: its account removes the records.
    Records of lineages at work or declared stay.
    """
    many = ManyCertificates(2)
    run_for, beside = many.certificates
    delivered_whole = DesiredCertificate("gone", (), files=files)
    all_desired = [run_for, *([delivered_whole] if files else [])]
    many.claims = Claims([*all_desired, beside])
    for lineage in ("gone", "held", beside.lineage):
        name = f"_acme-challenge.{lineage}.example.com"
        handle = many.dns.add_txt(name, "left")
        record = ChallengeRecord(lineage, name, "left", now(), handle)
        many.state.save_challenge_record(record)

    with many.lease("held"):
        many.reconciler().sync(all_desired, WaitLimit())

    assert [] == many.dns.values("_acme-challenge.gone.example.com")
    assert {beside.lineage, "held"} == set(many.state.lineages_in_challenge_records())


def test_record_that_cannot_be_removed_spoils_no_run(caplog: pytest.LogCaptureFixture) -> None:
    """The record is reported, and declared certificates are served."""
    many = ManyCertificates(1)
    name = "_acme-challenge.gone.example.net"
    many.state.save_challenge_record(ChallengeRecord("gone", name, "left", now(), "handle"))

    report = many.reconciler().sync(many.certificates, WaitLimit())

    assert report.ok
    assert "gone: an earlier run left a challenge record in DNS" in caplog.text
    assert ("gone",) == many.state.lineages_in_challenge_records()


@pytest.mark.parametrize(
    ("trouble", "complete"),
    [(StateUnavailable(Text("the disk is gone")), True), (KeyboardInterrupt(), False)],
)
def test_clean_up_that_fails_leaves_the_report(
    trouble: BaseException, caplog: pytest.LogCaptureFixture, *, complete: bool
) -> None:
    """The certificates are reported after a state error in the search for challenge records, and
    after Ctrl-C during the search.
    """
    many = ManyCertificates(1)
    many.state = Altered(many.state, lineages_in_challenge_records=failing(trouble))

    report = many.reconciler().sync(many.certificates, WaitLimit())

    assert complete == report.complete
    assert [True] == [lineage.ok for lineage in report.lineages]
    assert complete == (
        "could not look for challenge records of earlier runs: the disk is gone" in caplog.text
    )
    assert complete != many.run.is_stopped


def test_end_that_cannot_be_recorded_is_in_the_report() -> None:
    """The certificates are in order and the run is not: monitors do not see this run."""
    many = ManyCertificates(1)
    full = StateUnavailable(Text("the disk is full"))
    many.state = Altered(many.state, save_run=failing(full))

    report = many.reconciler().sync(many.certificates, WaitLimit())

    assert [True] == [lineage.ok for lineage in report.lineages]
    assert report.problem is not None
    assert (True, False, False) == (report.complete, report.ok, report.has_succeeded)
    assert Result.FAILED is of_run(report)


def test_renewal_is_planned_on_demand() -> None:
    """`plan --renew` shows the steps of `sync --renew`."""
    many = ManyCertificates(1)
    reconciler = many.reconciler()
    reconciler.sync(many.certificates, WaitLimit())

    (plan,) = plans_of(reconciler.ports, many.certificates, renew=True)

    assert plan.issue is not None


def test_hundred_waiting_domains_hold_no_thread() -> None:
    """A hundred changes in progress need no more threads than there are workers."""
    many = ManyCertificates(100, processing=timedelta(milliseconds=700))
    before = threading.active_count()
    counts: list[int] = []
    many.watch = lambda _: counts.append(threading.active_count() - before)

    report = many.reconciler().sync(many.certificates, WaitLimit())

    assert report.ok
    assert max(counts) <= WORKERS


# # --- The report of a step stays true over all passes of a run


REFUSED = TargetRejected(Text("refused for good"))
SILENT = TargetUnavailable(Text("no answer"))
ELSEWHERE = Kind("elsewhere")


class Around:
    """A port with some calls replaced: each replacement gets the port's own call and the
    arguments.
    """

    def __init__(self, port: Any, **calls: Callable[..., Any]) -> None:
        self._port = port
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        own = getattr(self._port, name)
        replaced = self._calls.get(name)
        return own if replaced is None else lambda *a, **k: replaced(own, *a, **k)


def raising(error: Exception, when: Callable[..., bool]) -> Callable[..., Any]:
    def call(own: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            raise error
        return own(*arguments, **named)

    return call


def nth(number: int) -> Callable[..., bool]:
    """Return a condition that is true at the call of this number, counted from 1."""
    calls = iter(range(1, 10_000))
    return lambda *_: next(calls) == number


def run_at(
    world: ModelWorld, desired: DesiredCertificate | None = None, **ports: Any
) -> LineageReconciler:
    world.alive.add("run")
    return LineageReconciler(desired or world.desired(), replace(world.ports("run"), **ports))


def ended(world: ModelWorld, run: LineageReconciler) -> LineageReport:
    world.pass_to_the_end(run)
    return run.report()


@pytest.mark.parametrize("days", [0, 1])
@pytest.mark.parametrize("look", [4, 5])
def test_failure_outlives_a_target_that_cannot_be_read_once(
    world: ModelWorld, days: int, look: int
) -> None:
    """A domain refused for good is reported as failed at the end, on any day."""
    world.cdn.add_domain(OTHER)
    refusing = raising(REFUSED, lambda domain, *_: domain == OTHER)
    for _ in range(days):
        ended(world, run_at(world, targets={"qiniu": Around(world.cdn, bind=refusing)}))
        world.pass_time(timedelta(days=1))
        world.cdn.add_domain(IMG)  # switched off at the console: there is something to wait for
    cdn = Around(world.cdn, bind=refusing, observe=raising(SILENT, nth(look)))

    report = ended(world, run_at(world, targets={"qiniu": cdn}))

    failed = outcome(report, Action.DEPLOY, OTHER)
    assert (Outcome.FAILED, "refused for good") == (failed.outcome, str(failed.detail))
    assert Outcome.DONE is outcome(report, Action.VERIFY, IMG).outcome


@pytest.mark.parametrize("renew", [False, True])
@pytest.mark.parametrize("what", ["issue", "bind"])
def test_failure_of_another_run_is_no_all_clear(
    world: ModelWorld, what: str, *, renew: bool
) -> None:
    """After a wait for another run, a run reports the other's failure and the place of its
    reason.
    """
    denied = AuthorizationFailed(Text("CAA forbids it"))
    issuer = Around(world.issuer, issue=raising(denied, lambda *_: what == "issue"))
    cdn = Around(world.cdn, bind=raising(REFUSED, lambda *_: what == "bind"))
    ports: dict[str, Any] = {"issuer": issuer, "targets": {"qiniu": cdn}}
    world.alive.update({"first", "second"})
    first = LineageReconciler(world.desired(), replace(world.ports("first"), **ports))
    issuing = issuing_of(renew=renew)
    second = LineageReconciler(
        world.desired(), replace(world.ports("second"), **ports), RunRules(issuing)
    )
    world.pass_time(timedelta(seconds=1))
    first.reconcile()

    second.reconcile()

    [failed] = [o for o in second.report().outcomes if o.outcome is Outcome.FAILED]
    assert "another run tried at" in str(failed.detail)
    assert "certferry history img" in str(failed.hint)


@pytest.mark.parametrize("ahead", [timedelta(hours=3), timedelta(days=365)])
@pytest.mark.parametrize("what", ["issue", "bind"])
def test_clock_that_was_ahead_holds_up_nothing(
    world: ModelWorld, what: str, ahead: timedelta
) -> None:
    """A failure under a wrong clock is tried again under the right one."""
    denied = AuthorizationFailed(Text("the CA's own certificate has expired"))
    issuer = Around(world.issuer, issue=raising(denied, lambda *_: what == "issue"))
    cdn = Around(world.cdn, bind=raising(REFUSED, lambda *_: what == "bind"))
    world.clock += ahead
    run_at(world, issuer=issuer, targets={"qiniu": cdn}).reconcile()
    world.clock -= ahead

    assert complete_run(world).ok


def two_deployments(other: str = OTHER) -> DesiredCertificate:
    """Declare two deployments to one account, of different kinds."""
    deployments = (
        DesiredDeployment("qiniu", (IMG,), kind=ELSEWHERE),
        DesiredDeployment("qiniu", (other,), kind=Kind.CDN),
    )
    names = ("img.example.com", "*.img.example.com")
    return DesiredCertificate("img", names, "dnspod", deployments=deployments)


def test_one_of_two_deployments_that_cannot_be_read_takes_no_other_along(world: ModelWorld) -> None:
    """The other deployment goes on, and both are served in the end."""
    world.cdn.add_domain(OTHER)
    number = nth(4)
    silent = raising(SILENT, lambda look: look.kind == ELSEWHERE and number())
    run = run_at(world, two_deployments(), targets={"qiniu": Around(world.cdn, observe=silent)})

    report = ended(world, run)

    assert {Outcome.DONE} == {o.outcome for o in report.outcomes}


def test_deployment_that_cannot_be_read_switches_no_check_off(world: ModelWorld) -> None:
    """An uncovered name is refused beside a silent deployment."""
    foreign = "www.example.org"
    world.cdn.add_domain(foreign, foreign=True)
    asked: list[str] = []

    def bind(own: Callable[..., Any], domain: str, *more: Any) -> Any:
        asked.append(domain)
        return own(domain, *more)

    silent = raising(SILENT, lambda look: look.kind == ELSEWHERE)
    cdn = Around(world.cdn, observe=silent, bind=bind)

    report = ended(world, run_at(world, two_deployments(foreign), targets={"qiniu": cdn}))

    assert Outcome.REFUSED is outcome(report, Action.DEPLOY, foreign).outcome
    assert [] == asked


def test_look_overwrites_nothing_that_another_run_wrote_meanwhile(world: ModelWorld) -> None:
    """A run without the lease sees the old certificate served while the lease's holder binds a new
    one: the holder's record stays, and a failing change is requested once.
    """
    world.alive.update({"looking", "renewing"})
    others: list[LineageReconciler] = []

    def look(own: Callable[..., Any], domains: Any) -> Any:
        served = own(domains)
        if others:
            others.pop().reconcile()
        return served

    probe = Around(world.cdn, look=look)
    looking = LineageReconciler(world.desired(), replace(world.ports("looking"), probe=probe))
    looking.reconcile()
    world.pass_time(timedelta(minutes=20))
    world.cdn.fail_next(IMG, "verify https crt fail")
    renewing = LineageReconciler(world.desired(), world.ports("renewing"), RunRules(Issuing.ALWAYS))
    others.append(renewing)
    writes = world.cdn.writes
    looking.reconcile()

    assert Outcome.FAILED is outcome(ended(world, renewing), Action.DEPLOY, IMG).outcome
    assert 1 == world.cdn.writes - writes


def test_failed_renewal_reports_the_end_of_the_served_certificate(world: ModelWorld) -> None:
    """So the run's end can say until when the cause has to be fixed."""
    first = complete_run(world)
    world.pass_time(timedelta(days=61))
    world.issuer.fail_with(AuthorizationFailed(Text("no record")))
    report = complete_run(world)

    (cause,) = causes_of_run(SyncReport((report,)))

    (version,) = world.state.remembered("img").versions
    assert first.fingerprint == version.fingerprint
    assert version.certificate.not_after == cause.deadline


def test_failure_of_yesterday_is_no_part_of_todays_wait(world: ModelWorld) -> None:
    """A run waits for a change at the console from the first sight of the change."""
    cdn = Around(world.cdn, bind=raising(SILENT, nth(1)))
    ended(world, run_at(world, targets={"qiniu": cdn}))
    world.pass_time(timedelta(days=1))
    theirs = world.cdn.put_foreign(IMG)
    world.cdn.bind(IMG, Kind.CDN, theirs, DesiredHttps())

    assert complete_run(world).ok


def test_rollout_that_failed_for_good_holds_up_no_removal(world: ModelWorld) -> None:
    """`all-unused` waits for rollouts on their way, and ignores refused ones."""
    static = "static.example.com"
    world.cdn.add_domain(static)
    complete_run(world)
    world.cdn.put_foreign("x.example.org")
    cdn = Around(world.cdn, bind=raising(REFUSED, lambda *_: True))
    desired = world.desired(static, names=(static,), lineage="static")
    run_at(world, desired, targets={"qiniu": cdn}).reconcile()
    begun = world.clock

    world.run(world.desired(IMG, retire=Retirement.ALL_UNUSED))

    assert world.clock - begun < timedelta(minutes=1)


def test_keys_that_may_not_remove_are_asked_once_in_a_run(world: ModelWorld) -> None:
    """The number of certificates and passes does not matter."""
    world.cdn.add_domain(OTHER)
    for name in ("x.example.org", "y.example.org"):
        world.cdn.put_foreign(name)
    asked: list[str] = []

    def retire(own: object, remote_id: str, *_: object, **__: object) -> None:
        asked.append(remote_id)
        raise TargetAccessDenied(Text("may not delete"))

    deployments = (
        DesiredDeployment("qiniu", (IMG,), retire=Retirement.ALL_UNUSED),
        DesiredDeployment("second", (OTHER,)),
    )
    names = ("img.example.com", "*.img.example.com")
    desired = DesiredCertificate("img", names, "dnspod", deployments=deployments)
    targets = {"qiniu": Around(world.cdn, retire=retire), "second": world.cdn}

    ended(world, run_at(world, desired, targets=targets))

    assert len(asked) <= 1


def test_two_copies_of_one_label_are_distinguished(world: ModelWorld) -> None:
    """A successful removal does not hide a failed one."""
    complete_run(world)
    [first] = world.state.versions("img")
    bundle = world.state.bundle("img", first.number)
    world.cdn.put(label_of("img", first.certificate.fingerprint), bundle)
    world.pass_time(timedelta(days=61))
    complete_run(world)
    world.pass_time(timedelta(days=61))
    cdn = Around(world.cdn, retire=raising(SILENT, nth(1)))

    report = ended(world, run_at(world, targets={"qiniu": cdn}))

    removals = [o.outcome for o in report.outcomes if o.action is Action.RETIRE]
    assert [Outcome.DONE, Outcome.FAILED] == sorted(removals)


def test_dns_is_not_cleaned_without_the_lease(world: ModelWorld) -> None:
    """The records may be those of the run that took over."""
    world.alive.add("run")
    ports = world.ports("run")
    one_pass = StepContext(world.desired(), observe(world.desired(), ports), ports)
    left = Clean(Reason(ReasonCode.LEFT_BEHIND, Text("left")))

    with pytest.raises(LeaseLost):
        list(carry_out([left], one_pass))


def test_plan_reports_a_target_that_cannot_be_read(world: ModelWorld) -> None:
    """An earlier run's change may be in progress there."""
    run_at(world).reconcile()
    world.pass_time(timedelta(minutes=5))
    cdn = Around(world.cdn, observe=raising(SILENT, lambda *_: True))

    plan = world.plan(world.desired(), targets={"qiniu": cdn})

    assert [("qiniu", None)] == [(o.target, o.domain) for o in plan.having(Weight.BLOCKED)]
