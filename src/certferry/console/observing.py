"""What is observed for a page outside the state: a plan, discover, doctor. It asks services, which
may take minutes, so that no page waits for it: it goes on in a thread of its own, once for all who
ask, and a page shows what was found last, and when.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from certferry.errors import CertferryError
from certferry.problem import Problem
from certferry.reconcile.run import aside
from certferry.text import Text

T = TypeVar("T")

FRESH = timedelta(minutes=1)
"""For how long what was found counts, unless it is wanted anew."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What was found at a moment; `since` is when it began to be looked for anew. With a `problem`
    the last time failed, and `value` is what was found before.
    """

    value: T | None = None
    at: datetime | None = None
    since: datetime | None = None
    problem: Problem | None = None

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

    def latest(self, kind: Hashable, observe: Callable[[], T], *, anew: bool = False) -> Found[T]:
        """Return what is known; observe it in the background if it is old, or wanted `anew`."""
        with self._guard:
            known: Found[T] = self._known.get(kind, Found())  # type: ignore[assignment]  # by kind
            now = self.now()
            is_old = known.at is None or now - known.at > FRESH
            if known.is_being_observed or not (is_old or anew):
                return known
            known = Found(known.value, known.at, now, known.problem)
            self._known[kind] = known  # type: ignore[assignment]  # by kind
        aside(lambda: self._observe(kind, observe), f"observing {kind}")
        return known

    def known(self, kind: Hashable) -> Found[object]:
        """Return what is known, and observe nothing."""
        with self._guard:
            return self._known.get(kind, Found())

    def keep(self, kind: Hashable, value: object) -> None:
        """Keep what was found elsewhere."""
        with self._guard:
            self._known[kind] = Found(value, self.now())

    def forget(self) -> None:
        """Forget everything: the settings are other ones, or a run has changed something."""
        with self._guard:
            self._known = {kind: one for kind, one in self._known.items() if one.is_being_observed}

    def _observe(self, kind: Hashable, observe: Callable[[], object]) -> None:
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
            if problem is None:
                self._known[kind] = Found(value, self.now())
            else:
                self._known[kind] = Found(before.value, self.now(), None, problem)
