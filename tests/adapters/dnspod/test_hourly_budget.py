"""The budget of an hour: shared by everything that remembers the account."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from certferry.adapters.dnspod.dns import HourlyBudget, rate_of
from certferry.errors import Interrupted
from certferry.ports.progress import Pause
from certferry.ports.state import Edit
from certferry.text import Text
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from tests.adapters.waits import Waits

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RATE = rate_of(60)  # ten at once, and then one in 72 seconds


class Counted:
    """A `Pace` that delays no call, and counts."""

    def __init__(self) -> None:
        self.turns = 0

    def wait(self) -> None:
        """Count a turn."""
        self.turns += 1


class WatchedMemory(MemoryAccount):
    """A memory that knows whether a note is just being changed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_changing = False

    def update(self, name: str, change: Edit) -> str | None:
        """See `AccountMemory.update`."""
        self.is_changing = True
        try:
            return super().update(name, change)
        finally:
            self.is_changing = False


class Runs:
    """Runs that share a memory, and a clock that pauses move."""

    def __init__(self) -> None:
        self.memory = WatchedMemory()
        self.waits = Waits()
        self.pace = Counted()

    def now(self) -> datetime:
        """Give the time."""
        return NOW + timedelta(seconds=self.waits.clock())

    def run(self, pause: Pause | None = None) -> HourlyBudget:
        """Begin one more run."""
        return HourlyBudget(
            RATE, memory=self.memory, pace=self.pace, pause=pause or self.waits, now=self.now
        )


def test_a_burst_is_not_held_up() -> None:
    """Each turn goes on to the pace of seconds."""
    runs = Runs()
    run = runs.run()

    for _ in range(10):
        run.wait()

    assert [] == runs.waits.seconds
    assert 10 == runs.pace.turns


def test_what_one_run_spent_the_next_one_misses() -> None:
    """Also when the first is long over."""
    runs = Runs()
    for _ in range(10):
        runs.run().wait()

    runs.run().wait()

    assert [72.0] == runs.waits.seconds


def test_many_threads_spend_each_turn_once() -> None:
    """Ten of twenty that ask at once go, and each other one waits its interval."""
    runs = Runs()
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda _: runs.run().wait(), range(20)))

    assert 20 == runs.pace.turns
    assert runs.now() >= NOW + 10 * timedelta(seconds=72)


def test_the_note_is_free_while_a_run_waits() -> None:
    """Other runs may change it meanwhile."""
    runs = Runs()
    changing: list[bool] = []

    def pause(seconds: float) -> None:
        changing.append(runs.memory.is_changing)
        runs.waits(seconds)

    run = runs.run(pause)
    for _ in range(12):
        run.wait()

    assert [False, False] == changing


def test_a_stopped_run_leaves_its_turn_to_others() -> None:
    """What the pause raises passes, and nothing was taken for it."""
    runs = Runs()
    for _ in range(10):
        runs.run().wait()
    spent = runs.memory.note("spent")

    def stop(seconds: float) -> None:
        raise Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        runs.run(stop).wait()

    assert spent == runs.memory.note("spent")
    assert 10 == runs.pace.turns
