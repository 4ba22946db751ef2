"""Two runs a day by the process of the console."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from certferry.config.load import load
from certferry.console.process import TRIED_AGAIN, Schedule
from certferry.core.observed.stored_runs import RunKind, RunSource, StoredRun
from certferry.core.schedule import last_scheduled, moments_of
from certferry.errors import CertferryError, DatabaseUnavailable
from certferry.text import Text
from certferry.wiring.workspace import Workspace
from tests.console.processes import write

NOW = datetime(2026, 11, 29, 10, tzinfo=UTC)


@dataclass
class Started:
    """A starter that records the time of each run, and carries out no run."""

    clock: list[datetime]
    runs: list[datetime] = field(default_factory=list)
    error: CertferryError | None = None

    def start(
        self,
        kind: RunKind,
        names: Sequence[str],
        *,
        who: str,
        source: RunSource,
        plan: str | None = None,
        request: str | None = None,
        renews: bool = False,
    ) -> StoredRun:
        assert (kind, tuple(names), source) == (RunKind.SYNC, (), RunSource.SCHEDULE)
        assert plan is request is None
        assert not renews
        if self.error is not None:
            raise self.error
        self.runs.append(self.clock[0])
        return StoredRun("1", kind, source, who, "here", self.clock[0])

    def stop(self, run: str) -> bool:
        raise NotImplementedError(run)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(load(write(tmp_path), {})) as opened:
        yield opened


def kept(workspace: Workspace) -> tuple[Schedule, Started]:
    """Return a schedule, and the starter of the schedule."""
    clock = [NOW]
    started = Started(clock)
    return Schedule(lambda: workspace, started, lambda: clock[0]), started


def pass_time(schedule: Schedule, started: Started, hours: float) -> None:
    """Let the time pass, in steps of a quarter of an hour."""
    for _ in range(int(hours * 4)):
        started.clock[0] += timedelta(minutes=15)
        schedule.begin_scheduled()


def test_state_without_a_run_gets_a_run_at_once(workspace: Workspace) -> None:
    """The first run begins at once. Afterwards, a run begins every twelve hours."""
    schedule, started = kept(workspace)

    assert schedule.begin_scheduled()
    assert not schedule.begin_scheduled()
    pass_time(schedule, started, 72)

    first, *later = started.runs
    assert (first, len(later)) == (NOW, 6)
    assert {b - a for a, b in pairwise(later)} == {timedelta(hours=12)}


@pytest.mark.parametrize(("age", "count"), [(12.9, 0), (13.1, 1)])
def test_missed_run_begins_at_the_start(workspace: Workspace, age: float, count: int) -> None:
    """A run begins at the start only if the last run is older than 13 hours. Otherwise the next run
    keeps its scheduled time.
    """
    workspace.state.save_run(NOW - timedelta(hours=age), succeeded=True)
    schedule, started = kept(workspace)

    schedule.begin_scheduled()

    assert len(started.runs) == count
    pass_time(schedule, started, 12)
    assert len(started.runs) == count + 1


def test_machine_runs_once_after_sleep(workspace: Workspace) -> None:
    """A single run replaces several missed runs."""
    schedule, started = kept(workspace)
    schedule.begin_scheduled()
    started.clock[0] += timedelta(days=3)

    assert schedule.begin_scheduled()
    assert not schedule.begin_scheduled()


@pytest.mark.parametrize("days", [1, 400])
def test_clock_set_back_skips_no_run(workspace: Workspace, days: int) -> None:
    """The day after the change of the clock has two runs, however far the clock went back."""
    schedule, started = kept(workspace)
    schedule.begin_scheduled()
    started.clock[0] -= timedelta(days=days)
    pass_time(schedule, started, 24)

    assert 3 == len(started.runs)


def test_clock_set_back_prolongs_no_pause(workspace: Workspace) -> None:
    """A failed start is tried again at once, because the pause would otherwise last as long as the
    change of the clock.
    """
    schedule, started = kept(workspace)
    started.error = DatabaseUnavailable(Text("gone"))
    schedule.begin_scheduled()
    started.error = None
    started.clock[0] -= timedelta(days=1)

    assert schedule.begin_scheduled()


def test_schedule_tries_again_after_a_failure(workspace: Workspace) -> None:
    """While the state is unavailable, the schedule waits ten minutes before the next try."""
    schedule, started = kept(workspace)
    started.error = DatabaseUnavailable(Text("gone"))

    assert not schedule.begin_scheduled()
    started.error = None
    assert not schedule.begin_scheduled()
    started.clock[0] += TRIED_AGAIN
    assert schedule.begin_scheduled()


def test_runs_begin_at_the_times_of_the_host(workspace: Workspace) -> None:
    """`core.schedule` derives the times of the runs from the host's name."""
    schedule, started = kept(workspace)
    schedule.begin_scheduled()
    pass_time(schedule, started, 12)

    scheduled = last_scheduled(moments_of(workspace.settings.state.host), started.runs[1])
    assert timedelta(0) <= started.runs[1] - scheduled < timedelta(minutes=15)
