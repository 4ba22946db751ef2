"""DNSPod's limit of an hour: counted for the account, over all runs and every repetition."""

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

# --- DNSPod's limit of an hour: counted for the account, over all runs and every repetition


LIMIT = 60


def limited(account: DnspodAccount) -> DnsProvider:
    account.service.calls_per_hour = LIMIT
    return account.connect(requests_per_hour=LIMIT)


def write(provider: DnsProvider, number: int) -> None:
    """Write a record, in one request once the run has listed the domains."""
    provider.add_txt(f"_acme-challenge.n{number}.example.com", "value")


def pauses(account: DnspodAccount) -> list[int]:
    return [round(seconds) for seconds in account.waits.seconds if seconds >= 1]


def test_two_runs_never_exceed_the_hour_together(account: DnspodAccount) -> None:
    """Twice as many requests as an hour holds: none is refused, and none waits without need."""
    runs = limited(account), limited(account)

    for number in range(2 * LIMIT):
        write(runs[number % 2], number)

    calls = account.service.calls()
    assert 2 * LIMIT + 2 == len(calls)
    # Ten go at once, and each other one after an even wait; a refusal would make it rest for 60.
    assert [72] * (len(calls) - 10) == pauses(account)


def test_runs_without_a_common_memory_are_refused(account: DnspodAccount) -> None:
    """The stand-in does count: what each run may send at once is too much for all together."""
    for number in range(LIMIT // 2):
        account.memory = MemoryAccount(account.now)
        write(limited(account), number)

    account.memory = MemoryAccount(account.now)
    with pytest.raises(DnsUnavailable, match="code -2"):
        write(limited(account), LIMIT)


def test_next_run_goes_on_with_what_is_left(account: DnspodAccount) -> None:
    """A run that begins right after a busy one has no burst of its own."""
    busy = limited(account)
    for number in range(9):
        write(busy, number)
    assert [] == pauses(account)

    write(limited(account), 10)

    assert [72, 72] == pauses(account)


def test_repetitions_count_too(account: DnspodAccount) -> None:
    """DNSPod counts what arrives, not what was meant."""
    account.service.faults.add(Fault.reset_before(), on="POST /Domain.List", times=3)
    provider = limited(account)

    for number in range(8):
        write(provider, number)

    assert 12 == len(account.service.calls())
    assert 2 == len(pauses(account))


def test_six_hundred_requests_go_at_once_by_default(account: DnspodAccount) -> None:
    """They may reach twelve minutes ahead, and then they go on at 3,000 an hour."""
    all_but_two = NOW + 598 * timedelta(seconds=1.2)
    account.memory.update("spent", lambda _: all_but_two.isoformat())
    provider = account.connect()

    write(provider, 1)
    assert [] == pauses(account)
    write(provider, 2)

    assert [1] == pauses(account)


# --- The budget of an hour: shared by everything that remembers the account


BUDGET_NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RATE = rate_of(60)  # ten at once, and then one in 72 seconds


class Counted:
    """A `Pace` that delays no call, and counts."""

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
    """Runs that share a memory, and a clock that pauses move."""

    def __init__(self) -> None:
        self.memory = WatchedMemory(self.now)
        self.waits = RecordedPauses()
        self.pace = Counted()

    def now(self) -> datetime:
        return BUDGET_NOW + timedelta(seconds=self.waits.clock())

    def run(self, pause: Pause | None = None) -> HourlyBudget:
        return HourlyBudget(RATE, memory=self.memory, pace=self.pace, pause=pause or self.waits)


def test_a_burst_is_not_delayed() -> None:
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
    assert runs.now() >= BUDGET_NOW + 10 * timedelta(seconds=72)


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
