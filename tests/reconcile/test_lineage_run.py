"""What one run does about one lineage, situation by situation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from certferry.core.certificate import CertificateBundle
from certferry.core.lineage import mark
from certferry.core.observed import DomainState, ObservedTarget
from certferry.core.plan import Action
from certferry.core.report import LineageReport, Outcome, StepOutcome
from certferry.errors import (
    CaUnavailable,
    CopyGone,
    DnsUnavailable,
    Interrupted,
    StateUnavailable,
    TargetBusy,
    TargetUnavailable,
    VerificationError,
)
from certferry.ports.state import ChallengeRecord, Lease
from certferry.ports.target import Look
from certferry.reconcile.apply import Applier
from certferry.reconcile.doors import Doors
from certferry.reconcile.lineage_run import LineageRun
from certferry.reconcile.observe import observe
from certferry.reconcile.outcomes import Outcomes
from certferry.reconcile.rollouts import Rollouts
from certferry.text import Text
from tests.reconcile.model import FALLEN, START, TTL, ModelWorld

IMG = "img.example.com"
OTHER = "a.img.example.com"


@pytest.fixture
def world() -> ModelWorld:
    """A CDN with one domain that has no HTTPS."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    return world


def synced(world: ModelWorld) -> LineageReport:
    """Run to the end."""
    report = world.run(world.wish())
    assert report is not None
    return report


def outcome(report: LineageReport, action: Action, domain: str | None = None) -> StepOutcome:
    """The outcome of one step."""
    (found,) = (o for o in report.outcomes if o.action is action and o.domain == domain)
    return found


def one_visit(world: ModelWorld, **doors: object) -> LineageReport:
    """Visit once, with some doors replaced, and tell how it stands."""
    ours: Doors = replace(world.doors("run"), **doors)  # type: ignore[arg-type]  # a test's shorthand
    world.alive.add("run")
    run = LineageRun(world.wish(), ours)
    run.visit()
    return run.report()


def test_first_run_does_everything_once(world: ModelWorld) -> None:
    """Issue, deploy, verify; each is told as done."""
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


def test_read_that_lags_is_not_answered_by_a_second_write(world: ModelWorld) -> None:
    """A target that does not show the accepted change at once is not asked twice."""
    world.cdn.hide_changes(IMG, 6)

    assert synced(world).ok
    assert 1 == world.cdn.writes


def test_failed_change_is_told_and_tried_again_by_the_next_run(world: ModelWorld) -> None:
    """The target's description is the detail; the certificate is not issued again."""
    world.cdn.fail_next(IMG, "verify https crt fail")

    failed = outcome(synced(world), Action.DEPLOY, IMG)

    assert Outcome.FAILED is failed.outcome
    assert "verify https crt fail" == str(failed.detail)
    assert synced(world).ok
    assert (1, 1) == (world.issuer.issued, world.cdn.uploads)


def test_failed_change_stops_only_its_domain(world: ModelWorld) -> None:
    """The other domain is served all the same."""
    world.cdn.add_domain(OTHER)
    world.cdn.fail_next(IMG, "verify https crt fail")

    report = synced(world)

    assert Outcome.FAILED is outcome(report, Action.DEPLOY, IMG).outcome
    assert Outcome.DONE is outcome(report, Action.VERIFY, OTHER).outcome


def test_change_under_way_is_waited_for_and_not_overtaken(world: ModelWorld) -> None:
    """Nothing is written while somebody else's change is carried out."""
    synced(world)
    world.cdn.add_domain(OTHER)
    other = world.state.versions("img")[0]
    remote = world.cdn.upload("img", world.state.bundle("img", other.number))
    wish = world.wish(OTHER)
    domain = world.doors("x").targets["qiniu"]
    domain.bind(OTHER, world.wish().deployments[0].kind, remote, world.wish().deployments[0].https)
    writes = world.cdn.writes

    report = world.run(wish)

    assert report is not None
    assert report.ok
    assert writes == world.cdn.writes


def test_target_that_turned_busy_is_asked_later(world: ModelWorld) -> None:
    """Between looking and writing somebody else was faster: that is a wait, not a failure."""

    class Busy:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def bind(self, *_: object) -> None:
            raise TargetBusy(Text("processing"))

    report = one_visit(world, targets={"qiniu": Busy()})

    deployed = outcome(report, Action.DEPLOY, IMG)
    assert Outcome.WAITING is deployed.outcome
    assert deployed.waiting is not None
    assert synced(world).ok


