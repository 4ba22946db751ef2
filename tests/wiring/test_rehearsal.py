"""A rehearsal beside what is really under way."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from certferry.errors import LeaseLost
from certferry.ports.state import ChallengeRecord
from certferry.reconcile.status import WithoutOrders
from certferry_sandbox.testing.contracts.state_issuance import make_order
from certferry_sandbox.testing.memory_state import MemoryState

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def test_real_order_is_neither_seen_nor_replaced() -> None:
    """It is gone on with by the next run."""
    state = MemoryState()
    lease = state.acquire("img", NOW)
    order = make_order("img")
    state.save_order(lease, order)
    rehearsed = WithoutOrders(state)

    assert None is rehearsed.order("img")
    rehearsed.save_order(lease, make_order("img"))
    rehearsed.drop_order(lease)

    assert order == state.order("img")


def test_run_that_was_overtaken_rehearses_nothing() -> None:
    """Another run may be at work on the same names."""
    state = MemoryState()
    lost = state.acquire("img", NOW)
    state.release(lost)

    with pytest.raises(LeaseLost):
        WithoutOrders(state).save_order(lost, make_order("img"))
    with pytest.raises(LeaseLost):
        WithoutOrders(state).drop_order(lost)


def test_challenge_records_are_kept() -> None:
    """What a killed rehearsal leaves in DNS, a later run removes."""
    state = MemoryState()
    record = ChallengeRecord("img", "_acme-challenge.img.example.com", "value", NOW)

    WithoutOrders(state).save_challenge_record(record)

    assert (record,) == state.challenge_records("img")
