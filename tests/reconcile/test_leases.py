"""Holding leases."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from certferry.errors import LeaseHeld
from certferry.ports.state import Lease
from certferry.reconcile.leases import LeaseKeeper
from certferry.testing.memory_state import MemoryState
from certferry.text import Text


def now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


class SlowClock:
    """A clock that only moves when the lease under watch has just been extended."""

    def __init__(self) -> None:
        self.at = now()

    def now(self) -> datetime:
        """The moment it shows."""
        return self.at


class WatchedState(MemoryState):
    """A state that tells when a lease was extended."""

    def __init__(self) -> None:
        super().__init__()
        self.extended = threading.Event()

    def extend(self, lease: Lease, ttl: timedelta, now: datetime) -> None:
        """See `ports.state.StateStore.extend`."""
        super().extend(lease, ttl, now)
        self.extended.set()


def test_lease_outlives_its_time_while_it_is_held() -> None:
    """A long piece of work keeps its lease: it is extended in the background."""
    state, clock = WatchedState(), SlowClock()
    ttl = timedelta(milliseconds=150)
    keeper = LeaseKeeper(state, clock.now, ttl)
    with keeper.lease("img"):
        for _ in range(12):
            state.extended.clear()
            clock.at += ttl / 3
            assert state.extended.wait(20)
            with pytest.raises(LeaseHeld):
                state.seen_by("another").acquire("img", ttl, clock.at)
    keeper.close()


def test_lease_is_given_back_at_the_end() -> None:
    """Also after a failure, another run can have it at once."""
    state = MemoryState()
    keeper = LeaseKeeper(state, now)
    with pytest.raises(ZeroDivisionError), keeper.lease("img"):
        1 / 0  # noqa: B018 - whatever goes wrong
    keeper.close()

    assert "img" == state.seen_by("another").acquire("img", timedelta(1), now()).lineage


def test_lost_lease_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    """A lease that another run took over is not taken back, and its end is no error; the warning is
    a sentence to translate.
    """
    state = MemoryState()
    keeper = LeaseKeeper(state, now, timedelta(milliseconds=30))
    with keeper.lease("img") as lease:
        state.release(lease)
        other = state.seen_by("another").acquire("img", timedelta(minutes=1), now())
        deadline = now() + timedelta(seconds=20)
        while not caplog.records and now() < deadline:
            time.sleep(0.01)
    keeper.close()

    state.extend(other, timedelta(minutes=1), now())
    first = caplog.records[0].msg
    assert isinstance(first, Text)
    assert str(first).startswith("img: the lease could not be extended: ")


def test_keeper_that_never_held_anything_closes() -> None:
    """No lease, no thread, nothing to join."""
    LeaseKeeper(MemoryState(), now).close()
