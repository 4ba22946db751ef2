"""The port to the listeners of a run: they learn what happens as it happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from certferry.core.events import Event
from certferry.core.observed.observation import Observation
from certferry.core.planning.report import SyncReport

Progress = Callable[[Event], None]
"""Called from the thread that does the work; must return at once and not raise."""

Pause = Callable[[float], None]
"""Wait this many seconds; raises `Interrupted` as soon as the run is stopped, once in each thread:
what it waits for after that belongs to putting things in order.
"""


def each_of(*listeners: Progress) -> Progress:
    """Return a listener that calls several, in their order."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell


def no_listener(event: Event) -> None:
    """Follow nothing."""
    del event


class Observer(Protocol):
    """Follows what a run observes. Safe to use from several threads."""

    def note(self, lineage: str, observed: Observation) -> None:
        """Take in what was observed of a lineage. Asks nothing and writes nothing."""
        ...

    def keep(self, report: SyncReport) -> None:
        """Store what the run has seen, now that it has ended. Raises `StateError`."""
        ...


class _NoObserver:
    def note(self, lineage: str, observed: Observation) -> None:
        """See `Observer.note`."""

    def keep(self, report: SyncReport) -> None:
        """See `Observer.keep`."""


NO_OBSERVER: Observer = _NoObserver()
"""Keeps nothing."""
