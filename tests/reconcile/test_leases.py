"""Holding a lease for a piece of work."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from certferry.errors import LeaseHeld
from certferry.reconcile.run import held_lease
from certferry_sandbox.testing.memory_state import MemoryState


def now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


def test_lease_is_held_while_the_work_goes_on() -> None:
    """Another run is refused."""
    state = MemoryState()

    with held_lease(state, now, "img") as lease, pytest.raises(LeaseHeld):
        state.seen_by("another").acquire("img", now())

    assert "img" == lease.lineage


def test_lease_is_given_back_at_the_end() -> None:
    """Also after a failure, another run can have it at once."""
    state = MemoryState()
    with pytest.raises(ZeroDivisionError), held_lease(state, now, "img"):
        1 / 0  # noqa: B018 - whatever goes wrong

    assert "img" == state.seen_by("another").acquire("img", now()).lineage
