"""Runs: the work queue, and two runs in one process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certferry.core.planning.report import Outcome, SyncReport
from certferry.core.reasons import Waiting
from certferry.errors import CertferryError, Interrupted, OrderFailed, Retry, RunEnded
from certferry.reconcile.reads import plans_of
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.retries import ScheduledRun
from certferry.reconcile.run import Run, WaitLimit, WorkQueue
from certferry.text import Text
from certferry.values import replace
from tests.reconcile.many_certificates import ManyCertificates
from tests.support.tiers import examples

# # --- A stop interrupts each thread once, and leaves time for the clean-up


FOR_EVER = 600.0


def test_wait_ends_when_the_run_is_stopped() -> None:
    """Every waiting thread is stopped at once."""
    stopping = Run()
    with ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(stopping.pause, FOR_EVER) for _ in range(4)]
        stopping.stop()

        for wait in waits:
            assert isinstance(wait.exception(timeout=10), Interrupted)


def test_wait_after_it_was_reported_is_a_wait() -> None:
    """A thread that cleans up waits its turn, without a second interruption."""
    stopping = Run()
    stopping.stop()
    with pytest.raises(Interrupted) as found:
        stopping.pause(0)
    assert found.value.hint is not None

    begun = time.monotonic()
    stopping.pause(0.05)
    stopping.pause(0.05)

    assert time.monotonic() - begun >= 0.1


def test_putting_in_order_has_an_end() -> None:
    """A thread's waits share the time for the clean-up."""
    stopping = Run(cleanup=timedelta(seconds=0.1))
    stopping.stop()
    with pytest.raises(Interrupted):
        stopping.pause(FOR_EVER)

    stopping.pause(0.04)
    stopping.pause(0.04)
    with pytest.raises(Interrupted):
        stopping.pause(0.04)


def test_each_thread_is_reported_by_itself() -> None:
    """A thread's clean-up does not use up another thread's notice."""
    stopping = Run()
    stopping.stop()
    with pytest.raises(Interrupted):
        stopping.pause(0)
    heard: list[Exception] = []

    def wait() -> None:
        try:
            stopping.pause(FOR_EVER)
        except Interrupted as found:
            heard.append(found)

    other = threading.Thread(target=wait)
    other.start()
    other.join(timeout=10)

    assert 1 == len(heard)


@pytest.mark.parametrize("end", RunEnded.__subclasses__())
def test_the_end_of_a_run_is_no_error(end: type[RunEnded]) -> None:
    """No handler of errors takes the end of a run for a failed step."""
    assert not issubclass(end, CertferryError)
    assert Retry.LATER == end("so it is").retry


# # --- The work queue: concurrent, bounded, without idle threads, until a stop


def now() -> datetime:
    return datetime.now(UTC)


class Passes:
    """Work with scripted passes."""

    def __init__(self, *passes: Callable[[], timedelta | None]) -> None:
        self._passes = iter(passes)
        self.count = 0

    def reconcile(self) -> Waiting | None:
        """Do the next scripted pass, and wait for its result."""
        self.count += 1
        pause = next(self._passes)()
        moment = now()
        return None if pause is None else Waiting(Text("…"), moment, moment + pause)


def carry_out(
    *works: Passes | Traced,
    wait_limit: WaitLimit = WaitLimit(),  # noqa: B008 - a frozen value
    run: Run | None = None,
    workers: int = 8,
) -> bool:
    """Carry out all the work; return whether the run ended without a stop."""
    try:
        WorkQueue(works, run or Run(), now, wait_limit, workers=workers).carry_out()
    except Interrupted:
        return False
    return True


def done() -> None:
    """Leave no work."""


def shortly() -> timedelta:
    return timedelta(milliseconds=5)


