"""A single lineage in a run: its plan, its proof, its steps."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.discovery.inventory import FoundZone
from certferry.core.events import Activity, Asking
from certferry.core.observed.observation import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
)
from certferry.core.observed.records import HistoryEntry
from certferry.core.planning.plan import Action, Weight
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import Outcome
from certferry.core.planning.timing import Times
from certferry.core.reasons import ReasonCode
from certferry.errors import (
    CaUnavailable,
    ClockWrong,
    DnsAccessDenied,
    DnsError,
    DnsUnavailable,
    StateError,
    StateUnavailable,
    TargetAccessDenied,
    TargetRejected,
    ZoneNotFound,
)
from certferry.ports.state import ChallengeRecord
from certferry.reconcile.reads import plans_of
from certferry.reconcile.reconciler import LineageReconciler, Reconciler, plan_lineage
from certferry.reconcile.run import Ports, WaitLimit, history_keeper
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.memory_dns import MemoryDns
from tests.core.strategies import LINEAGE, NOW, situations
from tests.reconcile.model import START, ModelWorld
from tests.reconcile.one_lineage import IMG, OTHER, complete_run, one_pass, outcome

# # --- A run for one lineage: the main job, orders, and reports


def test_first_run_does_everything_once(world: ModelWorld) -> None:
    """Issue, deploy and verify are each reported as done."""
    report = complete_run(world)

    assert report.ok
    assert {Outcome.DONE} == {step.outcome for step in report.outcomes}
    assert world.state.versions("img")[0].certificate.fingerprint == report.fingerprint
    events = [entry.event for entry in reversed(world.state.history("img", 10))]
    assert ["issued", "uploaded", "deployed", "verified"] == events


def test_two_domains_share_one_upload(world: ModelWorld) -> None:
    """One copy at the target, and one entry in the history."""
    world.cdn.add_domain(OTHER)

    assert complete_run(world).ok

    events = [entry.event for entry in world.state.history("img", 10)]
    assert 1 == events.count("uploaded")
    assert 2 == events.count("deployed")


def test_second_run_says_unchanged_and_writes_nothing(world: ModelWorld) -> None:
    """Neither the target nor the state is written."""
    complete_run(world)
    entries = world.state.history(None, 100)
    writes = world.cdn.writes, world.cdn.uploads, world.issuer.issued

    report = complete_run(world)

    assert report.is_unchanged
    assert writes == (world.cdn.writes, world.cdn.uploads, world.issuer.issued)
    assert entries == world.state.history(None, 100)


def test_run_that_finds_served_what_an_earlier_one_sent(world: ModelWorld) -> None:
    """After `--no-wait` or a stopped run, the first run that sees the certificate served reports
    news.
    """
    sending = one_pass(world)
    world.alive.discard("run")
    world.pass_time(timedelta(hours=1))

    report = complete_run(world)

    assert not sending.ok
    assert Outcome.DONE is outcome(report, Action.VERIFY, IMG).outcome
    assert not report.is_unchanged
    assert complete_run(world).is_unchanged


def test_ca_that_fails_leaves_what_is_there(world: ModelWorld) -> None:
    """A failed renewal is reported; a new domain still gets the certificate in force."""
    complete_run(world)
    world.pass_time(timedelta(days=61))
    world.cdn.add_domain(OTHER)
    world.issuer.fail_with(CaUnavailable(Text("the CA is away"), hint=Text("later")))

    report = complete_run(world)

    assert Outcome.FAILED is outcome(report, Action.ISSUE).outcome
    assert Outcome.DONE is outcome(report, Action.VERIFY, OTHER).outcome
    assert "issue failed" in {entry.event for entry in world.state.history("img", 5)}


def test_ca_that_quotes_a_header(world: ModelWorld) -> None:
    """The history is append-only, and stores the error with the secret masked."""
    world.issuer.fail_with(CaUnavailable(Text("bad header Authorization: Bearer planted")))

    complete_run(world)

    (entry,) = world.state.history("img", 5)
    assert {"problem": "bad header Authorization: •••"} == entry.facts


def test_ca_that_fails_the_first_time_leaves_nothing_to_deploy(world: ModelWorld) -> None:
    """A lineage without any certificate has a single failure; no step pretends to wait."""
    world.issuer.fail_with(CaUnavailable(Text("the CA is away")))

    report = complete_run(world)

    assert [Outcome.FAILED] == [step.outcome for step in report.outcomes]
    assert report.fingerprint is None
    assert 0 == world.cdn.writes


def test_one_order_in_a_run_whatever_comes_of_it() -> None:
    """A CA that answers with short certificates is asked once in a run."""
    world = ModelWorld(lifetime=timedelta(days=20))
    world.cdn.add_domain(IMG)

    report = complete_run(world)

    assert 1 == world.issuer.issued
    refused = outcome(report, Action.DEPLOY, IMG)
    assert Outcome.REFUSED is refused.outcome
    assert refused.hint is not None
    assert 0 == world.cdn.uploads


def test_renewing_on_demand_issues_once(world: ModelWorld) -> None:
    """`--renew` orders a new certificate before the due time, and keeps the old one."""
    first = complete_run(world).fingerprint

    report = world.run(world.desired(), renew=True)

    assert report is not None
    assert report.ok
    assert first != report.fingerprint
    assert 2 == world.issuer.issued
    assert 2 == len(world.cdn.remote_labels)


def test_mistake_of_ours_is_one_lineages_failure(
    world: ModelWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is logged whole, and stays within the pass."""

    class Broken:
        def rate_limit_hold(self, *_: object, **__: object) -> None:
            return None

        def issue(self, *_: object) -> object:
            raise ZeroDivisionError

    report = one_pass(world, issuer=Broken())

    assert [Outcome.FAILED] == [step.outcome for step in report.outcomes]
    assert "ZeroDivisionError" in caplog.text