def test_change_that_never_ends_is_given_up_at_the_deadline() -> None:
    """After the verify timeout it is a failure with a hint, and tried again by the next run."""
    world = ModelWorld(processing=timedelta(hours=2))
    world.cdn.add_domain(IMG)

    stuck = outcome(synced(world), Action.DEPLOY, IMG)

    assert isinstance(stuck.error, TargetBusy)
    assert stuck.hint is not None
    world.pass_time(timedelta(hours=2))
    assert synced(world).ok
    assert 1 == world.cdn.writes


def test_edge_that_lags_too_long_is_a_failure_and_retires_nothing() -> None:
    """Not served is not done; and what it still serves is not removed."""
    world = ModelWorld(lags=(timedelta(0), timedelta(hours=3)))
    world.cdn.add_domain(IMG)

    report = synced(world)

    lagging = outcome(report, Action.VERIFY, IMG)
    assert isinstance(lagging.error, VerificationError)
    assert "192.0.2.2" in str(lagging.detail)
    world.pass_time(timedelta(hours=3))
    assert synced(world).ok


def test_edge_that_falls_back_gets_its_whole_time_again(world: ModelWorld) -> None:
    """A domain that was verified long ago and is not served now is not given up at once."""
    synced(world)
    world.pass_time(timedelta(days=3))
    report = one_visit(world, probe=FALLEN)

    looked = outcome(report, Action.VERIFY, IMG)
    assert Outcome.WAITING is looked.outcome
    assert looked.waiting is not None
    assert world.clock + timedelta(hours=1) == looked.waiting.deadline


def test_ca_that_fails_leaves_what_is_there(world: ModelWorld) -> None:
    """A renewal that fails is told; the certificate in force is still brought where it lacks."""
    synced(world)
    world.pass_time(timedelta(days=61))
    world.cdn.add_domain(OTHER)
    world.issuer.fail_with(CaUnavailable(Text("the CA is away"), hint=Text("later")))

    report = synced(world)

    assert Outcome.FAILED is outcome(report, Action.ISSUE).outcome
    assert Outcome.DONE is outcome(report, Action.VERIFY, OTHER).outcome
    assert "issue failed" in {entry.event for entry in world.state.history("img", 5)}


def test_ca_that_quotes_a_header(world: ModelWorld) -> None:
    """The history, which nobody can delete, has it without what must not be seen."""
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

    report = world.run(world.wish(), renew=True)

    assert report is not None
    assert report.ok
    assert first != report.fingerprint
    assert 2 == world.issuer.issued
    assert 2 == len(world.cdn.remote_labels)


def test_copy_that_is_used_elsewhere_is_kept_and_not_asked_for_daily(world: ModelWorld) -> None:
    """The target says it is in use: kept, told as unchanged, and left alone for a day."""
    synced(world)
    oldest = world.state.versions("img")[0]
    for _ in range(2):
        world.pass_time(timedelta(days=1))
        world.run(world.wish(), renew=True)
    # by hand, on a domain that is not ours to look at
    world.cdn.add_domain("b.img.example.com")
    remote = world.cdn.upload("img", world.state.bundle("img", oldest.number))
    settings = world.wish().deployments[0]
    world.cdn.bind("b.img.example.com", settings.kind, remote, settings.https)
    world.pass_time(timedelta(days=1))

    def run() -> LineageReport:
        report = world.run(world.wish(IMG))
        assert report is not None
        return report

    (kept,) = (step for step in run().outcomes if step.action is Action.RETIRE)
    assert Outcome.UNCHANGED is kept.outcome
    assert kept.label is not None
    assert run().is_unchanged
    assert world.plan(world.wish(IMG)).is_settled


def test_frozen_domain_is_told_with_its_reason(world: ModelWorld) -> None:
    """What cannot be changed is a failure with the target's reason and a hint."""
    world.cdn.add_domain(OTHER, state=DomainState.UNAVAILABLE)

    frozen = outcome(synced(world), Action.DEPLOY, OTHER)

    assert Outcome.FAILED is frozen.outcome
    assert "frozen" in str(frozen.detail)
    assert frozen.hint is not None


