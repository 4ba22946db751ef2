"""DNSPod's limit of an hour: counted for the account, over all runs and every repetition."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.errors import DnsUnavailable
from certferry.ports.dns import DnsProvider
from certferry_sandbox.faults import Fault
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from tests.adapters.dns.zone_account import NOW
from tests.adapters.dnspod.account import DnspodAccount

LIMIT = 60


def limited(account: DnspodAccount) -> DnsProvider:
    """Begin a run that keeps to as much as the stand-in allows."""
    account.service.calls_per_hour = LIMIT
    return account.connect(requests_per_hour=LIMIT)


def write(provider: DnsProvider, number: int) -> None:
    """Write a record, in one request once the run has listed the domains."""
    provider.add_txt(f"_acme-challenge.n{number}.example.com", "value")


def pauses(account: DnspodAccount) -> list[int]:
    """Give the pauses of a second and more."""
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
        account.memory = MemoryAccount()
        write(limited(account), number)

    account.memory = MemoryAccount()
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
