"""Several runs in one process: one after the other, at once, and each stopped by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from certferry.core.planning.report import Outcome, SyncReport
from certferry.errors import Interrupted, OrderFailed
from certferry.reconcile.reconciler import Reconciler, ScheduledRun
from certferry.reconcile.run import Run
from certferry.reconcile.status import plans_of
from certferry.reconcile.work_queue import WaitLimit
from certferry.text import Text
from tests.reconcile.company import Company

AT_ONCE = 1.0
"""Seconds within which a run ends that is stopped."""

LONG = timedelta(minutes=2)


def engine(company: Company, run: Run) -> Reconciler:
    """The engine as one run has it."""
    return Reconciler(replace(company.ports(), run=run))


def begin(company: Company, run: Run, number: int) -> SyncReport:
    """Make a run for one certificate."""
    return engine(company, run).sync(company.certificates[number : number + 1], WaitLimit())


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_waiting(company: Company, number: int) -> bool:
    """Whether the change of a certificate's domain was asked for."""
    state, wish = company.state, company.certificates[number]
    return any(one.accepted_at for one in state.remembered(wish.lineage).rollouts)


def ended(future: Future[SyncReport], begun: float) -> SyncReport:
    """The report of a run that has to end soon after it was stopped."""
    report = future.result(timeout=30)
    assert time.monotonic() - begun < AT_ONCE
    return report


def test_runs_follow_one_another() -> None:
    """The stop of one is none of the next, over the same accounts and state."""
    company = Company(1)
    first, second = Run(), Run()
    first.stop()

    assert not begin(company, first, 0).complete
    report = begin(company, second, 0)

    assert report.complete
    assert report.ok


def test_a_stop_from_another_thread_ends_a_run_that_waits() -> None:
    """It waits for two minutes at the CDN; stopped, it ends within a second, and the other run, at
    work on another certificate meanwhile, goes on to its end.
    """
    company, slow, quick = Company(2, processing=LONG), Run(), Run()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(begin, company, slow, 0)
        other = pool.submit(begin, company, quick, 1)
        until(lambda: is_waiting(company, 0) and is_waiting(company, 1))
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
    """Each has its certificate issued and served, and its own listener."""
    company = Company(2)
    heard: dict[int, list[object]] = {0: [], 1: []}
    meeting = threading.Barrier(2, timeout=30)

    def make(number: int) -> SyncReport:
        meeting.wait()
        ports = replace(company.ports(), run=Run(), progress=heard[number].append)
        wishes = company.certificates[number : number + 1]
        return Reconciler(ports).sync(wishes, WaitLimit())

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(make, range(2)))

    assert all(report.ok for report in reports)
    assert [{wish.lineage} for wish in company.certificates] == [
        {event.lineage for event in heard[number] if hasattr(event, "lineage")}
        for number in range(2)
    ]


def test_a_stop_ends_the_pause_before_a_retry() -> None:
    """A scheduled run waits a minute after a failure; stopped, it ends at once."""
    company, run = Company(1), Run()
    company.issuer.fail_with(OrderFailed(Text("the CA refused")))
    retrying = ScheduledRun(partial(engine, company, run), run.pause, WaitLimit())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(retrying.sync, company.certificates)
        until(lambda: company.state.remembered(company.certificates[0].lineage).issue_tries == 1)
        time.sleep(0.1)
        begun = time.monotonic()
        run.stop()

        assert not ended(waiting, begun).complete


def test_a_stop_ends_a_plan_whose_target_hangs() -> None:
    """Nothing has to be cleaned up after it: what hangs is left."""
    company, run, hanging = Company(1), Run(), threading.Event()
    is_asked = threading.Event()

    class Hanging:
        def observe(self, _scope: object) -> None:
            is_asked.set()
            hanging.wait(30)

    ports = replace(company.ports(), run=run, targets={"cdn": Hanging()})  # type: ignore[dict-item]  # by name

    def stop() -> None:
        is_asked.wait(30)
        run.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    begun = time.monotonic()

    with pytest.raises(Interrupted):
        plans_of(ports, company.certificates)

    assert time.monotonic() - begun < 10
    hanging.set()
    stopping.join()
