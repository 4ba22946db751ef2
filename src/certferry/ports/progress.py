"""The door to the listeners of a run: what happens is told to them as it happens."""

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
    """Tell several listeners, in their order."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell


def no_listener(event: Event) -> None:
    """Follow nothing."""
    del event


class Looks(Protocol):
    """Is shown every look of a run. Safe to use from several threads."""

    def note(self, lineage: str, observed: Observation) -> None:
        """Be shown what a look at a lineage saw. Nothing is asked and nothing is written."""
        ...

    def keep(self, report: SyncReport) -> None:
        """Keep what the run has seen, now that it has ended. Raises `StateError`."""
        ...


class _Unseen:
    def note(self, lineage: str, observed: Observation) -> None:
        """See `Looks.note`."""

    def keep(self, report: SyncReport) -> None:
        """See `Looks.keep`."""


UNSEEN: Looks = _Unseen()
"""Keeps nothing."""