def test_a_clock_that_is_set_back_holds_up_no_pass() -> None:
    """The machine's clock goes back an hour during a wait: the next pass comes at the end of the
    pause.
    """
    set_back = timedelta(0)

    def wall() -> datetime:
        return now() - set_back

    class Wanderer:
        count = 0

        def reconcile(self) -> Waiting | None:
            nonlocal set_back
            self.count += 1
            if self.count > 1:
                return None
            moment = wall()
            threading.Timer(0.02, adjust).start()
            return Waiting(Text("…"), moment, moment + timedelta(milliseconds=60))

    def adjust() -> None:
        nonlocal set_back
        set_back = timedelta(hours=1)

    work = Wanderer()
    begun = time.monotonic()

    WorkQueue([work], Run(), wall).carry_out()

    assert 2 == work.count
    assert time.monotonic() - begun < 30


jumps = st.lists(
    st.tuples(st.floats(0.01, 0.5), st.integers(-200_000, 200_000)), min_size=1, max_size=4
)


@given(jumps)
@settings(max_examples=examples(8))
@example([(0.1, -600)])
@example([(0.1, 600)])
def test_no_wait_depends_on_the_settings_of_the_machines_time(
    jumps: list[tuple[float, int]],
) -> None:
    """The machine's clock jumps at any moment of a change at a CDN: the run ends soon after the
    change, with the usual writes.
    """
    begun = time.monotonic()

    def machine() -> datetime:
        since = time.monotonic() - begun
        return now() + timedelta(seconds=sum(by for at, by in jumps if at <= since))

    many = ManyCertificates(1, processing=timedelta(milliseconds=300))
    run = Run(machine=machine)

    ports = replace(many.ports(), now=run.now, run=run)
    report = Reconciler(ports).sync(many.certificates, WaitLimit(timedelta(minutes=10)))

    assert time.monotonic() - begun < 30
    assert report.has_succeeded
    assert 1 == many.cdn.writes


def test_each_is_passed_until_it_waits_for_nothing() -> None:
    """A run ends when the last pass waits for nothing."""
    runs = [Passes(shortly, shortly, done), Passes(done)]

    assert carry_out(*runs)
    assert [3, 1] == [run.count for run in runs]


def test_hundred_waiting_lineages_hold_no_thread() -> None:
    """While a hundred lineages wait, a pass gets a thread at once."""
    waiting = [Passes(lambda: timedelta(milliseconds=300), done) for _ in range(100)]
    threads: list[int] = []

    def count() -> None:
        threads.append(threading.active_count())

    before = threading.active_count()
    assert carry_out(*waiting, Passes(shortly, count), workers=2)

    assert all(2 == run.count for run in waiting)
    assert max(threads) <= before + 2


def test_no_more_at_once_than_workers() -> None:
    """Concurrency is bounded."""
    inside = threading.Semaphore(2)
    crowded = threading.Event()

    def work() -> None:
        if not inside.acquire(blocking=False):
            crowded.set()
            return
        threading.Event().wait(0.01)
        inside.release()

    assert carry_out(*(Passes(work) for _ in range(12)), workers=2)
    assert not crowded.is_set()


def test_eight_work_side_by_side() -> None:
    """Eight passes that need one another can meet."""
    meeting = threading.Barrier(8, timeout=20)

    def meet() -> None:
        meeting.wait()

    assert carry_out(*(Passes(meet) for _ in range(8)))


def test_without_patience_each_is_passed_once() -> None:
    """`--no-wait` submits, and leaves the rest to the next run."""
    run = Passes(shortly, done)

    assert carry_out(run, wait_limit=WaitLimit(timedelta(0)))
    assert 1 == run.count


def test_patience_ends_where_it_was_reported_to() -> None:
    """`--wait` returns only to work that is due within its bound."""
    patient = Passes(shortly, done)
    late = Passes(lambda: timedelta(hours=1), done)

    assert carry_out(patient, late, wait_limit=WaitLimit(timedelta(minutes=1)))
    assert [2, 1] == [patient.count, late.count]


