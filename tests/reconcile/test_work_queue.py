"""When work is taken up: concurrently, bounded, without holding threads, until stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from certferry.core.waiting import Waiting
from certferry.errors import Interrupted
from certferry.reconcile.run import Run
from certferry.reconcile.work_queue import WaitLimit, WorkQueue
from certferry.text import Text


def now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


class Passes:
    """Work: what each of its passes does is given."""

    def __init__(self, *visits: Callable[[], timedelta | None]) -> None:
        self._visits = iter(visits)
        self.count = 0

    def reconcile(self) -> Waiting | None:
        """Do the next thing; wait as long as it says."""
        self.count += 1
        pause = next(self._visits)()
        moment = now()
        return None if pause is None else Waiting(Text("…"), moment, moment + pause)


def carry_out(
    *works: Passes,
    wait_limit: WaitLimit = WaitLimit(),  # noqa: B008 - a frozen value
    run: Run | None = None,
    workers: int = 8,
) -> bool:
    """Carry them all out; return whether that was not stopped."""
    try:
        WorkQueue(works, run or Run(), now, wait_limit, workers=workers).carry_out()
    except Interrupted:
        return False
    return True


def done() -> None:
    """Nothing is left."""


def shortly() -> timedelta:
    """Come back soon."""
    return timedelta(milliseconds=5)


def test_a_clock_that_is_set_back_holds_up_no_visit() -> None:
    """The machine's time goes back an hour while a lineage waits: it is visited when its pause is
    over.
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


def test_each_is_visited_until_it_waits_for_nothing() -> None:
    """A run ends when its last visit has nothing to wait for."""
    runs = [Passes(shortly, shortly, done), Passes(done)]

    assert carry_out(*runs)
    assert [3, 1] == [run.count for run in runs]


def test_hundred_waiting_lineages_hold_no_thread() -> None:
    """While a hundred wait, a visit that needs a thread gets one at once."""
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
    """Eight that need each other can meet."""
    meeting = threading.Barrier(8, timeout=20)

    def meet() -> None:
        meeting.wait()

    assert carry_out(*(Passes(meet) for _ in range(8)))


def test_without_patience_each_is_visited_once() -> None:
    """`--no-wait` submits and leaves the rest to the next run."""
    run = Passes(shortly, done)

    assert carry_out(run, wait_limit=WaitLimit(timedelta(0)))
    assert 1 == run.count


def test_patience_ends_where_it_was_told_to() -> None:
    """`--wait` comes back only to what is due within its bound."""
    patient = Passes(shortly, done)
    late = Passes(lambda: timedelta(hours=1), done)

    assert carry_out(patient, late, wait_limit=WaitLimit(timedelta(minutes=1)))
    assert [2, 1] == [patient.count, late.count]


def test_stopped_run_asks_the_others_to_stop_and_waits_for_them() -> None:
    """A run that is stopped tells so, and every visit under way comes to its own end."""
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


def test_a_wait_ends_while_another_visit_goes_on() -> None:
    """The thread that made the first visit is at another lineage by then: one more thread comes."""
    looked_again = threading.Event()

    def look_again() -> None:
        looked_again.set()

    def go_on() -> None:
        assert looked_again.wait(timeout=30)

    assert carry_out(Passes(shortly, look_again), Passes(go_on), workers=2)


def test_first_mistake_of_a_visit_ends_the_run() -> None:
    """It is raised where the run was begun, and no further lineage is visited."""
    begun = threading.Event()

    def fail() -> None:
        begun.set()
        raise ZeroDivisionError

    later = Passes(lambda: timedelta(hours=1), done)
    with pytest.raises(ZeroDivisionError):
        carry_out(Passes(fail), later)
    assert begun.is_set()
    assert later.count <= 1
