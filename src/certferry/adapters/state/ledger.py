"""What was ordered at each directory, and what the CA said of it, for the budget of all runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from certferry.adapters.state.columns import (
    from_moment,
    from_names,
    to_moment,
    to_names,
    to_optional_moment,
)
from certferry.adapters.state.database import Connection, Database
from certferry.adapters.state.leases import must_be_in_force
from certferry.core.certificates.names import base_name, registered_domain
from certferry.core.planning.limits import (
    KEPT,
    MOST_ORDERS,
    FailedProof,
    Hold,
    Limits,
    PastOrder,
    PlannedOrder,
    Spent,
    rate_limit_hold,
)
from certferry.ports.state import Lease

_COLUMNS = "names, ordered_at, renews, issued_at, given_up"


class Ledger:
    """Orders, failed proofs and holds, by directory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def spent(self, directory: str, wanted: PlannedOrder) -> Spent:
        """See `StateStore.spent`."""
        with self._database.snapshot():
            return self._read(directory, wanted)

    def claim_order(
        self, lease: Lease, directory: str, wanted: PlannedOrder, limits: Limits, now: datetime
    ) -> None:
        """See `StateStore.claim_order`."""
        with self._database.transaction(serializable=True) as connection:
            must_be_in_force(connection, lease)
            error = rate_limit_hold(limits, self._read(directory, wanted), wanted, now)
            if error is not None:
                raise error
            give_up(connection, lease.lineage, directory)
            if not wanted.exempt:
                self._insert(connection, lease.lineage, directory, wanted, now)

    def save_failed_proofs(self, directory: str, names: tuple[str, ...], now: datetime) -> None:
        """See `StateStore.save_failed_proofs`."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM failed_proof WHERE failed_at < ?", (from_moment(now - KEPT),)
            )
            for name in sorted({base_name(name) for name in names}):
                connection.execute(
                    "INSERT INTO failed_proof (directory, name, failed_at) VALUES (?, ?, ?)",
                    (directory, name, from_moment(now)),
                )

    def save_hold(self, directory: str, hold: Hold) -> None:
        """See `StateStore.save_hold`."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM hold WHERE until < ?", (from_moment(hold.told_at - KEPT),)
            )
            connection.execute(
                "INSERT INTO hold (directory, names, told_at, until, for_all)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (directory, names) DO UPDATE"
                " SET told_at = excluded.told_at, until = excluded.until,"
                " for_all = excluded.for_all",
                (
                    directory,
                    _set_of(hold.names),
                    from_moment(hold.told_at),
                    from_moment(hold.until),
                    int(hold.for_all),
                ),
            )

    def _read(self, directory: str, wanted: PlannedOrder) -> Spent:
        orders = self._orders(directory, wanted)
        names = sorted({base_name(name) for name in wanted.names})
        places = ", ".join("?" * len(names))
        failed = self._database.rows(
            f"SELECT name, failed_at FROM failed_proof WHERE directory = ? AND name IN ({places})"  # noqa: S608 - places only
            " ORDER BY failed_at, name",
            directory,
            *names,
        )
        holds = self._database.rows(
            "SELECT names, told_at, until, for_all FROM hold WHERE directory = ?"
            " AND (for_all = 1 OR names = ?) ORDER BY names",
            directory,
            _set_of(wanted.names),
        )
        return Spent(
            tuple(
                PastOrder(
                    to_names(names),
                    to_moment(ordered_at),
                    bool(renews),
                    to_optional_moment(issued_at),
                    bool(given_up),
                )
                for names, ordered_at, renews, issued_at, given_up in orders
            ),
            tuple(FailedProof(name, to_moment(at)) for name, at in failed),
            tuple(
                Hold(to_names(names), to_moment(told_at), to_moment(until), bool(for_all))
                for names, told_at, until, for_all in holds
            ),
        )

    def _orders(self, directory: str, wanted: PlannedOrder) -> Sequence[tuple[Any, ...]]:
        """Read the orders that decide: with a hundred thousand certificates, the others of a month
        would take a second, for each that waits.
        """
        which, values = "names = ?", [_set_of(wanted.names)]
        if not wanted.renews:
            domains = sorted({registered_domain(name) for name in wanted.names})
            like = " OR names LIKE ?" * len(domains)
            which = f"(names = ? OR (renews = 0 AND (ordered_at >= ?{like})))"
            values += [self._last_that_count(directory), *(f'%{name}"%' for name in domains)]
        return self._database.rows(
            f"SELECT {_COLUMNS} FROM issuance WHERE directory = ? AND {which} ORDER BY number",  # noqa: S608 - places only
            directory,
            *values,
        )

    def _last_that_count(self, directory: str) -> str:
        """Return since when so many orders were made as any limit by account counts."""
        found = self._database.rows(
            "SELECT ordered_at FROM issuance WHERE directory = ? AND renews = 0"
            " ORDER BY ordered_at DESC LIMIT 1 OFFSET ?",
            directory,
            MOST_ORDERS - 1,
        )
        return next((str(at) for (at,) in found), "")

    def _insert(
        self,
        connection: Connection,
        lineage: str,
        directory: str,
        wanted: PlannedOrder,
        now: datetime,
    ) -> None:
        connection.execute(
            "DELETE FROM issuance WHERE directory = ? AND ordered_at < ?",
            (directory, from_moment(now - KEPT)),
        )
        connection.execute(
            "INSERT INTO issuance (number, directory, lineage, names, renews, ordered_at)"
            " SELECT COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ? FROM issuance",
            (directory, lineage, _set_of(wanted.names), int(wanted.renews), from_moment(now)),
        )


def note_issued(connection: Connection, lineage: str, now: datetime) -> None:
    """Write down, inside a write, that the order under way has led to a certificate."""
    connection.execute(
        "UPDATE issuance SET issued_at = ?"
        " WHERE lineage = ? AND issued_at IS NULL AND given_up = 0",
        (from_moment(now), lineage),
    )


def give_up(connection: Connection, lineage: str, directory: str | None = None) -> None:
    """Write down, inside a write, that the order under way leads to no certificate: that at a
    directory, or any.
    """
    connection.execute(
        "UPDATE issuance SET given_up = 1 WHERE lineage = ? AND issued_at IS NULL"
        " AND COALESCE(?, directory) = directory",
        (lineage, directory),
    )


def _set_of(names: tuple[str, ...]) -> str:
    return from_names(tuple(sorted(set(names))))