def test_stopped_run_asks_the_others_to_stop_and_waits_for_them() -> None:
    """A stopped run says so, and every pass in progress comes to its own end."""
    run, ended = Run(), list[bool]()

    def long_work() -> None:
        with pytest.raises(Interrupted):
            run.pause(20)
        ended.append(run.is_stopped)
        raise Interrupted(Text("stopped"))

    def interrupted() -> None:
        raise Interrupted(Text("stopped"))

    runs = [Passes(long_work), Passes(interrupted)]
    assert not carry_out(*runs, run=run)
    assert [True] == ended


def test_a_wait_ends_while_another_pass_goes_on() -> None:
    """The first pass's thread is at another lineage: one more thread starts."""
    looked_again = threading.Event()

    def look_again() -> None:
        looked_again.set()

    def go_on() -> None:
        assert looked_again.wait(timeout=30)

    assert carry_out(Passes(shortly, look_again), Passes(go_on), workers=2)


@dataclass(eq=False)
class Traced:
    """Work that notes each pass; `overdue` has the delay of each later pass in seconds."""

    trace: list[Traced]
    overdue: list[int]
    passes: int = 0

    def reconcile(self) -> Waiting | None:
        """Make a pass; return the moment of the next one."""
        self.trace.append(self)
        self.passes += 1
        if self.passes > len(self.overdue):
            return None
        moment = now() - timedelta(seconds=self.overdue[self.passes - 1])
        return Waiting(Text("…"), moment, moment)


HOUR = -3600
overdue = st.lists(st.lists(st.integers(0, 900), max_size=4), min_size=1, max_size=12)


@given(overdue)
def test_first_passes_and_later_ones_take_turns(pauses: list[list[int]]) -> None:
    """While both kinds are due, they alternate; and all work is done."""
    trace: list[Traced] = []
    works = [Traced(trace, each) for each in pauses]
    carry_out(*works, workers=1)

    passes, new, waiting, was_again = Counter[Traced](), len(works), 0, False
    for work in trace:
        is_again = work in passes
        assert is_again is (waiting > 0 and not (new and was_again))
        passes[work] += 1
        new -= not is_again
        waiting += (passes[work] <= len(work.overdue)) - is_again
        was_again = is_again
    assert [len(each) + 1 for each in pauses] == [work.passes for work in works]


@given(overdue)
def test_first_passes_are_made_in_order(pauses: list[list[int]]) -> None:
    """First passes keep the order of the work, with later passes between them."""
    trace: list[Traced] = []
    works = [Traced(trace, each) for each in pauses]
    carry_out(*works, workers=1)

    assert works == list(dict.fromkeys(trace))


@given(st.lists(st.integers(1, 900), min_size=1, max_size=12, unique=True))
def test_what_has_been_due_for_longest_comes_first(pauses: list[int]) -> None:
    """The rule holds for work after its first pass."""
    trace: list[Traced] = []
    works = [Traced(trace, [each]) for each in pauses]
    carry_out(*works, workers=1)

    waiting: list[Traced] = []
    for work in trace:
        if work in waiting:
            assert work is max(waiting, key=lambda candidate: candidate.overdue)
            waiting.remove(work)
        else:
            waiting.append(work)


@given(st.lists(st.lists(st.sampled_from([0, HOUR]), max_size=4), min_size=1, max_size=12))
def test_run_comes_back_to_nothing_that_is_due_after_its_limit(pauses: list[list[int]]) -> None:
    """Each lineage has its passes up to the first late wait."""
    works = [Traced([], each) for each in pauses]
    assert carry_out(*works, wait_limit=WaitLimit(timedelta(minutes=1)))

    assert [[*each, HOUR].index(HOUR) + 1 for each in pauses] == [work.passes for work in works]


def test_first_mistake_of_a_pass_ends_the_run() -> None:
    """The error is raised in the caller, and no further lineage gets a pass."""
    begun = threading.Event()

    def fail() -> None:
        begun.set()
        raise ZeroDivisionError

    later = Passes(lambda: timedelta(hours=1), done)
    with pytest.raises(ZeroDivisionError):
        carry_out(Passes(fail), later)
    assert begun.is_set()
    assert later.count <= 1


# # --- Several runs in one process: in turn, at once, and stopped separately


