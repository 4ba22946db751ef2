"""The budget of a state in memory: the part of the twin that counts orders."""

from __future__ import annotations

from datetime import datetime

from certferry.core.planning.limits import Hold, Limits, Spent, Wanted
from certferry.ports.state import Lease
from certferry.testing.memory_leases import MemoryLeases


class BudgetOfMemory(MemoryLeases):
    """What `StateStore` says of the budget, in a memory that several processes share."""

    def spent(self, directory: str, wanted: Wanted) -> Spent:
        """See `StateStore.spent`."""
        with self._memory.lock:
            return self._memory.ledger.spent(directory, wanted)

    def claim_order(
        self, lease: Lease, directory: str, wanted: Wanted, limits: Limits, now: datetime
    ) -> None:
        """See `StateStore.claim_order`."""
        with self._memory.lock:
            self.extend(lease)
            self._memory.ledger.claim(lease.lineage, directory, wanted, limits, now)

    def save_failed_proofs(self, directory: str, names: tuple[str, ...], now: datetime) -> None:
        """See `StateStore.save_failed_proofs`."""
        with self._memory.lock:
            self._memory.ledger.fail(directory, names, now)

    def save_hold(self, directory: str, hold: Hold) -> None:
        """See `StateStore.save_hold`."""
        with self._memory.lock:
            self._memory.ledger.hold(directory, hold)
