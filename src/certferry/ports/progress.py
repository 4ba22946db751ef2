"""The functions given to a run: to report events (`Progress`), read the time (`Clock`), and wait
(`Pause`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from certferry.core.events import Event

Progress = Callable[[Event], None]
"""A listener to a run's events. The working thread calls the listener, so the listener must return
at once, and must not raise.
"""

Clock = Callable[[], datetime]
"""A function that returns the present moment, as an aware datetime in UTC."""


def passed() -> float:
    """Return the seconds of a clock that ignores changes of the system time. If the system has a
    clock that also runs while the machine sleeps, return the seconds of that clock.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def set_now(by: Clock) -> Clock:
    """Return a clock that starts at the time of `by`, and then ignores changes of `by`."""
    moment, at = by(), passed()
    return lambda: moment + timedelta(seconds=passed() - at)


Pause = Callable[[float], None]
"""A function that waits a number of seconds. The function raises `Interrupted` as soon as the run
is stopped, or at the thread's next wait. After `Interrupted` the thread cleans up, and waits last
as long as asked, until the run's time for cleaning up is over. Then a wait raises `Interrupted`
again.
"""


def each_of(*listeners: Progress) -> Progress:
    """Return a listener that calls several listeners in order."""

    def report(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return report


def no_listener(event: Event) -> None:
    """Ignore every event."""
    del event
