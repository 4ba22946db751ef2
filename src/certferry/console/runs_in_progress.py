"""Read the runs in progress, for the top of every page: who started each run, since when the run is
in progress, how many certificates are done, and the present work of the run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from msgspec import Struct

from certferry.core.observed.stored_runs import RunEvent, RunKind, RunSource, RunState, StoredRun
from certferry.core.planning.report import Outcome
from certferry.errors import CertferryError
from certferry.ports.state import StateStore
from certferry.present.language import one_or_many
from certferry.text import Text
from certferry.wiring.workspace import Workspace

SHOWN_RUNS = 3
"""The top of a page shows at most this many runs. A link leads to the rest."""

MOST_RUNS, LATEST_EVENTS = 50, 100
"""The most runs that are read, and the number of a run's latest events in which its present work is
searched.
"""

STALE = 1.0
"""The age in seconds after which the runs are read again. All visitors share one reading."""

KINDS = {
    RunKind.SYNC: Text("Sync"),
    RunKind.REHEARSE: Text("Rehearsal"),
    RunKind.RENEW: Text("Renewal"),
    RunKind.ROLLBACK: Text("Rollback"),
}
SOURCES = {
    RunSource.SCHEDULE: Text("schedule"),
    RunSource.COMMAND: Text("command line"),
    RunSource.CONSOLE: Text("console"),
    RunSource.API: Text("API"),
    RunSource.HOOK: Text("hook"),
}


class RunInProgress(Struct, frozen=True):
    """A run in progress, with the words that pages show."""

    #: The run.
    run: StoredRun
    #: The kind of run, in a word.
    kind: Text
    #: Who or what started the run, in a word or two.
    source: Text
    #: The time since the run's start.
    elapsed: timedelta
    #: The events of the activities and waits that have not ended, the last event first.
    work: tuple[RunEvent, ...]

    @property
    def progress(self) -> Text | None:
        """See `progress_of`."""
        return progress_of(self.run)

    @property
    def clock(self) -> str:
        """The time since the run's start, as the function `clock` writes a duration."""
        return clock(self.elapsed)

    @property
    def path(self) -> str:
        """The path of the run's page."""
        return f"/runs/{self.run.id}"

    def concerns(self, lineage: str) -> bool:
        """Return whether the run works on this certificate."""
        return not self.run.names or lineage in self.run.names


def clock(duration: timedelta) -> str:
    """Return a duration as `0:07` or `1:02:03`. A negative duration counts as zero: the clocks of
    two hosts may differ.
    """
    minutes, seconds = divmod(max(int(duration.total_seconds()), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def progress_of(run: StoredRun) -> Text | None:
    """Return how many certificates of a run are done; `None` before the run has counted them."""
    if run.count is None:
        return None
    return one_or_many(
        run.count,
        Text("{done} of {count} certificate done"),
        Text("{done} of {count} certificates done"),
        done=run.done,
    )


def present_work(events: Iterable[RunEvent]) -> tuple[RunEvent, ...]:
    """Return the activities and waits that no later event has ended, the last first. An event ends
    the activity of its certificate, and a wait at its own place.
    """
    going_on: dict[tuple[str, str | None, str | None], RunEvent] = {}
    for event in events:
        place = (event.lineage, event.target, event.domain)
        # A certificate has one activity at a time. Any later event of the certificate ends the
        # activity.
        going_on.pop((event.lineage, None, None), None)
        going_on.pop(place, None)
        if event.event == "activity" or event.outcome == Outcome.WAITING:
            going_on[place] = event
    return tuple(reversed(going_on.values()))


def in_progress(state: StateStore, run: StoredRun) -> RunInProgress | None:
    """Return a run in progress with the words that pages show; `None` for a run that is not in
    progress. Raises `StateError`.
    """
    if run.state is not RunState.RUNNING:
        return None
    return RunInProgress(
        run=run,
        kind=KINDS[run.kind],
        source=SOURCES[run.source],
        elapsed=state.now() - run.started_at,
        work=present_work(state.latest_run_events(run.id, LATEST_EVENTS)),
    )


class RunsInProgress:
    """Keeps the runs in progress of a workspace for a second. Safe to use from any thread."""

    def __init__(self, workspace: Callable[[], Workspace]) -> None:
        self._workspace = workspace
        self._guard = threading.Lock()
        self._runs: tuple[RunInProgress, ...] = ()
        self._asked_at = -STALE

    def latest(self) -> tuple[RunInProgress, ...]:
        """Return the runs in progress, newest first, read at most `STALE` seconds ago. If the state
        does not answer, return no run: the page itself reports the problem.
        """
        with self._guard:
            if time.monotonic() - self._asked_at >= STALE:
                try:
                    state = self._workspace().state
                    runs = state.runs_in_progress(MOST_RUNS)
                    self._runs = tuple(filter(None, (in_progress(state, run) for run in runs)))
                except CertferryError:
                    self._runs = ()
                self._asked_at = time.monotonic()
            return self._runs
