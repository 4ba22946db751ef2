"""When each piece of work is taken up. One that waits is a row in a heap, and holds no thread.

Waits are counted in seconds of a clock that never goes back: a machine's time that is set back an
hour must not stop the work for an hour.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from certferry.core.waiting import Waiting
from certferry.reconcile.run import Run, stopped

S = TypeVar("S")
T = TypeVar("T")

WORKERS = 8

STALLED = 0.005
"""Seconds without the end of a pass after which another thread works as well. Where nothing is
waited for, one alone is fastest: threads that compute only take turns. A fixed pool is simpler, and
took 10 to 20 % more processor time for 500 certificates with nothing to do (`benchmarks.sync`).
"""

STOPPING = timedelta(seconds=4)
"""How long a stopped run waits for the passes in progress: each removes its challenge records and
gives its lease back, unless it hangs.
"""


@dataclass(frozen=True, slots=True)
class WaitLimit:
    """How long a run keeps polling pending work. `None`: until it has succeeded or failed."""

    limit: timedelta | None = None

    def allows(self, until: float) -> bool:
        """Return whether so many seconds after the run's beginning lie within it."""
        return self.limit is None or until <= self.limit.total_seconds()


class Work(Protocol):
    """What is taken up again and again, until it waits for nothing."""

    def reconcile(self) -> Waiting | None:
        """Make one pass; return the wait before the next one, `None` after the last."""


W = TypeVar("W", bound=Work)


@dataclass(order=True, slots=True)
class _Due(Generic[W]):
    at: float
    number: int
    work: W = field(compare=False)


class WorkQueue(Generic[W]):
    """Takes up work, at most `workers` at a time, until none waits any longer. By the clock `now` a
    pass says until when it waits. `ended` is called with what has made its last pass.
    """

    def __init__(
        self,
        works: Iterable[W],
        run: Run,
        now: Callable[[], datetime],
        limit: WaitLimit = WaitLimit(),
        *,
        ended: Callable[[W], None] = lambda _: None,
        workers: int = WORKERS,
        stopping: timedelta = STOPPING,
    ) -> None:
        self._run = run
        self._now = now
        self._limit = limit
        self._ended = ended
        self._begun = time.monotonic()
        self._numbers = itertools.count()
        self._heap = [_Due(self._begun, next(self._numbers), work) for work in works]
        self._workers = workers
        self._stopping = stopping.total_seconds()
        self._changed = threading.Condition()
        self._busy = 0
        self._passes = 0
        self._is_over = False
        self._problem: BaseException | None = None

    def carry_out(self) -> None:
        """Work until nothing is due any more. Raises `Interrupted`, or `KeyboardInterrupt`, when
        the run was stopped before that, by any thread or by Ctrl-C, and whatever a pass raises.
        """
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="pass")
        try:
            with self._run.waking(self._wake), self._changed:
                while self._heap or self._busy:
                    self._await_need(pool)
        except BaseException:
            self._run.stop()
            with self._changed:
                self._is_over = True
                self._changed.wait_for(lambda: not self._busy, self._stopping)
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _await_need(self, pool: ThreadPoolExecutor) -> None:
        """Wait for due work without a worker, then start one."""
        if self._run.is_stopped:
            raise stopped()
        passes = self._passes
        self._changed.wait(self._until_needed())
        if self._problem is not None:
            raise self._problem
        is_stalled = not self._busy or self._passes == passes
        if self._is_due() and is_stalled and self._busy < self._workers:
            self._busy += 1
            pool.submit(self._work)

    def _until_needed(self) -> float | None:
        if not self._heap or self._busy == self._workers:
            return None
        until = max(self._heap[0].at - time.monotonic(), 0)
        return max(until, STALLED) if self._busy else until

    def _is_due(self) -> bool:
        return bool(self._heap) and self._heap[0].at <= time.monotonic()

    def _work(self) -> None:
        """Take up what is due, one after another, until nothing is."""
        try:
            while (work := self._next_due()) is not None:
                waiting = work.reconcile()
                if waiting is None:
                    self._ended(work)
                self._note_pass(work, waiting)
        except BaseException as problem:  # noqa: BLE001 - raised in the thread that waits
            self._problem = self._problem or problem
        with self._changed:
            self._busy -= 1
            self._changed.notify()

    def _next_due(self) -> W | None:
        with self._changed:
            is_wanted = self._is_due() and not self._is_over
            return heapq.heappop(self._heap).work if is_wanted else None

    def _note_pass(self, work: W, waiting: Waiting | None) -> None:
        with self._changed:
            self._passes += 1
            if waiting is None:
                return
            at = time.monotonic() + (waiting.until - self._now()).total_seconds()
            if self._limit.allows(at - self._begun):
                heapq.heappush(self._heap, _Due(at, next(self._numbers), work))
                self._changed.notify()  # it may be due before what is waited for


def aside(work: Callable[[], T], name: str | None = None) -> Future[T]:
    """Begin work in a thread of its own, and return what it will come to. What hangs there is left
    to itself by a caller that has a deadline, and keeps no process.
    """
    coming: Future[T] = Future()

    def carry_out() -> None:
        try:
            coming.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the caller asks for the result
            coming.set_exception(error)

    threading.Thread(target=carry_out, name=name, daemon=True).start()
    return coming


class _Reading(Generic[S, T]):
    """Work of one pass that changes nothing."""

    def __init__(self, read: Callable[[S], T], subject: S) -> None:
        self._read = read
        self._subject = subject

    def reconcile(self) -> None:
        """Read."""
        self.found = self._read(self._subject)


def side_by_side(read: Callable[[S], T], subjects: Sequence[S], run: Run) -> list[T]:
    """Return what `read` finds of each subject, read some at a time; it changes nothing, so that
    those that hang when the run is stopped are left. Raises what `read` raises, and `Interrupted`.
    """
    readings = [_Reading(read, subject) for subject in subjects]
    WorkQueue(readings, run, datetime.now, stopping=timedelta(0)).carry_out()
    return [one.found for one in readings]
