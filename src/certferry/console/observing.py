"""What is observed for a page outside the state: a plan, discover, doctor. It asks services, which
may take minutes, so that no page waits for it: it goes on in a thread of its own, once for all who
ask, and a page shows what was found last, and when.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

from certferry.core.events import Begun, Event, LineageEnded
from certferry.errors import CertferryError, Problem
from certferry.ports.progress import Progress
from certferry.reconcile.run import aside
from certferry.text import Text

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

FRESH = timedelta(minutes=1)
"""For how long what was found counts, unless it is wanted anew."""

AT_ONCE = 4
"""How many observations go on at a time: a program that opens a thousand pages starts no thousand
threads, and the services are asked at the accounts' paces anyway.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What was found at a moment; `since` is when it began to be looked for anew. With a `problem`
    the last time, which ended at `tried_at`, failed, and `value` is what was found before. `done`
    of `count` things have been observed anew, where that is counted.
    """

    value: T | None = None
    at: datetime | None = None
    since: datetime | None = None
    problem: Problem | None = None
    tried_at: datetime | None = None
    done: int = 0
    count: int = 0

    @property
    def is_being_observed(self) -> bool:
        """Whether it is being observed at this moment."""
        return self.since is not None


@dataclass(eq=False)
class Observer:
    """Observes in the background, and keeps the last of each kind. Safe to use from any thread."""

    now: Callable[[], datetime]
    _known: dict[Hashable, Found[object]] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _times_forgotten: int = 0
    _waiting: deque[Callable[[], None]] = field(default_factory=deque)
    _workers: int = 0

    def latest(self, kind: Hashable, observe: Callable[[], T], *, anew: bool = False) -> Found[T]:
        """Return what is known; observe it in the background if it is old, or wanted `anew`."""
        with self._guard:
            known: Found[T] = self._known.get(kind, Found())  # type: ignore[assignment]  # by kind
            now = self.now()
            is_old = known.tried_at is None or now - known.tried_at > FRESH
            if known.is_being_observed or not (is_old or anew):
                return known
            known = replace(known, since=now)
            self._known[kind] = known  # type: ignore[assignment]  # by kind
            self._waiting.append(partial(self._observe, kind, observe, self._times_forgotten))
            is_worker_needed = self._workers < AT_ONCE
            self._workers += is_worker_needed
        if is_worker_needed:
            aside(self._work, "observing")
        return known

    def _work(self) -> None:
        """Observe what waits, until nothing does."""
        while True:
            with self._guard:
                if not self._waiting:
                    self._workers -= 1
                    return
                observe = self._waiting.popleft()
            observe()

    def known(self, kind: Hashable) -> Found[object]:
        """Return what is known, and observe nothing."""
        with self._guard:
            return self._known.get(kind, Found())

    def counter(self, kind: Hashable) -> Progress:
        """Return a listener that counts what has been observed of a kind."""

        def count(event: Event) -> None:
            if isinstance(event, Begun | LineageEnded):
                with self._guard:
                    known = self._known.get(kind, Found())
                    if isinstance(event, Begun):
                        known = replace(known, done=0, count=event.count)
                    else:
                        known = replace(known, done=known.done + 1)
                    self._known[kind] = known

        return count

    def keep(self, kind: Hashable, value: object) -> None:
        """Keep what was found elsewhere."""
        with self._guard:
            now = self.now()
            self._known[kind] = Found(value, now, tried_at=now)

    def forget(self) -> None:
        """Forget everything: the settings are other ones. What is being observed is observed once
        more, since it may have begun before the change.
        """
        with self._guard:
            self._times_forgotten += 1
            self._known = {kind: one for kind, one in self._known.items() if one.is_being_observed}

    def outdate(self) -> None:
        """Take everything for old, since a run has changed something. It is shown, with its age,
        until it has been observed anew; what is being observed now is observed once more.
        """
        with self._guard:
            self._times_forgotten += 1
            self._known = {kind: replace(one, tried_at=None) for kind, one in self._known.items()}

    def _observe(self, kind: Hashable, observe: Callable[[], object], times_forgotten: int) -> None:
        problem = None
        value: object | None = None
        try:
            value = observe()
        except CertferryError as error:
            problem = error.problem()
        except Exception:  # noqa: BLE001 - it must not look like an observation that goes on
            _log.exception(Text("unexpected error"))
            said = Text("a mistake in certferry; its log has the traceback")
            problem = Problem("unexpected", said)
        with self._guard:
            before = self._known.get(kind, Found())
            now = self.now()
            tried_at = now if times_forgotten == self._times_forgotten else None
            if problem is None:
                self._known[kind] = Found(value, now, tried_at=tried_at)
            else:
                self._known[kind] = Found(before.value, before.at, None, problem, tried_at)


class Recent(Generic[K, V]):
    """The values that were added last, no more than so many. Safe to use from any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()
        self._guard = threading.Lock()

    def add(self, key: K, value: V) -> None:
        """Keep a value, in place of the one that was added longest ago."""
        with self._guard:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)

    def get(self, key: K) -> V | None:
        """Return the value of a key, if it was added not long ago."""
        with self._guard:
            return self._values.get(key)
