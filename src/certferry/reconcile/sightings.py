"""Keep what a run sees at the places of its certificates, for commands that do not look."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from certferry.core.assessment.sightings import (
    Sighted,
    after_run,
    digest_of,
    sighted,
    with_delivered,
)
from certferry.core.observed.observation import Observation
from certferry.core.planning.report import SyncReport
from certferry.ports.state import StateStore

_NOTE = ("[sightings]", "digest")
"""The key of the digest of the sightings; no account can be called so by mistake."""


class SightingsKeeper:
    """See `ports.progress.Looks`: the last look at each lineage counts."""

    def __init__(self, state: StateStore, now: Callable[[], datetime]) -> None:
        self._state = state
        self._now = now
        self._looks: dict[str, Sighted] = {}

    def note(self, lineage: str, observed: Observation) -> None:
        """See `ports.progress.Looks.note`. What was observed is not held on to."""
        self._looks[lineage] = sighted(lineage, observed, self._now())

    def keep(self, report: SyncReport) -> None:
        """See `ports.progress.Looks.keep`. Where all is as before, nothing is written."""
        seen = with_delivered(self._looks, report.lineages)
        digest = f"{self._state.host} {digest_of(seen)}"  # its receivers are this host's
        if self._state.account_note(*_NOTE) == digest:
            return
        # First: killed in between, the next run compares all.
        self._state.update_account_note(*_NOTE, lambda _: None)
        self._state.update_sightings(lambda known: after_run(known, seen))
        self._state.update_account_note(*_NOTE, lambda _: digest)
