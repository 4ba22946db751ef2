"""The port to the runs that are stored: what pages and the API read, and each run writes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from certferry.core.observed.runs import RunEvent, RunReport, RunState, StoredRun


class RunStore(Protocol):
    """Runs with their events. All raise `StateError`."""

    def save_run_begin(self, run: StoredRun, request: str | None = None) -> StoredRun:
        """Store that a run begins; return it, or the one that the same `request` began before: a
        form that is sent twice starts one run. Deletes the oldest beyond `KEPT_RUNS`, and
        the events of those that have ended and are older than the newest `KEPT_WHOLE`.
        """

    def append_run_events(self, run: str, events: Sequence[RunEvent]) -> None:
        """Add what happened, in its order. An event of a number that is there is the same one.
        Keeps the newest `EVENTS_OF_A_RUN`; without a run of this id, nothing.
        """

    def save_run_end(
        self, run: str, state: RunState, ended_at: datetime, report: RunReport | None
    ) -> None:
        """Store how a run ended, and what it reported; the first end of a run stays. To be stored
        before `LeaseStore.end_run`: a run without an end has died when its number is free.
        """

    def stored_run(self, run: str) -> StoredRun | None:
        """Return a run: `DIED` where it has no end and its process is gone."""

    def stored_runs(
        self,
        limit: int,
        *,
        before: str | None = None,
        lineage: str | None = None,
        host: str | None = None,
        who: str | None = None,
    ) -> tuple[StoredRun, ...]:
        """Return runs, newest first, `before` the one with this id; of a lineage: those that were
        for it, or for all.
        """

    def run_events(self, run: str, after: int = 0, limit: int = 1000) -> tuple[RunEvent, ...]:
        """Return a run's events `after` this number, in their order."""

    def latest_run_events(self, run: str, limit: int) -> tuple[RunEvent, ...]:
        """Return a run's last events, in their order."""

    def run_report(self, run: str) -> RunReport | None:
        """Return what a run reported."""


KEPT_RUNS, KEPT_WHOLE = 1000, 100
EVENTS_OF_A_RUN = 20_000
"""How many are kept, and how many with their events; a run that says more is shown without its
oldest. An event takes some 250 bytes: at most half a gigabyte, where every run is that long.
"""
