"""The state in a database of SQL tables, but for its leases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from certferry.adapters.state.access import AccessTables
from certferry.adapters.state.binding import foreign_rows
from certferry.adapters.state.columns import to_moment
from certferry.adapters.state.database import Database, Reader, Transaction
from certferry.adapters.state.declarations import DeclarationTables
from certferry.adapters.state.failures import NAME_THE_NEW_ONE
from certferry.adapters.state.hosts import HostTables, this_machine
from certferry.adapters.state.notices import NoticeTables
from certferry.adapters.state.orders import OrderTables
from certferry.adapters.state.places import PlaceTables
from certferry.adapters.state.runs import RunTables
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.versions import VersionTables
from certferry.core.redaction import Secret
from certferry.errors import (
    ConfigError,
    Reported,
    StateError,
    StateForeign,
    StateMoved,
    StateUnavailable,
)
from certferry.text import Text


class SqlState(
    VersionTables,
    OrderTables,
    PlaceTables,
    NoticeTables,
    DeclarationTables,
    HostTables,
    RunTables,
    AccessTables,
):
    """Every protocol of `StateStore` but `LeaseStore`: how a lease ends with its process differs
    from database to database. `host` is in the keys of what belongs to this host, `machine` tells
    it from another of that name. With a `problem` the state can be read, and no run can use it.
    """

    is_shared: bool

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

    @property
    def whole(self) -> tuple[Database, Sealing]:
        """Return what all of it is in, and what opens it."""
        return self._database, self._sealing

    def reserve(self, account: str, name: str, interval: timedelta, count: int) -> timedelta | None:
        """See `StateStore.reserve`."""
        raise NotImplementedError

    def must_unseal(self) -> None:
        if self._problem is not None:
            raise self._problem
        try:
            must_be_in_use(self._database)
        except ConfigError as error:  # a move, since this process opened it
            raise StateMoved(error.message, hint=error.hint) from None
        self._sealing.must_open(self._database)

    def must_be_idle(self, transaction: Transaction) -> None:
        """Raise `LeaseHeld` while a run is in progress, or holds a lease."""
        raise NotImplementedError

    def is_sealed(self) -> bool:
        return bool(self._database.rows("SELECT 1 FROM sealing"))

    def unopened(self) -> tuple[tuple[str, StateError], ...]:
        wrong = []
        for subject, read in self._sealed():
            try:
                read()
            except StateUnavailable:
                raise
            except StateForeign:  # see `foreign`
                continue
            except StateError as error:
                wrong.append((subject, error))
        return tuple(wrong)

    def foreign(self) -> tuple[tuple[str, StateForeign], ...]:
        return self._database.read(lambda reader: tuple(foreign_rows(self._sealing, reader)))

    def _sealed(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Return whose each sealed key is, and what opens it."""
        for row in self._database.rows("SELECT directory FROM acme_account ORDER BY directory"):
            yield row["directory"], partial(self.account, row["directory"])
        for row in self._database.rows("SELECT lineage FROM acme_order ORDER BY lineage"):
            yield row["lineage"], partial(self.order, row["lineage"])
        query = "SELECT lineage, number FROM version_pem ORDER BY lineage, number"
        for row in self._database.rows(query):
            yield row["lineage"], partial(self.bundle, row["lineage"], row["number"])

    def damage(self) -> tuple[Reported, ...]:
        """See `StateStore.damage`: the rows are all there is."""
        return ()

    def key_changed(self, key: Secret) -> None:
        """Go on with the key that every row is sealed with now."""

    def flush(self) -> None:
        """See `StateStore.flush`: each write has stored what it changed."""

    def close(self) -> None:
        self._database.close()


ARRIVING = "from "
"""Stands before the name of the state that a move brings here, until that has ended."""


def mark_of(reader: Reader) -> str | None:
    """Return where a state has been moved, or where it is arriving from (`ARRIVING`); `None` for
    one that is in use.
    """
    rows = reader.rows("SELECT destination FROM moved")
    return next((str(row["destination"]) for row in rows), None)


def must_be_in_use(database: Database) -> None:
    """Raise `ConfigError` for a state that was moved, or that a move has not finished."""
    for row in database.rows("SELECT destination, at FROM moved"):
        mark, place = row["destination"], database.place
        if mark.startswith(ARRIVING):
            said = Text("the move of the state from {origin} to {place} did not end")
            raise ConfigError(
                said.filled(origin=mark.removeprefix(ARRIVING), place=place),
                hint=Text("run the same `certferry state move` again, where the state was before"),
            )
        said = Text("the state in {place} was moved to {destination} at {moment}")
        raise ConfigError(
            said.filled(place=place, destination=mark, moment=to_moment(row["at"])),
            hint=NAME_THE_NEW_ONE,
        )
