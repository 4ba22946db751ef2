"""At most so many requests per second to one service, from any number of threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from certferry.ports.progress import Pause


class Pace(Protocol):
    """Asked for a turn before each request."""

    def wait(self) -> None:
        """Return when the next request may be sent. Raises whatever a pause raises."""
        ...


class Pacer:
    """Hands out moments that lie evenly spaced, so that no second ever holds more than the limit.

    `clock` counts seconds and never goes back; `pause` waits, and may raise `Interrupted`.
    """

    def __init__(
        self, per_second: float, *, clock: Callable[[], float] = time.monotonic, pause: Pause
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._pause = pause
        self._lock = threading.Lock()
        self._next = clock()

    def wait(self) -> None:
        """Return when the next request may be sent. Raises whatever `pause` raises."""
        delay = self._take_moment()
        if delay > 0:
            self._pause(delay)

    def _take_moment(self) -> float:
        # The wait itself is outside the lock, so that a stopped run is not held by its neighbours.
        with self._lock:
            now = self._clock()
            moment = max(self._next, now)
            self._next = moment + self._interval
            return moment - now
