"""The ledger of a state in memory: orders that count, failed proofs, and what CAs asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from certferry.core.certificates.names import base_name
from certferry.core.planning.limits import (
    KEPT,
    FailedProof,
    Hold,
    Limits,
    PastOrder,
    Spent,
    Wanted,
    held_back,
)


@dataclass(slots=True)
class _Kept:
    directory: str
    lineage: str
    order: PastOrder


@dataclass(slots=True)
class MemoryLedger:
    """What the tables of the real one hold. It is called under the lock of the state."""

    _orders: list[_Kept] = field(default_factory=list)
    _failed: list[tuple[str, FailedProof]] = field(default_factory=list)
    _holds: dict[tuple[str, tuple[str, ...]], Hold] = field(default_factory=dict)

    def spent(self, directory: str, wanted: Wanted) -> Spent:
        """See `StateStore.spent`."""
        names = _set_of(wanted.names)
        bases = {base_name(name) for name in names}
        orders = [kept.order for kept in self._orders if kept.directory == directory]
        failed = [one for where, one in self._failed if where == directory and one.name in bases]
        holds = sorted((key, hold) for key, hold in self._holds.items() if key[0] == directory)
        return Spent(
            tuple(
                order
                for order in orders
                if order.names == names or not (order.renews or wanted.renews)
            ),
            tuple(sorted(failed, key=lambda one: (one.at, one.name))),
            tuple(hold for _, hold in holds if hold.for_all or hold.names == names),
        )

    def claim(
        self, lineage: str, directory: str, wanted: Wanted, limits: Limits, now: datetime
    ) -> None:
        """See `StateStore.claim_order`."""
        error = held_back(limits, self.spent(directory, wanted), wanted, now)
        if error is not None:
            raise error
        self.give_up(lineage, directory)
        if not wanted.exempt:
            self._orders = [k for k in self._orders if k.order.ordered_at >= now - KEPT]
            order = PastOrder(_set_of(wanted.names), now, wanted.renews)
            self._orders.append(_Kept(directory, lineage, order))

    def note_issued(self, lineage: str, now: datetime) -> None:
        """Write down that the order under way has led to a certificate."""
        for kept in self._under_way(lineage):
            kept.order = replace(kept.order, issued_at=now)

    def close(self, lineage: str, issued_at: datetime | None) -> None:
        """Write down how the order under way has ended."""
        if issued_at is not None:
            self.note_issued(lineage, issued_at)
        self.give_up(lineage)

    def give_up(self, lineage: str, directory: str | None = None) -> None:
        """Write down that the order under way, at a directory or any, leads to no certificate."""
        for kept in self._under_way(lineage):
            if directory in {None, kept.directory}:
                kept.order = replace(kept.order, given_up=True)

    def fail(self, directory: str, names: tuple[str, ...], now: datetime) -> None:
        """See `StateStore.save_failed_proofs`."""
        bases = sorted({base_name(name) for name in names})
        self._failed = [one for one in self._failed if one[1].at >= now - KEPT]
        self._failed += [(directory, FailedProof(name, now)) for name in bases]

    def hold(self, directory: str, hold: Hold) -> None:
        """See `StateStore.save_hold`."""
        names = _set_of(hold.names)
        oldest = hold.told_at - KEPT
        self._holds = {key: one for key, one in self._holds.items() if one.until >= oldest}
        self._holds[directory, names] = replace(hold, names=names)

    def _under_way(self, lineage: str) -> list[_Kept]:
        return [
            kept
            for kept in self._orders
            if kept.lineage == lineage and kept.order.issued_at is None and not kept.order.given_up
        ]


def _set_of(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
