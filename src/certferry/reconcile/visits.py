"""When each lineage is visited. One that waits is a row in a heap, and holds no thread.

Waits are counted in seconds of a clock that never goes back: a machine's time that is set back an
hour must not stop the visits for an hour.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certferry.core.waiting import Waiting
from certferry.errors import Interrupted
from certferry.reconcile.lineage_run import LineageRun

WORKERS = 8

STALLED = 0.005
"""Seconds without the end of a visit after which another thread visits as well. Where nothing is
waited for, one alone is fastest: threads that compute only take turns. A fixed pool is simpler, and
took 10 to 20 % more processor time for 500 certificates with nothing to do (`benchmarks.sync`).
"""

STOPPING = timedelta(seconds=4)
"""How long the visits of a run that is stopped are waited for."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a run comes back to what waits. `None`: until it has succeeded or failed."""

    limit: timedelta | None = None

    def allows(self, until: float) -> bool:
        """Tell whether a look so many seconds after the run's beginning still lies within it."""
        return self.limit is None or until <= self.limit.total_seconds()


@dataclass(order=True, slots=True)
class _Due:
    at: float
    number: int
    run: LineageRun = field(compare=False)


class Visits:
    """Visits lineages, at most `workers` at a time, until none waits any longer. `now` is the clock
    by which they say until when they wait. What is not visited again is told to `ended`, unless it
    waits still.
    """

    def __init__(
        self,
        runs: Iterable[LineageRun],
        patience: Patience,
        now: Callable[[], datetime],
        *,
        stop: Callable[[], None],
        ended: Callable[[LineageRun], None] = lambda _: None,
        workers: int = WORKERS,
    ) -> None:
        self._patience = patience
        self._now = now
        self._stop = stop
        self._ended = ended
        self._begun = time.monotonic()
        self._numbers = itertools.count()
        self._heap = [_Due(self._begun, next(self._numbers), run) for run in runs]
        self._workers = workers
        self._changed = threading.Condition()
        self._busy = 0
        self._visited = 0
        self._is_over = False
        self._problem: BaseException | None = None

    def carry_out(self) -> bool:
        """Visit until nothing is left; tell whether it ran to its end, or was stopped.

        On Ctrl-C the visits under way are asked to stop, and have a moment: each leaves its
        challenge records removed and its lease given back, unless it hangs.
        """
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="visit")
        try:
            with self._changed:
                while self._heap or self._busy:
                    self._await_need(pool)
        except (KeyboardInterrupt, Interrupted):
            self._stop()
            self._await_stopped()
            pool.shutdown(wait=False, cancel_futures=True)
            return False
        except BaseException:
            self._is_over = True
            pool.shutdown()
            raise
        pool.shutdown()
        return True

    def _await_stopped(self) -> None:
        """Wait until the visits under way have ended, or should have."""
        with self._changed:
            self._is_over = True
            self._changed.wait_for(lambda: not self._busy, STOPPING.total_seconds())

    def _await_need(self, pool: ThreadPoolExecutor) -> None:
        """Wait until a visit is due that no thread takes on, and have one take it on."""
        visited = self._visited
        self._changed.wait(self._until_needed())
        if self._problem is not None:
            raise self._problem
        is_stalled = not self._busy or self._visited == visited
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
        """Visit what is due, one after another, until nothing is."""
        try:
            while (run := self._next_due()) is not None:
                waiting = run.visit()
                if waiting is None:
                    self._ended(run)
                self._note_visit(run, waiting)
        except BaseException as problem:  # noqa: BLE001 - raised in the thread that waits
            self._problem = self._problem or problem
        with self._changed:
            self._busy -= 1
            self._changed.notify()

    def _next_due(self) -> LineageRun | None:
        with self._changed:
            is_wanted = self._is_due() and not self._is_over
            return heapq.heappop(self._heap).run if is_wanted else None

    def _note_visit(self, run: LineageRun, waiting: Waiting | None) -> None:
        with self._changed:
            self._visited += 1
            if waiting is None:
                return
            at = time.monotonic() + (waiting.until - self._now()).total_seconds()
            if self._patience.allows(at - self._begun):
                heapq.heappush(self._heap, _Due(at, next(self._numbers), run))
                self._changed.notify()  # it may be due before what is waited for
