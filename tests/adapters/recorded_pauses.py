"""Pauses that are recorded instead of waited for, and a clock that they move."""

from __future__ import annotations

import threading


class RecordedPauses:
    """A `Pause` that returns at once; `seconds` are the pauses so far, `clock` their sum."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._lock = threading.Lock()

    def __call__(self, seconds: float) -> None:
        with self._lock:
            self.seconds.append(seconds)

    def clock(self) -> float:
        with self._lock:
            return sum(self.seconds)
