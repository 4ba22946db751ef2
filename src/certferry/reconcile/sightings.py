"""Keep what a run sees at the places of its certificates, for commands that do not look."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from certferry.core.last_seen import after_run
from certferry.core.observed import Observation
from certferry.core.report import SyncReport
from certferry.core.sighting import Sighted, sighted
from certferry.ports.state import StateStore


class SightingsKeeper:
    """See `ports.looks.Looks`: the last look at each lineage counts."""

    def __init__(self, state: StateStore, now: Callable[[], datetime]) -> None:
        self._state = state
        self._now = now
        self._looks: dict[str, tuple[Observation, datetime]] = {}

    def note(self, lineage: str, observed: Observation) -> None:
        """See `ports.looks.Looks.note`."""
        self._looks[lineage] = (observed, self._now())

    def keep(self, report: SyncReport) -> None:
        """See `ports.looks.Looks.keep`. Where all is as before, nothing is written."""
        looks = {lineage: sighted(lineage, *look) for lineage, look in self._looks.items()}
        before = self._state.sightings()
        if after_run(before, report.lineages, looks) != before:
            self._keep(report, looks)

    def _keep(self, report: SyncReport, looks: dict[str, Sighted]) -> None:
        self._state.update_sightings(lambda known: after_run(known, report.lineages, looks))
