"""The door to what runs saw where certificates are to be served; a part of the state's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from certferry.core.lineage import Version
from certferry.core.sighting import Sighting


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