def test_target_that_lets_nobody_in_leaves_everything_as_it_was(world: ModelWorld) -> None:
    """With wrong keys nothing is issued that could not be served; put right, all is done."""
    world.cdn.denies = True

    assert [Outcome.FAILED] == [step.outcome for step in synced(world).outcomes]
    assert 0 == world.issuer.issued

    world.cdn.denies = False
    assert synced(world).ok


def test_lease_of_another_run_is_waited_for(world: ModelWorld) -> None:
    """Another run is at work: this one waits, and then finds nothing left to do."""
    world.alive.add("another")
    held = world.state.seen_by("another").acquire("img", TTL, world.now())

    report = one_visit(world)

    assert [Outcome.WAITING] == [step.outcome for step in report.outcomes]
    assert 0 == world.issuer.issued
    world.state.seen_by("another").release(held)
    assert synced(world).ok


def test_lease_is_not_needed_to_look(world: ModelWorld) -> None:
    """A run with nothing to do takes no lease, so it never disturbs one that works."""
    synced(world)
    world.alive.add("another")
    world.state.seen_by("another").acquire("img", TTL, world.now())

    assert one_visit(world).is_unchanged


def test_stopped_run_says_so_and_gives_its_lease_back(world: ModelWorld) -> None:
    """Interrupted in the middle: told as skipped, and another run can begin at once."""

    class Stopped:
        def issue(self, *_: object) -> object:
            raise Interrupted(Text("stopped"))

    doors = replace(world.doors("run"), issuer=Stopped())  # type: ignore[arg-type]  # only `issue` is called
    world.alive.add("run")
    run = LineageRun(world.wish(), doors)
    with pytest.raises(Interrupted):
        run.visit()

    assert [Outcome.SKIPPED] == [step.outcome for step in run.report().outcomes]
    assert synced(world).ok


