"""The port to the listeners of a run: they learn what happens as it happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.lineage import Version
from certferry.core.events import Event

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


class Sightings(Protocol):
    """See `ports.state.StateStore`, which has the same promises."""

    def sightings(self) -> tuple[Sighting, ...]:
        """What every place was last seen to have, by lineage, target and domain."""
        ...

    def update_sightings(
        self, change: Callable[[tuple[Sighting, ...]], tuple[Sighting, ...]]
    ) -> tuple[Sighting, ...]:
        """Change the sightings in one transaction, and return those that are kept now."""
        ...

    def versions_in_use(self) -> Mapping[str, tuple[Version, ...]]:
        """Every lineage's newest version, those that a place of it was last seen to have, and those
        whose revocation did not end, newest first: read at once, whatever the number of lineages.
        """
        ...
