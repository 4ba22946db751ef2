"""A scheduled run tries a failure again while the pauses are minutes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import Activity, Event
from certferry.core.observed.observation import ObservedTarget
from certferry.core.planning.plan import Action
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.errors import (
    CaUnavailable,
    CertferryError,
    DnsAccessDenied,
    Interrupted,
    OrderFailed,
    RateLimited,
    Retry,
    TargetAccessDenied,
    TargetUnavailable,
)
from certferry.ports.issuer import IssueRequest
from certferry.ports.target import Scope
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.retries import ScheduledRun
from certferry.reconcile.run import WaitLimit
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.cli.fakes import FakeWorld, desired

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
REFUSED = OrderFailed(Text("the CA refused"))


class Unreadable(MemoryCdn):
    """A target that does not answer."""

    def observe(self, scope: Scope) -> ObservedTarget:
        """Fail, for a while or for ever."""
        raise TargetUnavailable(Text("no answer"))


class Denied(MemoryIssuer):
    def issue(self, request: IssueRequest, *ports: Any) -> CertificateBundle:
        if request.lineage == "denied":
            raise DnsAccessDenied(Text("no"))
        return super().issue(request, *ports)


def world_of_quick_changes() -> FakeWorld:
    return FakeWorld(processing=timedelta(0), lag=timedelta(0))


def scheduled(
    world: FakeWorld, *all_desired: DesiredCertificate, wait_limit: WaitLimit | None = None
) -> SyncReport:
    session = world.session(*all_desired)
    run = ScheduledRun(session.reconciler, world.pause, wait_limit or WaitLimit())
    return run.sync(session.certificates)


def pauses_of(world: FakeWorld) -> list[int]:
    """Return the pauses in whole minutes."""
    return [round(pause / MINUTE) for pause in world.pauses]


def heal_after(world: FakeWorld, pauses: int) -> None:
    wait = world.pause

    def pause(seconds: float) -> None:
        wait(seconds)
        if len(world.pauses) == pauses:
            world.issuer.fail_with(None)

    world.pause = pause  # type: ignore[method-assign]  # a world of the test's own


def test_failure_that_stays_is_tried_after_1_10_and_100_minutes() -> None:
    """The day's pause is for a later run: this run ends, and the state knows the pause."""
    world = world_of_quick_changes()
    world.issuer.fail_with(REFUSED)

    report = scheduled(world)

    assert [1, 10, 100] == pauses_of(world)
    assert report.any(Outcome.FAILED)
    assert 4 == world.state.remembered("img").issue_tries
    later = scheduled(world)
    assert [1, 10, 100] == pauses_of(world)
    assert later.any(Outcome.WAITING)
    world.pass_time(timedelta(hours=12))
    assert scheduled(world).any(Outcome.WAITING)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_failure_that_passes_ends_the_run_in_order(number: int) -> None:
    """The report has the last try alone."""
    world = world_of_quick_changes()
    world.issuer.fail_with(CaUnavailable(Text("away")))
    heal_after(world, number)

    report = scheduled(world)

    assert report.ok
    assert report.complete
    assert number == len(world.pauses)
    assert 1 == world.issuer.issued


def test_run_has_not_succeeded_while_another_certificate_fails() -> None:
    """A later success of one certificate leaves the others' failures."""
    world = world_of_quick_changes()
    world.issuer = Denied(world.state, world.now)
    world.issuer.fail_with(CaUnavailable(Text("away")))
    heal_after(world, 1)

    report = scheduled(world, desired(), DesiredCertificate("denied", ("a.example.org",), "dnspod"))

    assert [True, False] == [each.ok for each in report.lineages]
    last = world.state.last_run()
    assert last is not None
    assert last.succeeded_at is None


def test_run_that_leaves_a_failure_alone_has_not_succeeded() -> None:
    """During the pause after an earlier run's failure, the failure still counts."""
    world = world_of_quick_changes()
    world.issuer.fail_with(REFUSED)
    scheduled(world, wait_limit=WaitLimit(timedelta(0)))

    report = scheduled(world, wait_limit=WaitLimit(timedelta(0)))

    assert not report.any(Outcome.FAILED)
    assert report.leaves_failures
    last = world.state.last_run()
    assert last is not None
    assert last.succeeded_at is None


def test_run_by_hand_does_not_wait() -> None:
    """An operator at the terminal wants the result."""
    world = world_of_quick_changes()
    world.issuer.fail_with(REFUSED)
    session = world.session()

    report = session.reconciler().sync(session.certificates, WaitLimit())

    assert [] == world.pauses
    assert report.any(Outcome.FAILED)


@pytest.mark.parametrize(("limit", "waited"), [(0, []), (90, [1]), (1200, [1, 10])])
def test_patience_counts_for_the_pauses_too(limit: int, waited: list[int]) -> None:
    """`--no-wait` and `--wait SECONDS` limit the pauses."""
    world = world_of_quick_changes()
    world.issuer.fail_with(REFUSED)

    scheduled(world, wait_limit=WaitLimit(timedelta(seconds=limit)))

    assert waited == pauses_of(world)


