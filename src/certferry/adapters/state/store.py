"""The state in SQL tables: one class with all tables except leases, and the mark of a
moved state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial

from certferry.adapters.state.access_tables import AccessTables
from certferry.adapters.state.columns import Value, to_moment
from certferry.adapters.state.database import Database, Reader, Row, Transaction
from certferry.adapters.state.declarations import DeclarationTables
from certferry.adapters.state.failures import NAME_THE_NEW_ONE
from certferry.adapters.state.host_tables import HostTables, this_machine
from certferry.adapters.state.lasting import undone
from certferry.adapters.state.log_tables import LogTables
from certferry.adapters.state.notice_tables import NoticeTables
from certferry.adapters.state.order_tables import OrderTables
from certferry.adapters.state.row_proofs import MOVED, foreign_rows
from certferry.adapters.state.run_tables import RunTables
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.structure import differences
from certferry.adapters.state.unreadable import unreadable_rows
from certferry.adapters.state.version_tables import VersionTables
from certferry.adapters.state.watch_tables import WatchTables
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
    NoticeTables,
    DeclarationTables,
    HostTables,
    LogTables,
    WatchTables,
    RunTables,
    AccessTables,
):
    """Every protocol of `StateStore` except `LeaseStore`.

    Subclasses add the leases, because each kind of database ends the lease of a dead process in its
    own way. `machine` distinguishes this host from another host with the same name. `problem` is an
    error that lets commands read the state, but stops a run (`must_unseal`).
    """

    #: Whether several hosts share the state.
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
    def database_and_sealing(self) -> tuple[Database, Sealing]:
        """Return the state's database, and the sealing that opens the database's secrets."""
        return self._database, self._sealing

    def reserve(self, account: str, name: str, interval: timedelta, count: int) -> timedelta | None:
        """See `StateStore.reserve`."""
        raise NotImplementedError

    def must_unseal(self) -> None:
        if self._problem is not None:
            raise self._problem
        try:
            must_be_in_use(self._database, self._sealing)
        except ConfigError as error:  # the state was moved after this process opened the state
            raise StateMoved(error.message, hint=error.hint) from None
        self._sealing.must_open(self._database)

    def must_be_idle(self, transaction: Transaction) -> None:
        """Raise `LeaseHeld` if a run is in progress or holds a lease."""
        raise NotImplementedError

    def is_sealed(self) -> bool:
        return bool(self._database.rows("SELECT 1 FROM sealing"))

    def unopened(self) -> tuple[tuple[str, StateError], ...]:
        wrong = []
        for subject, open_key in self._sealed():
            try:
                open_key()
            except StateUnavailable:
                raise
            except StateForeign:  # see `foreign`
                continue
            except StateError as error:
                wrong.append((subject, error))
        return tuple(wrong)

    def foreign(self) -> tuple[tuple[str, StateForeign], ...]:
        def read(reader: Reader) -> tuple[tuple[str, StateForeign], ...]:
            return (
                *foreign_rows(self._sealing, reader),
                *unreadable_rows(reader, self._database.dialect),
                *undone(self._sealing, reader),
            )

        return self._database.read(read)

    def _sealed(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Return the subject of each sealed key, and a function that opens the key."""
        for row in self._database.rows("SELECT directory FROM acme_account ORDER BY directory"):
            yield row["directory"], partial(self.account, row["directory"])
        for row in self._database.rows("SELECT lineage FROM acme_order ORDER BY lineage"):
            yield row["lineage"], partial(self.order, row["lineage"])
        query = "SELECT lineage, number FROM version_pem ORDER BY lineage, number"
        for row in self._database.rows(query):
            yield row["lineage"], partial(self.bundle, row["lineage"], row["number"])

    def damage(self) -> tuple[Reported, ...]:
        """See `StateStore.damage`: compare the tables with the tables of a new state."""
        return tuple(differences(self._database))

    def key_changed(self, key: Secret) -> None:
        """Called after every row has been sealed anew with `key`. Does nothing here; a subclass
        that itself encrypts with the key uses `key` from now on.
        """

    def flush(self) -> None:
        """See `StateStore.flush`: each write has been stored already."""

    def close(self) -> None:
        self._database.close()


ARRIVING = "from "
"""The prefix of `moved.destination` in a new state, until the move from the old state has ended."""


def mark_of(database: Database, sealing: Sealing) -> Row | None:
    """Return the row that marks a moved state, with the destination, or that marks the destination
    of an unfinished move, with the origin (`ARRIVING`). Return `None` for a state in use. Raises
    `StateForeign` for a row of another program, which could lead an operator to another state.
    """
    for row in database.rows("SELECT * FROM moved"):
        with suppress(StateError):
            if MOVED.is_ours(sealing, row):
                return row
        raise StateForeign(
            Text(
                "the state in {place} is marked as moved, but its key does not prove the mark",
                place=database.place,
            ),
            hint=Text(
                "if the state was moved, set `url` of [state] to the new place; if not, check who"
                " else can write to the database, and delete the mark: DELETE FROM moved;"
            ),
        )
    return None


def mark(transaction: Transaction, sealing: Sealing, destination: str, at: str) -> None:
    """Store the destination of a moved state, or the origin of an arriving state."""
    row: dict[str, Value] = {"destination": destination, "at": at}
    proof = sealing.prove(transaction, *MOVED.bound_to(row))
    transaction.add(MOVED.table, **row, proof=proof)


def must_be_in_use(database: Database, sealing: Sealing) -> None:
    """Raise `ConfigError` for a moved state, and for the destination of an unfinished move. Raises
    as `mark_of`.
    """
    row = mark_of(database, sealing)
    if row is None:
        return
    destination, place = row["destination"], database.place
    if destination.startswith(ARRIVING):
        message = Text("the move of the state from {origin} to {place} was interrupted")
        raise ConfigError(
            message.filled(origin=destination.removeprefix(ARRIVING), place=place),
            hint=Text("on the state's previous host, run the same `certferry state move` again"),
        )
    message = Text("the state in {place} was moved to {destination} at {moment}")
    raise ConfigError(
        message.filled(place=place, destination=destination, moment=to_moment(row["at"])),
        hint=NAME_THE_NEW_ONE,
    )
