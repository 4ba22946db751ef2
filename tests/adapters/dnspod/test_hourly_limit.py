"""DNSPod's hourly limit, which counts every request of the account: all runs, all repetitions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from certferry.adapters.dnspod.dns import HourlyBudget, rate_of
from certferry.errors import DnsUnavailable, Interrupted
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Pause
from certferry.ports.state import Edit
from certferry.text import Text
from certferry_sandbox.faults import Fault
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from tests.adapters.dns.zone_account import NOW
from tests.adapters.dnspod.account import DnspodAccount
from tests.adapters.recorded_pauses import RecordedPauses

# --- The hourly limit at the stand-in


LIMIT = 60


def limited(account: DnspodAccount) -> DnsProvider:
    account.service.calls_per_hour = LIMIT
    return account.connect(requests_per_hour=LIMIT)


def write(provider: DnsProvider, number: int) -> None:
    """Write a record in a single request. The first write of a run also lists the domains."""
    provider.add_txt(f"_acme-challenge.n{number}.example.com", "value")


def pauses(account: DnspodAccount) -> list[int]:
    return [round(seconds) for seconds in account.waits.seconds if seconds >= 1]


def test_two_runs_share_the_hourly_limit(account: DnspodAccount) -> None:
    """Two runs send twice the hourly limit, without a refusal and without an unnecessary wait."""
    runs = limited(account), limited(account)

    for number in range(2 * LIMIT):
        write(runs[number % 2], number)

    calls = account.service.calls()
    assert 2 * LIMIT + 2 == len(calls)
    # Ten requests go at once, and each other request after an even wait. A refusal would add a
    # pause of 60 seconds.
    assert [72] * (len(calls) - 10) == pauses(account)


def test_runs_without_a_shared_memory_are_refused(account: DnspodAccount) -> None:
    """The stand-in counts the requests: runs that each count alone exceed the limit together."""
    for number in range(LIMIT // 2):
        account.memory = MemoryAccount(account.now)
        write(limited(account), number)

    account.memory = MemoryAccount(account.now)
    with pytest.raises(DnsUnavailable, match="code -2"):
        write(limited(account), LIMIT)


def test_next_run_uses_the_remaining_budget(account: DnspodAccount) -> None:
    """A run right after a busy run has no burst of its own."""
    busy = limited(account)
    for number in range(9):
        write(busy, number)
    assert [] == pauses(account)

    write(limited(account), 10)

    assert [72, 72] == pauses(account)


def test_repetitions_count_too(account: DnspodAccount) -> None:
    """DNSPod counts every arriving request, and the lost attempts arrived."""
    account.service.faults.add(Fault.reset_before(), on="POST /Domain.List", times=3)
    provider = limited(account)

    for number in range(8):
        write(provider, number)

    assert 12 == len(account.service.calls())
    assert 2 == len(pauses(account))


def test_six_hundred_requests_go_at_once_by_default(account: DnspodAccount) -> None:
    """Requests may run twelve minutes ahead of the even pace, which is 3,000 an hour."""
    all_but_two = NOW + 598 * timedelta(seconds=1.2)
    account.memory.update("spent", lambda _: all_but_two.isoformat())
    provider = account.connect()

    write(provider, 1)
    assert [] == pauses(account)
    write(provider, 2)

    assert [1] == pauses(account)


# --- The hourly budget, shared by all users of a memory


BUDGET_NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RATE = rate_of(60)  # ten at once, then one every 72 seconds


class Counted:
    """A `Pace` that delays no call and counts the turns."""

    def __init__(self) -> None:
        self.turns = 0

    def wait(self) -> None:
        self.turns += 1


class WatchedMemory(MemoryAccount):
    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self.is_changing = False

    def update(self, name: str, change: Edit) -> str | None:
        self.is_changing = True
        try:
            return super().update(name, change)
        finally:
            self.is_changing = False


class Runs:
    """Runs with a shared memory, and a clock that pauses advance."""

    def __init__(self) -> None:
        self.memory = WatchedMemory(self.now)
        self.waits = RecordedPauses()
        self.pace = Counted()

    def now(self) -> datetime:
        return BUDGET_NOW + timedelta(seconds=self.waits.clock())

    def run(self, pause: Pause | None = None) -> HourlyBudget:
        return HourlyBudget(RATE, memory=self.memory, pace=self.pace, pause=pause or self.waits)


def test_a_burst_is_not_delayed() -> None:
    """Each turn passes through the budget to the pace per second."""
    runs = Runs()
    run = runs.run()

    for _ in range(10):
        run.wait()

    assert [] == runs.waits.seconds
    assert 10 == runs.pace.turns


def test_budget_of_a_finished_run_stays_spent() -> None:
    """The next run waits for its turn."""
    runs = Runs()
    for _ in range(10):
        runs.run().wait()

    runs.run().wait()

    assert [72.0] == runs.waits.seconds


def test_threads_spend_each_turn_once() -> None:
    """Ten of twenty simultaneous requests go at once, and each other request waits an interval."""
    runs = Runs()
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda _: runs.run().wait(), range(20)))

    assert 20 == runs.pace.turns
    assert runs.now() >= BUDGET_NOW + 10 * timedelta(seconds=72)


def test_the_note_is_unlocked_during_a_wait() -> None:
    """Other runs may change the note meanwhile."""
    runs = Runs()
    changing: list[bool] = []

    def pause(seconds: float) -> None:
        changing.append(runs.memory.is_changing)
        runs.waits(seconds)

    run = runs.run(pause)
    for _ in range(12):
        run.wait()

    assert [False, False] == changing


def test_a_stopped_run_takes_no_turn() -> None:
    """The exception of the pause reaches the caller, and the budget stays unchanged."""
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
