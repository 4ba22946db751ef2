"""One lineage in a run: its plan, its proof, its steps."""

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
from certferry.reconcile.reconciler import LineageReconciler, Reconciler, plan_lineage
from certferry.reconcile.run import Ports, WaitLimit, history_keeper
from certferry.reconcile.status import plans_of
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.memory_dns import MemoryDns
from tests.core.strategies import LINEAGE, NOW, situations
from tests.reconcile.model import START, ModelWorld
from tests.reconcile.one_lineage import IMG, OTHER, one_pass, outcome, synced

# --- What one run does about one lineage: the main job, what it issues, and what it says


def test_first_run_does_everything_once(world: ModelWorld) -> None:
    """Issue, deploy, verify; each is reported as done."""
    report = synced(world)

    assert report.ok
    assert {Outcome.DONE} == {step.outcome for step in report.outcomes}
    assert world.state.versions("img")[0].certificate.fingerprint == report.fingerprint
    events = [entry.event for entry in reversed(world.state.history("img", 10))]
    assert ["issued", "uploaded", "deployed", "verified"] == events


def test_two_domains_share_one_upload(world: ModelWorld) -> None:
    """One copy at the target, and one entry in the history."""
    world.cdn.add_domain(OTHER)

    assert synced(world).ok

    events = [entry.event for entry in world.state.history("img", 10)]
    assert 1 == events.count("uploaded")
    assert 2 == events.count("deployed")


def test_second_run_says_unchanged_and_writes_nothing(world: ModelWorld) -> None:
    """Nothing is written at the target, and nothing into the state."""
    synced(world)
    entries = world.state.history(None, 100)
    writes = world.cdn.writes, world.cdn.uploads, world.issuer.issued

    report = synced(world)

    assert report.is_unchanged
    assert writes == (world.cdn.writes, world.cdn.uploads, world.issuer.issued)
    assert entries == world.state.history(None, 100)


def test_run_that_finds_served_what_an_earlier_one_sent(world: ModelWorld) -> None:
    """`--no-wait`, or a run that was stopped: the one that first sees it served has news."""
    sending = one_pass(world)
    world.alive.discard("run")
    world.pass_time(timedelta(hours=1))

    report = synced(world)

    assert not sending.ok
    assert Outcome.DONE is outcome(report, Action.VERIFY, IMG).outcome
    assert not report.is_unchanged
    assert synced(world).is_unchanged


def test_ca_that_fails_leaves_what_is_there(world: ModelWorld) -> None:
    """A renewal that fails is reported; the certificate in force still goes where it lacks."""
    synced(world)
    world.pass_time(timedelta(days=61))
    world.cdn.add_domain(OTHER)
    world.issuer.fail_with(CaUnavailable(Text("the CA is away"), hint=Text("later")))

    report = synced(world)

    assert Outcome.FAILED is outcome(report, Action.ISSUE).outcome
    assert Outcome.DONE is outcome(report, Action.VERIFY, OTHER).outcome
    assert "issue failed" in {entry.event for entry in world.state.history("img", 5)}


def test_ca_that_quotes_a_header(world: ModelWorld) -> None:
    """The history, which no program can delete, has it without what must not be seen."""
    world.issuer.fail_with(CaUnavailable(Text("bad header Authorization: Bearer planted")))

    synced(world)

    (entry,) = world.state.history("img", 5)
    assert {"problem": "bad header Authorization: •••"} == entry.facts


def test_ca_that_fails_the_first_time_leaves_nothing_to_deploy(world: ModelWorld) -> None:
    """Without any certificate there is one failure, and no step pretends to wait."""
    world.issuer.fail_with(CaUnavailable(Text("the CA is away")))

    report = synced(world)

    assert [Outcome.FAILED] == [step.outcome for step in report.outcomes]
    assert report.fingerprint is None
    assert 0 == world.cdn.writes


def test_one_order_in_a_run_whatever_comes_of_it() -> None:
    """A CA that gives names we did not ask for is not asked again and again."""
    world = ModelWorld(lifetime=timedelta(days=20))
    world.cdn.add_domain(IMG)

    report = synced(world)

    assert 1 == world.issuer.issued
    refused = outcome(report, Action.DEPLOY, IMG)
    assert Outcome.REFUSED is refused.outcome
    assert refused.hint is not None
    assert 0 == world.cdn.uploads