def test_mistake_of_ours_is_one_lineages_failure(
    world: ModelWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception nobody expected is logged whole, and does not leave the visit."""

    class Broken:
        def issue(self, *_: object) -> object:
            raise ZeroDivisionError

    report = one_visit(world, issuer=Broken())

    assert [Outcome.FAILED] == [step.outcome for step in report.outcomes]
    assert "ZeroDivisionError" in caplog.text


def test_state_that_cannot_be_read_is_told(world: ModelWorld) -> None:
    """The state's own error is the outcome, hint included."""

    class Unreadable:
        def __getattr__(self, name: str) -> object:
            raise StateUnavailable(Text("the disk is full"), hint=Text("free some space"))

    report = one_visit(world, state=Unreadable())

    (told,) = report.outcomes
    assert Outcome.FAILED is told.outcome
    assert "the disk is full" == str(told.detail)
    assert told.hint is not None


def test_record_left_by_an_earlier_run_is_swept(world: ModelWorld) -> None:
    """Also when there is nothing else to do."""
    synced(world)
    name = f"_acme-challenge.{IMG}"
    handle = world.dns.add_txt(name, "left")
    world.state.save_challenge_record(ChallengeRecord("img", name, "left", START, handle))

    synced(world)

    assert [] == world.challenge_values()
    assert () == world.state.challenge_records("img")


def test_record_that_cannot_be_swept_is_told_and_kept_in_mind(world: ModelWorld) -> None:
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


def test_wait_is_told_once_and_again_only_when_it_changes(world: ModelWorld) -> None:
    """Whoever follows the run is told each outcome, and not the same one twice in a row."""
    synced(world)

    assert world.events
    assert all(one != other for one, other in itertools.pairwise(world.events))


@pytest.mark.parametrize("method", ["upload", "bind", "retire"])
def test_stop_passes_through_every_step(method: str) -> None:
    """Whatever it was at, a stopped run ends at once, and the next one finishes."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    if method == "retire":
        for _ in range(2):
            world.run(world.wish(), renew=True)
            world.pass_time(timedelta(days=1))

    class Stopping:
        def __getattr__(self, name: str) -> object:
            if name == method:
                raise Interrupted(Text("stopped"))
            return getattr(world.cdn, name)

    doors = replace(world.doors("run"), targets={"qiniu": Stopping()})  # type: ignore[dict-item]  # by name
    world.alive.add("run")
    with pytest.raises(Interrupted):
        world.visit_to_the_end(LineageRun(world.wish(), doors, renew=method == "retire"))
    world.alive.discard("run")

    assert synced(world).ok
    assert [] == world.cdn.broken


def test_removal_that_fails_is_told_and_tried_again(world: ModelWorld) -> None:
    """A target that cannot remove just now is a failure of that step only."""
    for _ in range(2):
        world.run(world.wish(), renew=True)
        world.pass_time(timedelta(days=1))

    class Unwilling:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def retire(self, *_: object, **__: object) -> bool:
            raise TargetUnavailable(Text("away"), hint=Text("later"))

    world.alive.add("run")
    doors = replace(world.doors("run"), targets={"qiniu": Unwilling()})  # type: ignore[dict-item]  # by name
    run = LineageRun(world.wish(), doors, renew=True)
    world.visit_to_the_end(run)

    (failed,) = run.report().having(Outcome.FAILED)
    assert Action.RETIRE is failed.action
    assert synced(world).ok
    assert 2 == len(world.cdn.remote_labels)


def test_target_that_stays_busy_is_asked_ever_more_rarely_and_given_up(world: ModelWorld) -> None:
    """Reads say ready, writes say busy: a bounded number of attempts, then a failure."""
    attempts = 0

    class Busy:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def bind(self, *_: object) -> None:
            nonlocal attempts
            attempts += 1
            raise TargetBusy(Text("processing"), hint=Text("wait"))

    world.alive.add("run")
    doors = replace(world.doors("run"), targets={"qiniu": Busy()})  # type: ignore[dict-item]  # by name
    run = LineageRun(world.wish(), doors)
    world.visit_to_the_end(run)

    assert attempts < 120
    assert [Outcome.FAILED] == [o.outcome for o in run.report().outcomes if o.domain == IMG]


def test_clean_up_that_fails_does_not_hide_what_became_of_the_issue(world: ModelWorld) -> None:
    """Both are told; and once the records are gone, nothing of it is left in the report."""
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
    doors = replace(world.doors("run"), issuer=Forgetful())  # type: ignore[arg-type]  # by name
    run = LineageRun(world.wish(), doors)
    run.visit()
    after_one = {step.action: step.outcome for step in run.report().outcomes}
    world.visit_to_the_end(run)

    assert Outcome.DONE is after_one[Action.ISSUE]
    assert Outcome.FAILED is after_one[Action.CLEAN]
    assert run.report().ok


def test_run_that_was_overtaken_writes_to_no_target(world: ModelWorld) -> None:
    """Its lease was lost while it uploaded: the newer certificate of the other run stays bound."""

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def upload(self, *arguments: object) -> str:
            remote_id = world.cdn.upload(*arguments)  # type: ignore[arg-type]  # passed on
            world.alive.discard("slow")
            other = world.run(world.wish(), renew=True)
            assert other is not None
            assert other.ok
            return remote_id

    world.alive.add("slow")
    doors = replace(world.doors("slow"), targets={"qiniu": Slow()})  # type: ignore[dict-item]  # by name
    run = LineageRun(world.wish(), doors)
    writes = world.cdn.writes
    run.visit()

    assert 1 == world.cdn.writes - writes
    newest = world.state.versions("img")[0].certificate.fingerprint
    assert {newest} == {address.fingerprint for address in world.cdn.look([IMG])[IMG]}


def test_another_run_that_finishes_first_leaves_nothing_to_do(world: ModelWorld) -> None:
    """Between looking and getting the lease the work was done: it is not done twice."""
    doors = world.doors("late")
    world.alive.add("late")

    @contextmanager
    def late_lease(lineage: str) -> Iterator[Lease]:
        assert world.run(world.wish()) is not None
        with doors.lease(lineage) as lease:
            yield lease

    run = LineageRun(world.wish(), replace(doors, lease=late_lease))
    world.visit_to_the_end(run)

    assert run.report().ok
    assert (1, 1, 1) == (world.issuer.issued, world.cdn.uploads, world.cdn.writes)


def test_lease_that_never_comes_free_ends_the_wait(world: ModelWorld) -> None:
    """After the verify timeout the run ends as still waiting, so that later runs do not pile up."""
    world.alive.add("another")
    world.state.seen_by("another").acquire("img", timedelta(days=300), world.now())
    world.alive.add("run")
    run = LineageRun(world.wish(), world.doors("run"))

    world.visit_to_the_end(run)

    assert [Outcome.WAITING] == [step.outcome for step in run.report().outcomes]
    assert world.clock - START <= timedelta(hours=2)


def test_obstacle_or_refusal_at_a_target_keeps_everything_there(world: ModelWorld) -> None:
    """Three versions, of which one would go: not while a domain is frozen or not covered."""
    for _ in range(2):
        world.run(world.wish(), renew=True)
        world.pass_time(timedelta(days=1))
    world.cdn.add_domain(OTHER, state=DomainState.UNAVAILABLE)
    frozen, uncovered = world.wish(IMG, OTHER), world.wish(IMG, "www.example.com")
    world.cdn.add_domain("www.example.com")

    for wish in (frozen, uncovered):
        world.run(wish, renew=True)
        world.pass_time(timedelta(days=1))

    assert 4 == len(world.cdn.remote_labels)
    assert synced_after_thaw(world).ok
    assert 2 == len(world.cdn.remote_labels)


def synced_after_thaw(world: ModelWorld) -> LineageReport:
    """Only the domain that is in order is asked for: what was kept may go."""
    report = world.run(world.wish(IMG))
    assert report is not None
    return report


def test_without_a_lease_no_target_is_written_to(world: ModelWorld) -> None:
    """Whatever the plan says: following a lineage changes nothing at any target."""
    synced(world)
    world.pass_time(timedelta(days=1))
    for _ in range(2):
        world.run(world.wish(), renew=True)
        world.pass_time(timedelta(days=1))
    world.cdn.add_domain(OTHER)
    doors = world.doors("run")
    applier = Applier(world.wish(), doors)
    rollouts = Rollouts("img", doors, applier, Outcomes("img", doors.progress))
    observed = observe(world.wish(), doors)
    plan = world.plan(world.wish())
    assert plan.rollouts
    before = world.cdn.writes, world.cdn.removals

    rollouts.follow(plan, observed, lease=None)
    rollouts.follow(replace(plan, rollouts=()), observed, lease=None)

    assert before == (world.cdn.writes, world.cdn.removals)


def test_upload_that_a_list_does_not_show_yet_is_not_made_again(world: ModelWorld) -> None:
    """A killed run's upload is remembered for as long as lists may lag."""

    class Forgetful:
        """A target whose list lags, as another process sees it."""

        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def observe(self, look: Look) -> ObservedTarget:
            return replace(world.cdn.observe(look), remotes=())

        def upload(self, lineage: str, bundle: CertificateBundle) -> str:
            return world.cdn.put(mark(lineage, bundle.certificate.fingerprint), bundle)

    for process in ("killed", "next"):
        world.alive.add(process)
        doors = replace(world.doors(process), targets={"qiniu": Forgetful()})  # type: ignore[dict-item]  # by name
        LineageRun(world.wish(), doors).visit()
        world.alive.discard(process)

    assert 1 == len(world.cdn.remote_labels)


def test_clock_that_was_ahead_does_not_make_it_hurry_for_ever(world: ModelWorld) -> None:
    """A rollout that set out in the future is waited for like any other."""
    synced(world)
    (record,) = world.state.rollouts("img")
    ahead = replace(record, started_at=world.clock + timedelta(days=300), verified_at=None)
    world.state.save_rollout(ahead)
    world.alive.add("run")
    doors = replace(world.doors("run"), probe=FALLEN)
    run = LineageRun(world.wish(), doors)
    begun = world.clock
    visits = 0
    while (waiting := run.visit()) is not None and visits < 300:
        visits += 1
        world.clock = waiting.until

    assert visits < 120
    assert world.clock - begun <= timedelta(hours=2)


def test_copy_that_somebody_removed_is_uploaded_again() -> None:
    """A moment after its upload it counts as there, whatever the list says. When the target says
    that it is gone, the run says so, and the next one makes it anew, as the hint promises.
    """
    world = ModelWorld(processing=timedelta(seconds=1), lags=(timedelta(0),))
    world.cdn.add_domain(IMG)
    wish = world.wish(IMG)
    assert world.run(wish) is not None
    fingerprint = world.state.versions("img")[0].certificate.fingerprint
    [ours] = world.state.uploads("img", "qiniu")
    world.cdn.add_domain(IMG, foreign=True)
    assert world.cdn.retire(ours.remote_id, ours.label)
    assert 0 == world.cdn.copies(fingerprint)

    first, second = world.run(wish), world.run(wish)

    assert first is not None
    assert second is not None
    assert [CopyGone] == [type(told.error) for told in first.having(Outcome.FAILED)]
    assert second.ok
    assert 1 == world.cdn.copies(fingerprint)
    assert 1 == world.issuer.issued
