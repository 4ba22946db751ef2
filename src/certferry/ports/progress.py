"""The port to the listeners of a run: they learn what happens as it happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from certferry.core.events import Event

Progress = Callable[[Event], None]
"""Called from the thread that does the work; must return at once and not raise."""

Clock = Callable[[], datetime]
"""Return this moment, an aware datetime in UTC."""


def passed() -> float:
    """Return the seconds of a clock that no setting of the time moves, and that goes on while the
    machine sleeps, where the system has one.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def set_now(by: Clock) -> Clock:
    """Return a clock that is set by another one now, and that no later setting of it moves."""
    moment, at = by(), passed()
    return lambda: moment + timedelta(seconds=passed() - at)


Pause = Callable[[float], None]
"""Wait this many seconds. Raises `Interrupted` as soon as the run is stopped, once in each thread:
what it waits for after that belongs to its clean-up.
"""


def each_of(*listeners: Progress) -> Progress:
    """Return a listener that calls several, in their order."""

    def report(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return report


def no_listener(event: Event) -> None:
    """Follow nothing."""
    del event
