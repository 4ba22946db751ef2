"""The two runs a day of a process that goes on."""

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
    """Starts nothing, and keeps what it was to start, and when."""

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
    with Workspace(load(write(tmp_path), {})) as found:
        yield found


def kept(workspace: Workspace) -> tuple[Schedule, Started]:
    """Return a schedule, and what it starts."""
    clock = [NOW]
    started = Started(clock)
    return Schedule(lambda: workspace, started, lambda: clock[0]), started


def pass_time(schedule: Schedule, started: Started, hours: float) -> None:
    """Let the time pass, in steps of a quarter of an hour."""
    for _ in range(int(hours * 4)):
        started.clock[0] += timedelta(minutes=15)
        schedule.begin_scheduled()


def test_a_state_without_a_run_has_one_at_once(workspace: Workspace) -> None:
    """Then two a day, half a day apart."""
    schedule, started = kept(workspace)

    assert schedule.begin_scheduled()
    assert not schedule.begin_scheduled()
    pass_time(schedule, started, 72)

    first, *later = started.runs
    assert (first, len(later)) == (NOW, 6)
    assert {b - a for a, b in pairwise(later)} == {timedelta(hours=12)}


@pytest.mark.parametrize(("age", "count"), [(12.9, 0), (13.1, 1)])
def test_a_run_that_was_missed_is_made_at_the_start(
    workspace: Workspace, age: float, count: int
) -> None:
    """One that was not keeps its moment: a restart is no reason for a run."""
    workspace.state.save_run(NOW - timedelta(hours=age), succeeded=True)
    schedule, started = kept(workspace)

    schedule.begin_scheduled()

    assert len(started.runs) == count
    pass_time(schedule, started, 12)
    assert len(started.runs) == count + 1


def test_a_machine_that_slept_runs_once_when_it_wakes(workspace: Workspace) -> None:
    """However many moments it has slept through."""
    schedule, started = kept(workspace)
    schedule.begin_scheduled()
    started.clock[0] += timedelta(days=3)

    assert schedule.begin_scheduled()
    assert not schedule.begin_scheduled()


@pytest.mark.parametrize("days", [1, 400])
def test_a_clock_that_was_set_back_skips_no_run(workspace: Workspace, days: int) -> None:
    """Two runs come in the day after, whatever the clock said when the last one began."""
    schedule, started = kept(workspace)
    schedule.begin_scheduled()
    started.clock[0] -= timedelta(days=days)
    pass_time(schedule, started, 24)

    assert 3 == len(started.runs)


def test_a_clock_that_was_set_back_prolongs_no_pause(workspace: Workspace) -> None:
    """A run that could not begin is tried again after ten minutes at the latest."""
    schedule, started = kept(workspace)
    started.error = DatabaseUnavailable(Text("gone"))
    schedule.begin_scheduled()
    started.error = None
    started.clock[0] -= timedelta(days=1)

    assert schedule.begin_scheduled()


def test_it_goes_on_when_no_run_can_begin(workspace: Workspace) -> None:
    """A state that is gone is asked again after ten minutes, until a run has begun."""
    schedule, started = kept(workspace)
    started.error = DatabaseUnavailable(Text("gone"))

    assert not schedule.begin_scheduled()
    started.error = None
    assert not schedule.begin_scheduled()
    started.clock[0] += TRIED_AGAIN
    assert schedule.begin_scheduled()


def test_the_moments_are_those_of_the_host(workspace: Workspace) -> None:
    """As `core.schedule` derives them."""
    schedule, started = kept(workspace)
    schedule.begin_scheduled()
    pass_time(schedule, started, 12)

    scheduled = last_scheduled(moments_of(workspace.settings.state.host), started.runs[1])
    assert timedelta(0) <= started.runs[1] - scheduled < timedelta(minutes=15)
