"""The port to the listeners of a run: they learn what happens as it happens."""

from __future__ import annotations

from collections.abc import Callable

from certferry.core.events import Event

Progress = Callable[[Event], None]
"""Called from the thread that does the work; must return at once and not raise."""

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
