"""The state in a database of SQL tables, but for its leases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from certferry.adapters.state.database import Database
from certferry.adapters.state.declarations import DeclarationTables
from certferry.adapters.state.hosts import HostTables, this_machine
from certferry.adapters.state.notices import NoticeTables
from certferry.adapters.state.orders import OrderTables
from certferry.adapters.state.places import PlaceTables
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.versions import VersionTables
from certferry.errors import StateError, StateUnavailable


class SqlState(
    VersionTables, OrderTables, PlaceTables, NoticeTables, DeclarationTables, HostTables
):
    """Every protocol of `StateStore` but `LeaseStore`: how a lease ends with its process differs
    from database to database. `host` is in the keys of what belongs to this host, `machine` tells
    it from another of that name. With a `problem` the state can be read, and no run can use it.
    """

    def __init__(
        self,
        database: Database,
        sealing: Sealing,
        host: str,
        problem: StateError | None = None,
        machine: str = "",
    ) -> None:
        self._database = database
        self._sealing = sealing
        self.host = host
        self._problem = problem
        self._machine = machine or this_machine()

    def reserve(self, account: str, name: str, interval: timedelta, count: int) -> timedelta | None:
        """See `StateStore.reserve`: one host has this state."""
        del account, name, interval, count
        return None

    def must_unseal(self) -> None:
        """See `StateStore.must_unseal`."""
        if self._problem is not None:
            raise self._problem
        self._sealing.must_open(self._database)

    def is_sealed(self) -> bool:
        """See `StateStore.is_sealed`."""
        return bool(self._database.rows("SELECT 1 FROM sealing"))

    def unopened(self) -> tuple[tuple[str, StateError], ...]:
        """See `StateStore.unopened`."""
        wrong = []
        for subject, read in self._sealed():
            try:
                read()
            except StateUnavailable:
                raise
            except StateError as error:
                wrong.append((subject, error))
        return tuple(wrong)

    def _sealed(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Return whose each sealed key is, and what opens it."""
        for row in self._database.rows("SELECT directory FROM acme_account ORDER BY directory"):
            yield row["directory"], partial(self.account, row["directory"])
        for row in self._database.rows("SELECT lineage FROM acme_order ORDER BY lineage"):
            yield row["lineage"], partial(self.order, row["lineage"])
        query = "SELECT lineage, number FROM version_pem ORDER BY lineage, number"
        for row in self._database.rows(query):
            yield row["lineage"], partial(self.bundle, row["lineage"], row["number"])

    def close(self) -> None:
        """See `StateStore.close`."""
        self._database.close()
