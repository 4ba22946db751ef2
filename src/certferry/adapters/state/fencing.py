"""Fencing: refuse the writes of a run that has lost the lease."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate

from certferry.adapters.state.database import Dialect, P, Reader, Some, T, Transaction
from certferry.errors import LeaseLost
from certferry.ports.state import Lease
from certferry.text import Text


def fenced(
    method: Callable[Concatenate[Some, Transaction, Lease, P], T],
) -> Callable[Concatenate[Some, Lease, P], T]:
    """Decorate a method that writes and needs a lineage's lease. The method runs as one transaction
    of `Database.run`, and the transaction first checks the given lease. Raises `LeaseLost`.
    """

    @wraps(method)
    def run(self: Some, lease: Lease, /, *args: P.args, **named: P.kwargs) -> T:
        database = self._database

        def write(transaction: Transaction) -> T:
            must_be_in_force(transaction, database.dialect, lease)
            return method(self, transaction, lease, *args, **named)

        return database.run(write)

    return run


def must_be_in_force(reader: Reader, dialect: Dialect, lease: Lease) -> None:
    """Raise `LeaseLost` if another holder has taken the lease, or if the lease has ended by the
    database's clock. A lease held by a file lock has no end. The query locks the lease's row, so no
    other holder can take the lease before the transaction ends.
    """
    query = (
        "SELECT 1 FROM lease WHERE lineage = ? AND holder = ? AND token = ?"  # noqa: S608 - a dialect's constants
        f" AND (until IS NULL OR until > {dialect.clock}){dialect.share}"
    )
    if not reader.rows(query, lease.lineage, lease.holder, lease.token):
        raise taken_over(lease)


def taken_over(lease: Lease) -> LeaseLost:
    """Return the error for the former holder of a lease."""
    return LeaseLost(
        Text("{lineage}: another run has taken over", lineage=lease.lineage),
        hint=Text("this run wrote nothing; the other run continues"),
    )
