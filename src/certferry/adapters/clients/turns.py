"""One call to a service at a time: the other threads wait, and see that the run was stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from certferry.ports.progress import Pause

STOP_CHECK = 0.5
"""Seconds between two looks at whether the run was stopped."""


class Turns:
    """The turns at one account. Safe to use from threads."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._lock = threading.Lock()

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Wait for our turn, and keep it for a `with` block. Raises what `pause` raises where the
        run is stopped.
        """
        while not self._lock.acquire(timeout=STOP_CHECK):
            self._pause(0)  # notices that the run was stopped
        try:
            yield
        finally:
            self._lock.release()