def test_renewing_on_demand_issues_once(world: ModelWorld) -> None:
    """`--renew` gives a new certificate before the old one is due, and keeps the old one."""
    first = synced(world).fingerprint

    report = world.run(world.desired(), renew=True)

    assert report is not None
    assert report.ok
    assert first != report.fingerprint
    assert 2 == world.issuer.issued
    assert 2 == len(world.cdn.remote_labels)


def test_mistake_of_ours_is_one_lineages_failure(
    world: ModelWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is logged whole, and does not leave the pass."""

    class Broken:
        def rate_limit_hold(self, *_: object, **__: object) -> None:
            return None

        def issue(self, *_: object) -> object:
            raise ZeroDivisionError

    report = one_pass(world, issuer=Broken())

    assert [Outcome.FAILED] == [step.outcome for step in report.outcomes]
    assert "ZeroDivisionError" in caplog.text


def test_state_that_cannot_be_read_is_reported(world: ModelWorld) -> None:
    """The state's own error is the outcome, hint included."""

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
    """What was done is reported as done, nothing is done twice, and the gap is a warning."""

    class Unwritable:
        def append_history(self, entry: HistoryEntry) -> None:
            raise StateUnavailable(Text("the disk is full"))

    keep = history_keeper(Unwritable(), world.now, "tester")  # type: ignore[arg-type]  # writes history alone
    report = one_pass(world, progress=keep)

    assert Outcome.DONE is outcome(report, Action.ISSUE).outcome
    assert Outcome.WAITING is outcome(report, Action.DEPLOY, IMG).outcome
    assert 1 == world.cdn.uploads
    assert 'img: "uploaded" is missing in the history: the disk is full' in caplog.messages
    assert synced(world).ok
    assert 1 == world.cdn.uploads


def test_record_left_by_an_earlier_run_is_swept(world: ModelWorld) -> None:
    """Also when there is nothing else to do."""
    synced(world)
    name = f"_acme-challenge.{IMG}"
    handle = world.dns.add_txt(name, "left")
    world.state.save_challenge_record(ChallengeRecord("img", name, "left", START, handle))

    world.events.clear()
    synced(world)

    assert [] == world.challenge_values()
    assert () == world.state.challenge_records("img")
    said = [str(event.what) for event in world.events if isinstance(event, Activity)]
    assert ["removing challenge records left by an earlier run"] == said


def test_record_that_cannot_be_swept_is_reported_and_kept_in_mind(world: ModelWorld) -> None:
    """A failure to clean up is a failure, and the next run tries again."""
    synced(world)
    name = f"_acme-challenge.{IMG}"
    handle = world.dns.add_txt(name, "left")
    world.state.save_challenge_record(ChallengeRecord("img", name, "left", START, handle))
    world.dns.fail_with(DnsUnavailable(Text("away"), hint=Text("later")))

    assert not synced(world).ok

    world.dns.fail_with(None)
    assert synced(world).ok
    assert [] == world.challenge_values()


def test_clean_up_that_fails_does_not_hide_what_became_of_the_issue(world: ModelWorld) -> None:
    """Both are reported; and once the records are gone, nothing of it is left in the report."""
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
    """A listener of the run learns each outcome, and not the same one twice in a row."""
    synced(world)

    # What is asked of which service is reported at each pass: a display alone shows it.
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
    """Where something is to be served, a certificate is issued only if one domain can take it."""
    desired, observed = situation

    plan = plan_lineage(desired, observed, Times.at(NOW), issuing)

    assert plan.issue is None or plan.rollouts or not desired.deployments


def test_denied_access_leaves_an_empty_plan() -> None:
    """With wrong keys nothing is to be done, and what stands in the way is reported."""
    plan = plan_lineage(DESIRED, Observation((), (DENIED,)), Times.at(NOW), Issuing.ALWAYS)

    assert plan.is_empty
    assert [DENIED.failure] == [obstacle.error for obstacle in plan.having(Weight.BLOCKED)]


def test_certificate_without_a_deployment_is_issued() -> None:
    """What is only kept, to be exported, needs no target."""
    plan = plan_lineage(
        replace(DESIRED, deployments=()), Observation(), Times.at(NOW), Issuing.IF_DUE
    )

    assert plan.issue is not None
    assert ReasonCode.MISSING is plan.issue.reason.code


def test_one_place_that_can_take_it_is_enough() -> None:
    """A target that denies access does not keep the others waiting."""
    desired = replace(DESIRED, deployments=(DesiredDeployment("cdn"), *DESIRED.deployments))
    ready = replace(_without_https(), label="cdn")

    plan = plan_lineage(desired, Observation((), (ready, DENIED)), Times.at(NOW), Issuing.IF_DUE)

    assert plan.issue is not None
    assert ["cdn"] == [rollout.target for rollout in plan.rollouts]


def _without_https() -> ObservedTarget:
    return ObservedTarget(domains=(ObservedDomain("img.example.com", Kind.CDN, DomainState.READY),))


# --- What would stop an order is reported by the plan, and before the order is made


def ports_of(world: ModelWorld) -> Ports:
    return world.ports("run")


def test_refused_token_is_reported_by_the_plan(world: ModelWorld) -> None:
    """The plan still says what is to be issued, and that it is blocked, at the account."""
    denied = DnsAccessDenied("the token is refused")
    world.dns.fail_with(denied)

    [plan] = plans_of(ports_of(world), [world.desired()])

    assert plan.issue is not None
    assert [("dnspod", None, denied)] == [
        (o.target, o.domain, o.error) for o in plan.having(Weight.BLOCKED)
    ]


def test_plan_without_an_order_asks_the_provider_nothing(world: ModelWorld) -> None:
    """A no-op is not slowed by it."""
    synced(world)
    asked = world.dns.calls

    [plan] = plans_of(ports_of(world), [world.desired()])

    assert (True, asked) == (plan.is_empty, world.dns.calls)


def test_name_that_neither_the_target_nor_the_dns_account_has(world: ModelWorld) -> None:
    """A mistyped name is reported from both sides, though nothing would be ordered."""
    desired = replace(world.desired(), names=("www.foo.test",))

    [plan] = plans_of(ports_of(world), [desired])

    assert plan.issue is None
    assert [("qiniu", TargetRejected), ("dnspod", ZoneNotFound)] == [
        (one.target, type(one.error)) for one in plan.having(Weight.BLOCKED)
    ]


def test_name_that_only_the_target_lacks(world: ModelWorld) -> None:
    """The zone is there: nothing more is said."""
    desired = replace(world.desired(), names=("www.example.com",))

    [plan] = plans_of(ports_of(world), [desired])

    assert [("qiniu", TargetRejected)] == [
        (one.target, type(one.error)) for one in plan.having(Weight.BLOCKED)
    ]


def test_account_with_the_zone_is_no_obstacle(world: ModelWorld) -> None:
    """It is asked, and nothing stands in the way."""
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
    """Once for all the plans of a run, and before the keys are blamed."""
    dns = Timely(world.dns, ahead)
    ports = replace(world.ports("run"), dns={"dnspod": dns})
    all_desired = [world.desired(lineage="one"), world.desired(lineage="two")]

    plans = plans_of(ports, all_desired)

    found = [type(o.error) for plan in plans for o in plan.having(Weight.BLOCKED)]
    assert ([] if expected is None else [expected] * 2) == found
    assert 1 == dns.looks
    assert (0 if expected else 2) == world.dns.calls


def test_slip_that_is_put_back_orders_nothing(world: ModelWorld) -> None:
    """A name of no zone's fails before an order is made, so there is none to continue."""
    synced(world)
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
    """Also where nothing is due: not on the day of a renewal."""
    synced(world)
    world.state.lose_key()

    with pytest.raises(StateError, match="does not open"):
        plans_of(ports_of(world), [world.desired()])
    with pytest.raises(StateError, match="does not open"):
        Reconciler(ports_of(world)).sync([world.desired()], WaitLimit())
