"""When each lineage is visited. One that waits is a row in a heap, and holds no thread.

Waits are counted in seconds of a clock that never goes back: a machine's time that is set back an
hour must not stop the visits for an hour.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from certferry.core.waiting import Waiting
from certferry.errors import Interrupted
from certferry.reconcile.lineage_run import LineageRun

WORKERS = 8

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
        self._finished: queue.SimpleQueue[tuple[LineageRun, Future[Waiting | None]]] = (
            queue.SimpleQueue()
        )
        self._workers = workers
        self._busy = 0

    def carry_out(self) -> bool:
        """Visit until nothing is left; tell whether it ran to its end, or was stopped.

        On Ctrl-C the visits under way are asked to stop, and have a moment: each leaves its
        challenge records removed and its lease given back, unless it hangs.
        """
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="visit")
        try:
            while self._heap or self._busy:
                self._begin_due(pool)
                self._await_one()
        except (KeyboardInterrupt, Interrupted):
            self._stop()
            self._await_stopped()
            pool.shutdown(wait=False, cancel_futures=True)
            return False
        except BaseException:
            pool.shutdown()
            raise
        pool.shutdown()
        return True

    def _await_stopped(self) -> None:
        """Wait until the visits under way have ended, or should have."""
        until = time.monotonic() + STOPPING.total_seconds()
        with contextlib.suppress(queue.Empty):
            while self._busy:
                self._finished.get(timeout=max(until - time.monotonic(), 0))
                self._busy -= 1

    def _begin_due(self, pool: ThreadPoolExecutor) -> None:
        while self._busy < self._workers and self._heap and self._heap[0].at <= time.monotonic():
            run = heapq.heappop(self._heap).run
            self._busy += 1
            visit = pool.submit(run.visit)
            visit.add_done_callback(partial(self._end, run))

    def _end(self, run: LineageRun, visit: Future[Waiting | None]) -> None:
        self._finished.put((run, visit))

    def _await_one(self) -> None:
        """Wait until a visit ends or the next one is due, whichever comes first."""
        timeout = None
        if self._heap and self._busy < self._workers:
            timeout = max(self._heap[0].at - time.monotonic(), 0)
        try:
            run, visit = self._finished.get(timeout=timeout)
        except queue.Empty:
            return
        self._busy -= 1
        waiting = visit.result()
        if waiting is None:
            self._ended(run)
            return
        at = time.monotonic() + (waiting.until - self._now()).total_seconds()
        if self._patience.allows(at - self._begun):
            heapq.heappush(self._heap, _Due(at, next(self._numbers), run))
