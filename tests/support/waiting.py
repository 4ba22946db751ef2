"""Waiting for what takes its time, and for no longer than it may."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 20  # seconds


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait until it is so."""
    deadline = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()
