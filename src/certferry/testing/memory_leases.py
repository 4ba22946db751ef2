"""The leases of a state in memory, as one process holds them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from certferry.errors import LeaseHeld, LeaseLost
from certferry.ports.state import Lease
from certferry.testing.memory_rows import Holding, Memory
from certferry.text import Text


def _everybody_lives(process: str) -> bool:
    del process
    return True


class MemoryLeases:
    """Leases in a memory that several processes share."""

    def __init__(
        self, is_alive: Callable[[str], bool] = _everybody_lives, process: str = "this process"
    ) -> None:
        self._is_alive = is_alive
        self._process = process
        self._memory = Memory()

    def acquire(self, lineage: str, now: datetime) -> Lease:
        """Take the lease of a lineage. Raises `LeaseHeld`."""
        with self._memory.lock:
            held = self._memory.holdings.get(lineage)
            if held is not None and self._is_alive(held.process):
                raise _held(lineage, held)
            token = self._memory.tokens.get(lineage, 0) + 1
            holder = f"{self._process}/{lineage}/{token}"
            self._memory.tokens[lineage] = token
            self._memory.holdings[lineage] = Holding(self._process, holder, now)
            return Lease(lineage, holder, token)

    def extend(self, lease: Lease) -> None:
        """Make sure that a lease is still in force. Raises `LeaseLost`."""
        with self._memory.lock:
            self._must_be_in_force(lease)

    def release(self, lease: Lease) -> None:
        """Give a lease back. A lost one is let go silently."""
        with self._memory.lock:
            if self._is_in_force(lease):
                del self._memory.holdings[lease.lineage]

    def _must_be_in_force(self, lease: Lease) -> None:
        if not self._is_in_force(lease):
            raise LeaseLost(Text("{lineage}: another run has taken over", lineage=lease.lineage))

    def _is_in_force(self, lease: Lease) -> bool:
        found = self._memory.holdings.get(lease.lineage)
        return found is not None and found.holder == lease.holder


def _held(lineage: str, held: Holding) -> LeaseHeld:
    return LeaseHeld(
        Text(
            "{lineage}: {holder} has been at work since {since}",
            lineage=lineage,
            holder=held.process,
            since=held.since,
        ),
        hint=Text("try again when it has ended"),
    )