def test_state_that_cannot_be_read_is_reported(world: ModelWorld) -> None:
    """The outcome is the state's own error with its hint."""

    class Unreadable:
        def __getattr__(self, name: str) -> object:
            raise StateUnavailable(Text("the disk is full"), hint=Text("free some space"))

    report = one_pass(world, state=Unreadable())

    (result,) = report.outcomes
    assert Outcome.FAILED is result.outcome
    assert "the disk is full" == str(result.detail)
    assert result.hint is not None


def test_history_that_cannot_be_written_fails_no_step(
    world: ModelWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Each step is reported as done, nothing is repeated, and the missing entry is a warning."""

    class Unwritable:
        def append_history(self, entry: HistoryEntry) -> None:
            raise StateUnavailable(Text("the disk is full"))

    keep = history_keeper(Unwritable(), world.now, "tester")  # type: ignore[arg-type]  # writes history alone
    report = one_pass(world, progress=keep)

    assert Outcome.DONE is outcome(report, Action.ISSUE).outcome
    assert Outcome.WAITING is outcome(report, Action.DEPLOY, IMG).outcome
    assert 1 == world.cdn.uploads
    assert 'img: "uploaded" is missing in the history: the disk is full' in caplog.messages
    assert complete_run(world).ok
    assert 1 == world.cdn.uploads


def test_record_left_by_an_earlier_run_is_swept(world: ModelWorld) -> None:
    """The sweep needs no other work in the run."""
    complete_run(world)
    name = f"_acme-challenge.{IMG}"
    handle = world.dns.add_txt(name, "left")
    world.state.save_challenge_record(ChallengeRecord("img", name, "left", START, handle))

    world.events.clear()
    complete_run(world)

    assert [] == world.challenge_values()
    assert () == world.state.challenge_records("img")
    activities = [str(event.what) for event in world.events if isinstance(event, Activity)]
    assert ["removing challenge records left by an earlier run"] == activities


def test_record_that_cannot_be_swept_is_reported_and_kept_in_mind(world: ModelWorld) -> None:
    """A failed clean-up is a failure, and the next run tries again."""
    complete_run(world)
    name = f"_acme-challenge.{IMG}"
    handle = world.dns.add_txt(name, "left")
    world.state.save_challenge_record(ChallengeRecord("img", name, "left", START, handle))
    world.dns.fail_with(DnsUnavailable(Text("away"), hint=Text("later")))

    assert not complete_run(world).ok

    world.dns.fail_with(None)
    assert complete_run(world).ok
    assert [] == world.challenge_values()


def test_clean_up_that_fails_does_not_hide_what_became_of_the_issue(world: ModelWorld) -> None:
    """Both failures are reported; the report of the clean-up ends with the records."""
    name = f"_acme-challenge.{IMG}"
    world.state.save_challenge_record(ChallengeRecord("img", name, "left", START, "record-9"))

    class Forgetful:
        left = 1

        def __getattr__(self, method: str) -> object:
            return getattr(world.issuer, method)

        def sweep(self, *arguments: object) -> None:
            if Forgetful.left:
                Forgetful.left -= 1
                raise DnsUnavailable(Text("away"), hint=Text("later"))
            world.issuer.sweep(*arguments)  # type: ignore[arg-type]  # passed on

    world.alive.add("run")
    ports = replace(world.ports("run"), issuer=Forgetful())  # type: ignore[arg-type]  # by name
    run = LineageReconciler(world.desired(), ports)
    run.reconcile()
    after_one = {step.action: step.outcome for step in run.report().outcomes}
    world.pass_to_the_end(run)

    assert Outcome.DONE is after_one[Action.ISSUE]
    assert Outcome.FAILED is after_one[Action.CLEAN]
    assert run.report().ok


def test_wait_is_reported_once_and_again_only_when_it_changes(world: ModelWorld) -> None:
    """A listener hears of each outcome, and of no outcome twice in a row."""
    complete_run(world)

    # # Questions to services are reported at each pass, for displays alone.
    result = [event for event in world.events if not isinstance(event, Asking)]
    assert result
    assert all(one != other for one, other in itertools.pairwise(result))


# --- The plan of one lineage, after safety has looked at it


DENIED = ObservedTarget("qiniu", failure=TargetAccessDenied("bad token"))
DESIRED = DesiredCertificate(
    lineage=LINEAGE,
    names=("img.example.com",),
    dns="dnspod",
    deployments=(DesiredDeployment("qiniu"),),
)


@given(situations(), st.sampled_from(Issuing))
def test_nothing_is_issued_that_no_place_could_take(
    situation: tuple[DesiredCertificate, Observation], issuing: Issuing
) -> None:
    """A certificate with deployments is issued only for at least one ready domain."""
    desired, observed = situation

    plan = plan_lineage(desired, observed, Times.at(NOW), issuing)

    assert plan.issue is None or plan.rollouts or not desired.deployments


def test_denied_access_leaves_an_empty_plan() -> None:
    """With wrong keys the plan is empty apart from the obstacle."""
    plan = plan_lineage(DESIRED, Observation((), (DENIED,)), Times.at(NOW), Issuing.ALWAYS)

    assert plan.is_empty
    assert [DENIED.failure] == [obstacle.error for obstacle in plan.having(Weight.BLOCKED)]


def test_certificate_without_a_deployment_is_issued() -> None:
    """A certificate for export alone needs no target."""
    plan = plan_lineage(
        replace(DESIRED, deployments=()), Observation(), Times.at(NOW), Issuing.IF_DUE
    )

    assert plan.issue is not None
    assert ReasonCode.MISSING is plan.issue.reason.code


def test_one_place_that_can_take_it_is_enough() -> None:
    """A target with denied access does not delay the others."""
    desired = replace(DESIRED, deployments=(DesiredDeployment("cdn"), *DESIRED.deployments))
    ready = replace(_without_https(), label="cdn")

    plan = plan_lineage(desired, Observation((), (ready, DENIED)), Times.at(NOW), Issuing.IF_DUE)

    assert plan.issue is not None
    assert ["cdn"] == [rollout.target for rollout in plan.rollouts]


def _without_https() -> ObservedTarget:
    return ObservedTarget(domains=(ObservedDomain("img.example.com", Kind.CDN, DomainState.READY),))


# # --- The plan reports obstacles of an order, before the order


def ports_of(world: ModelWorld) -> Ports:
    return world.ports("run")


def test_refused_token_is_reported_by_the_plan(world: ModelWorld) -> None:
    """The plan still names the order, and the account as its obstacle."""
    denied = DnsAccessDenied("the token is refused")
    world.dns.fail_with(denied)

    [plan] = plans_of(ports_of(world), [world.desired()])

    assert plan.issue is not None
    assert [("dnspod", None, denied)] == [
        (o.target, o.domain, o.error) for o in plan.having(Weight.BLOCKED)
    ]


def test_plan_without_an_order_asks_the_provider_nothing(world: ModelWorld) -> None:
    """A run without changes makes no DNS call."""
    complete_run(world)
    asked = world.dns.calls

    [plan] = plans_of(ports_of(world), [world.desired()])

    assert (True, asked) == (plan.is_empty, world.dns.calls)


def test_name_that_neither_the_target_nor_the_dns_account_has(world: ModelWorld) -> None:
    """Both sides report a mistyped name, even without an order."""
    desired = replace(world.desired(), names=("www.foo.test",))

    [plan] = plans_of(ports_of(world), [desired])

    assert plan.issue is None
    assert [("qiniu", TargetRejected), ("dnspod", ZoneNotFound)] == [
        (one.target, type(one.error)) for one in plan.having(Weight.BLOCKED)
    ]


def test_name_that_only_the_target_lacks(world: ModelWorld) -> None:
    """The zone exists: only the target is reported."""
    desired = replace(world.desired(), names=("www.example.com",))

    [plan] = plans_of(ports_of(world), [desired])

    assert [("qiniu", TargetRejected)] == [
        (one.target, type(one.error)) for one in plan.having(Weight.BLOCKED)
    ]


def test_account_with_the_zone_is_no_obstacle(world: ModelWorld) -> None:
    """The account is asked once, without an obstacle."""
    [plan] = plans_of(ports_of(world), [world.desired()])

    assert (1, ()) == (world.dns.calls, plan.having(Weight.BLOCKED))


class Timely:
    def __init__(self, dns: MemoryDns, ahead: timedelta | DnsError) -> None:
        self._dns = dns
        self._ahead = ahead
        self.looks = 0

    def clock_ahead(self) -> timedelta:
        self.looks += 1
        if isinstance(self._ahead, DnsError):
            raise self._ahead
        return self._ahead

    def zones(self) -> tuple[FoundZone, ...]:
        """Be a `ZoneKeeper` to every Python: since 3.12, protocols do not see `__getattr__`."""
        return self._dns.zones()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dns, name)


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (timedelta(minutes=20), ClockWrong),
        (timedelta(minutes=5), None),
        (DnsUnavailable("no answer"), DnsUnavailable),
    ],
)
def test_wrong_clock_is_reported_before_an_order(
    world: ModelWorld, ahead: timedelta | DnsError, expected: type[Exception] | None
) -> None:
    """The clock is read once for all plans of a run, before any blame of the keys."""
    dns = Timely(world.dns, ahead)
    ports = replace(world.ports("run"), dns={"dnspod": dns})
    all_desired = [world.desired(lineage="one"), world.desired(lineage="two")]

    plans = plans_of(ports, all_desired)

    errors = [type(o.error) for plan in plans for o in plan.having(Weight.BLOCKED)]
    assert ([] if expected is None else [expected] * 2) == errors
    assert 1 == dns.looks
    assert (0 if expected else 2) == world.dns.calls


def test_slip_that_is_put_back_orders_nothing(world: ModelWorld) -> None:
    """A name outside every zone fails before an order, so there is no order to continue."""
    complete_run(world)
    desired = world.desired()
    slip = replace(desired, names=(*desired.names, "x.notmine.test"))

    failed = world.run(slip)

    assert failed is not None
    step = outcome(failed, Action.ISSUE)
    assert (Outcome.FAILED, ZoneNotFound) == (step.outcome, type(step.error))
    assert world.state.order(desired.lineage) is None
    [plan] = plans_of(ports_of(world), [desired])
    assert plan.is_empty


def test_lost_key_is_reported_before_anything_is_done(world: ModelWorld) -> None:
    """The report comes also before any renewal is due."""
    complete_run(world)
    world.state.lose_key()

    with pytest.raises(StateError, match="does not open"):
        plans_of(ports_of(world), [world.desired()])
    with pytest.raises(StateError, match="does not open"):
        Reconciler(ports_of(world)).sync([world.desired()], WaitLimit())