def test_only_what_failed_is_tried_again() -> None:
    """The other certificates have their report, and get no second pass."""
    world = world_of_quick_changes()
    world.cdn.add_domain("www.example.com")
    other = DesiredCertificate("gone", ("gone.example.org",), "dnspod")
    fine = desired("img", "img.example.com")

    report = scheduled(world, fine, other)

    assert ["img", "gone"] == [each.lineage for each in report.lineages]
    assert [True, False] == [each.ok for each in report.lineages]
    issued = [e for e in world.state.history("img", 99) if e.event == "issued"]
    assert 1 == len(issued)


@pytest.mark.parametrize("error", [DnsAccessDenied(Text("no")), TargetAccessDenied(Text("no"))])
def test_refused_keys_are_not_sent_again(error: CertferryError) -> None:
    """Repeated wrong keys lock accounts; the next scheduled run tries them again."""
    world = world_of_quick_changes()
    world.issuer.fail_with(error)  # type: ignore[arg-type]  # what a port of the order's may raise

    assert scheduled(world).any(Outcome.FAILED)

    assert [] == world.pauses


def test_cas_own_moment_counts_for_more() -> None:
    """The run waits for an early moment, and leaves a late one to a later run."""
    for minutes, waited in ((30, 30), (300, None)):
        world = world_of_quick_changes()
        moment = world.now() + minutes * MINUTE
        world.issuer.fail_with(RateLimited(Text("too many"), retry=Retry.at(moment)))
        heal_after(world, 1)

        scheduled(world)

        assert [waited] * (waited is not None) == pauses_of(world)


def test_target_that_cannot_be_read_is_looked_at_again() -> None:
    """Nothing was tried, so the state counts no try: the run counts by itself."""
    world = world_of_quick_changes()
    world.cdn = Unreadable(world.now)

    report = scheduled(world)

    assert [1, 10, 100] == pauses_of(world)
    assert report.any(Outcome.FAILED)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted(Text("stopped"))])
def test_run_that_is_stopped_in_a_pause_ends(stop: BaseException) -> None:
    """The results so far are reported, and the stop."""
    world = world_of_quick_changes()
    world.issuer.fail_with(REFUSED)
    world.stopped = stop

    report = scheduled(world)

    assert not report.complete
    assert report.any(Outcome.FAILED)


def test_the_pause_is_shown() -> None:
    """A listener sees the reason and the end of the pause."""
    world, events = world_of_quick_changes(), list[Event]()
    world.issuer.fail_with(REFUSED)
    heal_after(world, 1)
    session = world.session(progress=events.append)

    ScheduledRun(session.reconciler, world.pause, WaitLimit()).sync(session.certificates)

    result = [e for e in events if isinstance(e, Activity) and "the next try is at" in str(e.what)]
    assert ["img"] == [event.lineage for event in result]
    assert result[0].deadline is not None
    assert result[0].deadline - result[0].since <= MINUTE + SECOND


class Engine:
    """A `Reconciler` with scripted reports that keeps its calls."""

    def __init__(self, world: FakeWorld, *reports: LineageReport) -> None:
        self.ports = world.session().ports
        self.runs: list[tuple[list[str], timedelta | None]] = []
        self._reports = list(reports)

    def sync(
        self, all_desired: Sequence[DesiredCertificate], wait_limit: WaitLimit, **_: bool
    ) -> SyncReport:
        self.runs.append(([desired.lineage for desired in all_desired], wait_limit.limit))
        return SyncReport((self._reports.pop(0),))

    def run(self, world: FakeWorld, wait_limit: WaitLimit) -> SyncReport:
        engine = cast("Reconciler", self)
        return ScheduledRun(lambda: engine, world.pause, wait_limit).sync([desired()])


IN_ORDER = LineageReport("img", None, ())


def failed(error: CertferryError) -> StepOutcome:
    return StepOutcome(Action.ISSUE, Outcome.FAILED, error.message).with_error(error)


def test_waits_after_a_pause_count_for_patience() -> None:
    """The later run gets the rest of the patience."""
    world = world_of_quick_changes()
    engine = Engine(world, LineageReport("img", None, (failed(REFUSED),)), IN_ORDER)
    world.state.save_issue_try("img", world.now(), failed=True)

    assert engine.run(world, WaitLimit(2 * MINUTE)).ok

    first, (_, left) = engine.runs
    assert (["img"], 2 * MINUTE) == first
    assert left is not None
    assert timedelta(0) <= left <= MINUTE + SECOND


def test_domain_with_a_day_to_wait_does_not_hold_up_another() -> None:
    """The run waits for the earliest end of a pause."""
    world = world_of_quick_changes()
    tomorrow = world.now() + timedelta(days=1)
    result = failed(OrderFailed(Text("it has failed"), retry=Retry.at(tomorrow)))
    paused = replace(result, outcome=Outcome.WAITING)
    both = LineageReport("img", None, (failed(REFUSED), paused))
    world.state.save_issue_try("img", world.now(), failed=True)

    assert Engine(world, both, IN_ORDER).run(world, WaitLimit()).ok
    assert [1] == pauses_of(world)


def test_pause_that_has_ended_meanwhile_is_not_waited_for() -> None:
    """The report was made before the end of the pause, and is read after it."""
    world = world_of_quick_changes()
    result = failed(OrderFailed(Text("it has failed"), retry=Retry.at(world.now())))
    paused = LineageReport("img", None, (replace(result, outcome=Outcome.WAITING),))

    assert Engine(world, paused, IN_ORDER).run(world, WaitLimit()).ok
    assert [0] == pauses_of(world)
