"""Observe services for pages such as the plan, discover and doctor. An observation may take
minutes, so it runs in a background thread, once for all visitors. A page shows the last result,
with its time.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

from msgspec import Struct

from certferry.core.assessment.settled import Seen
from certferry.core.assessment.sightings import Place
from certferry.core.events import Begun, Event, LineageEnded
from certferry.errors import CertferryError, Problem
from certferry.ports.progress import Progress
from certferry.reconcile.run import in_thread
from certferry.text import Text
from certferry.values import replace

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

FRESH = timedelta(minutes=1)
"""The age up to which a result is current. The first request after that starts another observation.
"""

AT_ONCE = 4
"""The most observations at once, each in a thread: a program that opens a thousand pages must not
start a thousand threads.
"""

_log = logging.getLogger(__name__)


class Found(Struct, Generic[T], frozen=True):
    """The last result of a kind of observation, and the progress of an observation of this kind."""

    #: The last successful result; `None` before the first success.
    value: T | None = None
    #: The moment when `value` was observed.
    at: datetime | None = None
    #: The start of the observation now in progress; `None` if there is none.
    since: datetime | None = None
    #: The failure of the last observation; `None` if the last observation succeeded.
    problem: Problem | None = None
    #: The end of the last observation, failed or not; `None` if the result counts as old.
    tried_at: datetime | None = None
    #: The number of certificates observed so far by the observation in progress, if counted.
    done: int = 0
    #: The number of all certificates to observe, if counted.
    count: int = 0

    @property
    def is_being_observed(self) -> bool:
        """Whether an observation is in progress."""
        return self.since is not None


@dataclass(eq=False)
class Observer:
    """Observes in the background, and keeps the last result of each kind. Safe to use from any
    thread.
    """

    #: Returns the time by the machine's clock.
    now: Callable[[], datetime]
    #: The last result, by kind.
    _known: dict[Hashable, Found[object]] = field(default_factory=dict)
    #: Guards all other fields.
    _guard: threading.Lock = field(default_factory=threading.Lock)
    #: The number of calls of `forget` and `outdate`. The result of an observation that was
    #: requested before the last call counts as old.
    _times_forgotten: int = 0
    #: Observations that still wait for a thread.
    _waiting: deque[Callable[[], None]] = field(default_factory=deque)
    #: The number of threads that observe now.
    _workers: int = 0

    def latest(self, kind: Hashable, observe: Callable[[], T], *, anew: bool = False) -> Found[T]:
        """Return the last result of a kind. If the result is old, or if `anew` is true, start an
        observation by `observe` in the background, unless one of this kind is in progress.
        """
        with self._guard:
            latest: Found[T] = self._known.get(kind, Found())  # type: ignore[assignment]  # by kind
            now = self.now()
            is_old = latest.tried_at is None or now - latest.tried_at > FRESH
            if latest.is_being_observed or not (is_old or anew):
                return latest
            latest = replace(latest, since=now)
            self._known[kind] = latest  # type: ignore[assignment]  # by kind
            self._waiting.append(partial(self._observe, kind, observe, self._times_forgotten))
            is_worker_needed = self._workers < AT_ONCE
            self._workers += is_worker_needed
        if is_worker_needed:
            in_thread(self._work, "observing")
        return latest

    def _work(self) -> None:
        """Carry out waiting observations until none waits."""
        while True:
            with self._guard:
                if not self._waiting:
                    self._workers -= 1
                    return
                observe = self._waiting.popleft()
            observe()

    def known(self, kind: Hashable) -> Found[object]:
        """Return the last result of a kind, and start no observation."""
        with self._guard:
            return self._known.get(kind, Found())

    def counter(self, kind: Hashable) -> Progress:
        """Return a listener for the events of a run that observes for this kind. The listener
        counts the finished certificates in `Found.done`, and all certificates in `Found.count`.
        """

        def count(event: Event) -> None:
            if isinstance(event, Begun | LineageEnded):
                with self._guard:
                    latest = self._known.get(kind, Found())
                    if isinstance(event, Begun):
                        latest = replace(latest, done=0, count=event.count)
                    else:
                        latest = replace(latest, done=latest.done + 1)
                    self._known[kind] = latest

        return count

    def keep(self, kind: Hashable, value: object) -> None:
        """Store a result that was obtained elsewhere, as observed now."""
        with self._guard:
            now = self.now()
            self._known[kind] = Found(value, now, tried_at=now)

    def forget(self) -> None:
        """Forget every result, because the settings have changed.

        The entry of an observation in progress stays until the observation ends. The result of this
        observation counts as old, because it may have begun before the change, so the first request
        after its end starts another observation.
        """
        with self._guard:
            self._times_forgotten += 1
            self._known = {
                kind: result for kind, result in self._known.items() if result.is_being_observed
            }

    def outdate(self) -> None:
        """Mark every result as old, because a run may have changed something. The result of an
        observation in progress counts as old too. Pages show an old result, with its age, until the
        next observation ends.
        """
        with self._guard:
            self._times_forgotten += 1
            self._known = {
                kind: replace(result, tried_at=None) for kind, result in self._known.items()
            }

    def _observe(self, kind: Hashable, observe: Callable[[], object], times_forgotten: int) -> None:
        problem = None
        value: object | None = None
        try:
            value = observe()
        except CertferryError as error:
            problem = error.problem()
        except Exception:  # noqa: BLE001 - otherwise the observation would seem to go on for ever
            _log.exception(Text("unexpected error"))
            message = Text("a bug in certferry; its log has the traceback")
            problem = Problem("unexpected", message)
        with self._guard:
            before = self._known.get(kind, Found())
            now = self.now()
            tried_at = now if times_forgotten == self._times_forgotten else None
            if problem is None:
                self._known[kind] = Found(value, now, tried_at=tried_at)
            else:
                self._known[kind] = Found(before.value, before.at, None, problem, tried_at)


class SeenPlaces:
    """The last result at each place that a page observed, in memory. Safe to use from any
    thread.
    """

    def __init__(self) -> None:
        self._seen: dict[Place, Seen] = {}
        self._guard = threading.Lock()

    def add(self, seen: Iterable[tuple[Place, Seen]]) -> None:
        """Keep results. At each place, the latest observation counts."""
        with self._guard:
            for place, result in seen:
                before = self._seen.get(place)
                if before is None or before.at <= result.at:
                    self._seen[place] = result

    def settled_since(self, moment: datetime | None) -> dict[Place, Seen]:
        """Return the places found in order by an observation that began after `moment`."""
        with self._guard:
            return {
                place: seen
                for place, seen in self._seen.items()
                if seen.is_in_order and (moment is None or seen.at > moment)
            }

    def forget(self) -> None:
        """Forget every result, because the settings have changed."""
        with self._guard:
            self._seen.clear()


class Recent(Generic[K, V]):
    """Keeps the values added last, up to a number. Safe to use from any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()
        self._guard = threading.Lock()

    def add(self, key: K, value: V) -> None:
        """Keep a value. Above the limit, drop the value that was added earliest."""
        with self._guard:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)

    def get(self, key: K) -> V | None:
        """Return the value of a key; `None` if the value was never added, or was dropped."""
        with self._guard:
            return self._values.get(key)
