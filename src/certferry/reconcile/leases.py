"""Hold a lease for as long as the work under it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from certferry.ports.state import Lease, StateStore


@contextmanager
def held_lease(state: StateStore, now: Callable[[], datetime], lineage: str) -> Iterator[Lease]:
    """Hold the lease of a lineage for a `with` block. Raises `LeaseHeld`."""
    lease = state.acquire(lineage, now())
    try:
        yield lease
    finally:
        state.release(lease)
