"""Store what a run sees at the places of its certificates, for commands that ask no service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from certferry.core.assessment.sightings import Sighted, after_run, sighted, with_delivered
from certferry.core.observed.observation import Observation
from certferry.core.planning.report import SyncReport
from certferry.ports.state import StateStore


class SightingsKeeper:
    """See `ports.progress.Looks`: what was seen last of each lineage counts."""

    def __init__(self, state: StateStore, now: Callable[[], datetime]) -> None:
        self._state = state
        self._now = now
        self._seen: dict[str, Sighted] = {}

    def note(self, lineage: str, observed: Observation) -> None:
        """See `ports.progress.Looks.note`. The observation itself is not kept."""
        self._seen[lineage] = sighted(lineage, observed, self._now())

    def keep(self, report: SyncReport) -> None:
        """See `ports.progress.Looks.keep`. Where all is as before, nothing is written."""
        after = partial(after_run, seen=with_delivered(self._seen, report.lineages))
        before = self._state.sightings()
        if after(before) != before:
            self._state.update_sightings(after)
