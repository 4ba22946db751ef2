"""The port to the store of runs, which the console's pages and the API show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from certferry.core.observed.stored_runs import RunEvent, RunReport, RunState, StoredRun


class RunStore(Protocol):
    """Stores runs with the runs' events and reports. All methods may raise `StateError`."""

    def save_run_begin(self, run: StoredRun, request: str | None = None) -> StoredRun:
        """Store that a run begins, and return the run. If an earlier run began with the same
        `request`, store nothing and return the earlier run, so a form that is sent twice starts a
        single run.

        Keep the newest `KEPT_RUNS` runs, and delete older runs. Keep the events of the newest
        `KEPT_WHOLE` runs, and delete the events of older runs that have ended.
        """

    def append_run_events(self, run: str, events: Sequence[RunEvent]) -> None:
        """Add events in order. Skip an event with a number that is stored already. Keep the newest
        `EVENTS_OF_A_RUN`. Ignore events of an unknown run.
        """

    def save_run_progress(self, run: str, done: int, count: int) -> None:
        """Store that `done` of `count` certificates are done. Ignore an unknown or ended run."""

    def save_run_end(
        self, run: str, state: RunState, ended_at: datetime, report: RunReport | None
    ) -> None:
        """Store how a run ended, with the run's report. Ignore an unknown run, and a run with a
        stored end. Call this method before `LeaseStore.end_run`: after `end_run`, a run without a
        stored end counts as died.
        """

    def stored_run(self, run: str) -> StoredRun | None:
        """Return a run, or `None`. The run's state is `DIED` if the process is gone and no end is
        stored.
        """

    def stored_runs(
        self,
        limit: int,
        *,
        before: str | None = None,
        lineage: str | None = None,
        host: str | None = None,
        who: str | None = None,
    ) -> tuple[StoredRun, ...]:
        """Return at most `limit` runs, newest first, older than the run with the id `before`. With
        `lineage`, return runs for this lineage and runs for all lineages.
        """

    def runs_in_progress(self, limit: int) -> tuple[StoredRun, ...]:
        """Return at most `limit` runs in progress on any host, newest first."""

    def run_events(self, run: str, after: int = 0, limit: int = 1000) -> tuple[RunEvent, ...]:
        """Return at most `limit` of a run's events with a number above `after`, in order."""

    def latest_run_events(self, run: str, limit: int) -> tuple[RunEvent, ...]:
        """Return at most `limit` of a run's last events, in order."""

    def run_report(self, run: str) -> RunReport | None:
        """Return a run's report; `None` for an unknown run, and for a run without a report."""


KEPT_RUNS, KEPT_WHOLE = 1000, 100
EVENTS_OF_A_RUN = 20_000
"""How many runs are kept, how many of the runs with events, and how many events of a run. A longer
run loses the oldest events. An event takes about 250 bytes, so events take half a gigabyte at most.
"""