AT_ONCE = 1.0
"""The seconds in which a stopped run ends."""

LONG = timedelta(minutes=2)


def engine(many: ManyCertificates, run: Run) -> Reconciler:
    return Reconciler(replace(many.ports(), run=run))


def begin(many: ManyCertificates, run: Run, number: int) -> SyncReport:
    return engine(many, run).sync(many.certificates[number : number + 1], WaitLimit())


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_waiting(many: ManyCertificates, number: int) -> bool:
    state, desired = many.state, many.certificates[number]
    return any(one.accepted_at for one in state.remembered(desired.lineage).rollouts)


def ended(future: Future[SyncReport], begun: float) -> SyncReport:
    """Return the report of a run that has to end soon after its stop."""
    report = future.result(timeout=30)
    assert time.monotonic() - begun < AT_ONCE
    return report


def test_runs_follow_one_another() -> None:
    """A stop of the first run leaves the next alone, over the same accounts and state."""
    many = ManyCertificates(1)
    first, second = Run(), Run()
    first.stop()

    assert not begin(many, first, 0).complete
    report = begin(many, second, 0)

    assert report.complete
    assert report.ok


def test_a_stop_from_another_thread_ends_a_run_that_waits() -> None:
    """A run that would wait two minutes for the CDN ends within a second of the stop; another run
    with another certificate goes on to its end.
    """
    many, slow, quick = ManyCertificates(2, processing=LONG), Run(), Run()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(begin, many, slow, 0)
        other = pool.submit(begin, many, quick, 1)
        until(lambda: is_waiting(many, 0) and is_waiting(many, 1))
        begun = time.monotonic()
        slow.stop()

        report = ended(waiting, begun)

        assert not report.complete
        assert report.any(Outcome.WAITING)
        assert not other.done()
        assert not quick.is_stopped
        quick.stop()
        assert not other.result(timeout=30).complete


def test_two_runs_at_once_do_their_own_work() -> None:
    """Each run issues and serves its certificate, and has its own listener."""
    many = ManyCertificates(2)
    heard: dict[int, list[object]] = {0: [], 1: []}
    meeting = threading.Barrier(2, timeout=30)

    def make(number: int) -> SyncReport:
        meeting.wait()
        ports = replace(many.ports(), run=Run(), progress=heard[number].append)
        all_desired = many.certificates[number : number + 1]
        return Reconciler(ports).sync(all_desired, WaitLimit())

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(make, range(2)))

    assert all(report.ok for report in reports)
    assert [{desired.lineage} for desired in many.certificates] == [
        {event.lineage for event in heard[number] if hasattr(event, "lineage")}
        for number in range(2)
    ]


def test_a_stop_ends_the_pause_before_a_retry() -> None:
    """A scheduled run pauses for a minute after a failure; a stop ends the run at once."""
    many, run = ManyCertificates(1), Run()
    many.issuer.fail_with(OrderFailed(Text("the CA refused")))
    retrying = ScheduledRun(partial(engine, many, run), run.pause, WaitLimit())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(retrying.sync, many.certificates)
        until(lambda: many.state.remembered(many.certificates[0].lineage).issue_tries == 1)
        time.sleep(0.1)
        begun = time.monotonic()
        run.stop()

        assert not ended(waiting, begun).complete


def test_a_stop_ends_a_plan_whose_target_hangs() -> None:
    """A plan needs no clean-up: the hanging call is left."""
    many, run, hanging = ManyCertificates(1), Run(), threading.Event()
    is_asked = threading.Event()

    class Hanging:
        def observe(self, _scope: object) -> None:
            is_asked.set()
            hanging.wait(30)

    ports = replace(many.ports(), run=run, targets={"cdn": Hanging()})  # type: ignore[dict-item]  # by name

    def stop() -> None:
        is_asked.wait(30)
        run.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    begun = time.monotonic()

    with pytest.raises(Interrupted):
        plans_of(ports, many.certificates)

    assert time.monotonic() - begun < 10
    hanging.set()
    stopping.join()
