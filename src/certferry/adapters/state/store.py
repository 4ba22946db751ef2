"""The state in a database of SQL tables, but for its leases."""

from __future__ import annotations

from datetime import timedelta

from certferry.adapters.state.database import Database
from certferry.adapters.state.declarations import DeclarationTables
from certferry.adapters.state.notices import NoticeTables
from certferry.adapters.state.orders import OrderTables
from certferry.adapters.state.places import PlaceTables
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.versions import VersionTables
from certferry.errors import StateError


class SqlState(VersionTables, OrderTables, PlaceTables, NoticeTables, DeclarationTables):
    """Every protocol of `StateStore` but `LeaseStore`: how a lease ends with its process differs
    from database to database. `host` is in the keys of what belongs to this host. With a `problem`
    the state can be read, and no run can use it.
    """

    def __init__(
        self, database: Database, sealing: Sealing, host: str, problem: StateError | None = None
    ) -> None:
        self._database = database
        self._sealing = sealing
        self.host = host
        self._problem = problem

    def reserve(self, account: str, name: str, interval: timedelta, count: int) -> timedelta | None:
        """See `StateStore.reserve`: one host has this state."""
        del account, name, interval, count
        return None

    def must_unseal(self) -> None:
        """See `StateStore.must_unseal`."""
        if self._problem is not None:
            raise self._problem
        self._sealing.must_open(self._database)

    def close(self) -> None:
        """See `StateStore.close`."""
        self._database.close()
