"""Fencing: what a run that lost its lease still writes changes nothing."""

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
    """Carry out a method as a function of `Database.run`, unless its lease is not in force there
    (`LeaseLost`). Every write that needs its lineage's lease goes through here.
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
    """Raise `LeaseLost` when another holder has come since, or the lease's time is over by the
    database's clock. One that is held by a lock has no such time. In a write it stays in force
    until the write's end: no other host takes it in between.
    """
    query = (
        "SELECT 1 FROM lease WHERE lineage = ? AND holder = ? AND token = ?"  # noqa: S608 - a dialect's constants
        f" AND (until IS NULL OR until > {dialect.clock}){dialect.share}"
    )
    if not reader.rows(query, lease.lineage, lease.holder, lease.token):
        raise taken_over(lease)


def taken_over(lease: Lease) -> LeaseLost:
    """Return the error for a holder whose lease is not in force any more."""
    return LeaseLost(
        Text("{lineage}: another run has taken over", lineage=lease.lineage),
        hint=Text("nothing of this run was written; the other one goes on"),
    )
