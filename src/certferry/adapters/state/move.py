"""Changes to a whole state: a move to another state, and a change of the key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from certferry.adapters.state import connect as states
from certferry.adapters.state.columns import Value, from_moment
from certferry.adapters.state.database import Dialect, Reader, Row, T, Transaction
from certferry.adapters.state.failures import MOVED
from certferry.adapters.state.row_proofs import PROOF_RULES
from certferry.adapters.state.sealing import Key, Sealing, add_new_key, change_key, key_of, put_key
from certferry.adapters.state.store import ARRIVING, SqlState, mark, mark_of, must_be_in_use
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, StateError, StateForeign, StateTooNew
from certferry.text import Text

_PAGE = 500
"""How many rows one statement reads or writes, so a statement takes a fraction of a second."""

_FEW = {"run_report": 10}
"""How many rows instead of `_PAGE`, by table, if a row may have megabytes."""

_NOT_CARRIED = frozenset({"certferry_migration", "certferry_schema", "moved", "sealing"})
"""Tables that a move leaves out, because their rows concern only the state itself."""

_NOT_OF_LEASES = ("holder", "since", "until")
"""Columns of a lease that a move empties; the token is kept."""


class Sealed(Struct, frozen=True):
    """A column with sealed text. A proof is an empty text, sealed."""

    table: str
    column: str
    #: The first word bound to the text.
    kind: str
    #: The columns whose values are bound to the text after `kind`.
    bound_to: tuple[str, ...]

    def of_row(self, row: Row) -> tuple[Value, ...]:
        """Return the values bound to the text of a row."""
        return (self.kind, *(row[name] for name in self.bound_to))


_PROOF = "proof"
SEALED = (
    Sealed("version_pem", "sealed_privkey_pem", "version", ("lineage", "fingerprint")),
    Sealed("acme_account", "sealed_key_pem", "account", ("directory",)),
    Sealed("acme_account", "sealed_next_key_pem", "next account key", ("directory",)),
    Sealed("acme_order", "sealed_key_pem", "order", ("lineage", "url")),
    *(Sealed(rule.table, _PROOF, rule.kind, rule.columns) for rule in PROOF_RULES),
)
_FINGERPRINT = (
    ", (SELECT fingerprint FROM version WHERE version.lineage = version_pem.lineage"
    " AND version.number = version_pem.number) AS fingerprint"
)


class Address(Struct, frozen=True):
    """The location of a state, and the key to open the state."""

    url: states.Location
    #: The key, or the path of the key file.
    key: Path | Secret
    #: The password of the database server.
    password: Secret | None = None


class Moved(Struct, frozen=True):
    """The result of a move."""

    origin: Path | str
    destination: Path | str
    #: How many rows each table has.
    rows: Mapping[str, int]
    #: The names of the hosts in the moved state.
    hosts: tuple[str, ...]


class Rotated(Struct, frozen=True):
    """The result of a change of the key."""

    #: How many keys and proofs were sealed anew.
    count: int
    #: The names of the keys and proofs that the old key did not open. These are unchanged.
    left: tuple[Text, ...]


class _Table(Struct, frozen=True):
    """A table in the schema of a state."""

    name: str
    #: All columns, sorted by name.
    columns: tuple[str, ...]
    #: The columns of the primary key, in order.
    key: tuple[str, ...]
    #: The columns that hold true or false.
    flags: frozenset[str]
    #: Statements that set the number of the next row, after rows were copied.
    renumber: tuple[str, ...]

    @property
    def sealed(self) -> tuple[Sealed, ...]:
        """Return the table's sealed columns."""
        return tuple(column for column in SEALED if column.table == self.name)

    def pages(self, reader: Reader) -> Iterator[Sequence[Row]]:
        """Return the rows page by page, in the order of the key. A table without a key is small,
        and is read as a single page.
        """
        shown = ", ".join(self.columns) + _FINGERPRINT * (self.name == "version_pem")
        order = ", ".join(self.key or self.columns)
        places = ", ".join("?" * len(self.key))
        most = _FEW.get(self.name, _PAGE)
        limit = f"LIMIT {most}" if self.key else ""
        condition, after = "", ()
        while True:
            query = f"SELECT {shown} FROM {self.name} {condition} ORDER BY {order} {limit}"  # noqa: S608 - names of the schema
            rows = reader.rows(query, *after)
            yield rows
            if not self.key or len(rows) < most:
                return
            condition = f"WHERE ({order}) > ({places})"
            after = tuple(rows[-1][name] for name in self.key)


def _tables(reader: Reader, dialect: Dialect) -> tuple[_Table, ...]:
    """Return the tables of a state, sorted by name. In this order, each table comes after the
    tables that the table refers to.
    """
    ours = {row["name"] for row in reader.rows(dialect.tables)}
    columns_of: dict[str, list[Row]] = {}
    for row in reader.rows(dialect.columns):
        if row["table_name"] in ours:
            columns_of.setdefault(row["table_name"], []).append(row)
    return tuple(
        _Table(
            name,
            tuple(sorted(row["name"] for row in columns_of[name])),
            tuple(row["name"] for row in columns_of[name] if row["place"]),
            frozenset(row["name"] for row in columns_of[name] if row["is_flag"]),
            tuple(row["renumber"] for row in columns_of[name] if row["renumber"]),
        )
        for name in sorted(columns_of)
    )


def _carried(tables: Sequence[_Table]) -> list[_Table]:
    return [table for table in tables if table.name not in _NOT_CARRIED]


def _plain(table: _Table, row: Row, key: Key | None) -> dict[str, Any]:
    """Return a row's values, with the sealed texts opened by `key`. An opened text becomes a list
    with a single string. A text that `key` does not open remains a string, as sealed. For a lease,
    the holder is left out.
    """
    plain = {name: row[name] for name in table.columns}
    plain |= {name: bool(plain[name]) for name in table.flags if plain[name] is not None}
    if table.name == "lease":
        plain |= dict.fromkeys(_NOT_OF_LEASES)
    for sealed in table.sealed:
        if row[sealed.column] is None or key is None:
            continue
        text = key.open(row[sealed.column], *sealed.of_row(row))
        if text is not None:
            plain[sealed.column] = [text]
    return plain


def _sealed(table: _Table, row: Row, plain: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """Return a row's values, with opened texts sealed by `key`."""
    opened = [sealed for sealed in table.sealed if isinstance(plain[sealed.column], list)]
    anew = {
        sealed.column: key.seal(plain[sealed.column][0], *sealed.of_row(row)) for sealed in opened
    }
    return {**plain, **anew}


def _must_open(table: _Table, plain: Mapping[str, Any]) -> None:
    """Raise `StateError` for a secret that could not be opened. A proof that could not be opened
    passes: the row counts as another program's row, in both states.
    """
    for sealed in table.sealed:
        if sealed.column != _PROOF and isinstance(plain[sealed.column], str):
            raise StateError(
                Text("{text} does not open", text=_named(table, plain, sealed.column)),
                hint=Text("`certferry state check` shows the fix; then run the same command again"),
            )


def _named(table: _Table, row: Mapping[str, Any], column: str) -> Text:
    whose = [str(row[name]) for name in table.key]
    return Text("{column} of {row}", column=f"{table.name}.{column}", row=whose)


class _Tally:
    """The number of rows in each table, and a digest of the rows in order."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self._digests: dict[str, bytes] = {}

    def add(self, table: str, plain: Mapping[str, Any]) -> None:
        """Count a row, and add the row to the table's digest."""
        self.rows[table] = self.rows.get(table, 0) + 1
        text = json.dumps(plain, sort_keys=True).encode()
        self._digests[table] = hashlib.sha256(self._digests.get(table, b"") + text).digest()

    def difference(self, other: _Tally) -> str | None:
        """Return the first table with different rows, or `None` if all are equal."""
        mine, theirs = self._digests, other._digests
        return next(
            (name for name in sorted(mine | theirs) if mine.get(name) != theirs.get(name)), None
        )


def _tally(reader: Reader, state: SqlState) -> _Tally:
    """Return the tally of a whole state, to compare with the tally of `_copy`."""
    database, sealing = state.database_and_sealing
    key, tally = sealing.must_open(reader), _Tally()
    for table in _carried(_tables(reader, database.dialect)):
        for page in table.pages(reader):
            for row in page:
                tally.add(table.name, _plain(table, row, key))
    return tally


def _alone(state: SqlState, function: Callable[[Transaction, tuple[_Table, ...]], T]) -> T:
    """Carry out a function, given the tables, in a transaction that excludes other writers and new
    runs. Return the function's result. Raises `LeaseHeld` while a run is in progress.
    """
    database, _ = state.database_and_sealing

    def carry_out(transaction: Transaction) -> T:
        tables = _tables(transaction, database.dialect)
        for statement in database.dialect.alone([table.name for table in tables]):
            transaction.execute(statement)
        state.must_be_idle(transaction)
        return function(transaction, tables)

    return database.change_schema(carry_out)


# --- Move to another state


def move(origin: Address, destination: Address, host: str, now: datetime) -> Moved:
    """Move a state to an empty or absent destination.

    1. Make an empty state at the destination, with the host `host`.
    2. Copy every row, and mark the destination as arriving, so runs refuse the destination.
    3. Read the copy back, and mark the origin as moved, so runs refuse the origin.
    4. Delete the destination's mark.

    After an interruption, the same call starts over; if step 3 was complete, the call only deletes
    the destination's mark. Raises `LeaseHeld` while a run is in progress, `ConfigError` and
    `StateError`.
    """
    with closing(_opened(origin, host)) as here:
        name, rows, at = _name(here), None, here.now() if here.is_shared else now
        marked = mark_of(*here.database_and_sealing)
        if marked is None:
            rows = _alone(
                here,
                lambda transaction, tables: _carry(
                    transaction, tables, here, destination, host, at
                ),
            )
        elif not _lacks_its_end(here, marked["destination"], destination, host):
            must_be_in_use(*here.database_and_sealing)
    # Closing the origin has stored the origin's mark, so the destination's mark may go.
    with closing(_opened(destination, host)) as there:
        other, _ = there.database_and_sealing
        counts = rows or other.read(lambda reader: _tally(reader, there)).rows
        other.run(lambda transaction: transaction.execute("DELETE FROM moved"))
        hosts = other.rows("SELECT name FROM host ORDER BY name")
        return Moved(name, _name(there), counts, tuple(row["name"] for row in hosts))


def _opened(address: Address, host: str) -> SqlState:
    return states.open_whole(address.url, address.key, host=host, password=address.password)


@contextmanager
def _any(address: Address, host: str) -> Iterator[SqlState | None]:
    """Open a state for a `with` block; yield `None` if opening raises `ConfigError`."""
    try:
        state = _opened(address, host)
    except ConfigError:
        yield None
        return
    with closing(state):
        yield state


def _lacks_its_end(here: SqlState, mark: str, destination: Address, host: str) -> bool:
    """Return whether the mark of the origin names this destination, and the destination still has
    the mark of an unfinished move. Then only that mark has to be deleted.
    """
    with _any(destination, host) as there:
        return there is not None and _name(there) == mark and _has_left(here, there)


def _has_left(here: SqlState, there: SqlState) -> bool:
    """Return whether the state `there` is marked as the destination of an unfinished move from the
    state `here`.
    """
    try:
        marked = mark_of(*there.database_and_sealing)
    except StateForeign:  # perhaps the mark of a move with another key
        return False
    return marked is not None and marked["destination"] == ARRIVING + _name(here)


def _name(state: SqlState) -> str:
    """Return a state's name in marks, without a password."""
    database, _ = state.database_and_sealing
    place = database.place
    return str(place.resolve() if isinstance(place, Path) else place)


def _carry(
    transaction: Transaction,
    tables: Sequence[_Table],
    here: SqlState,
    destination: Address,
    host: str,
    now: datetime,
) -> Mapping[str, int]:
    """Copy all rows, read the copy back, and mark the origin. Return the number of rows
    by table.
    """
    _make_room(destination, here, host)
    with closing(_opened(destination, host)) as there:
        other, _ = there.database_and_sealing
        sent = other.change_schema(
            lambda arriving: _copy(transaction, tables, here, arriving, there, from_moment(now))
        )
    with closing(_opened(destination, host)) as there:  # read back after a new opening
        other, _ = there.database_and_sealing
        wrong = sent.difference(other.read(lambda reader: _tally(reader, there)))
        if wrong is not None:
            message = Text("the table {table} in {place} differs from the original")
            raise StateError(
                message.filled(place=other.place, table=wrong),
                hint=Text(
                    "nothing was changed here; check which other program writes there, and run"
                    " the command again"
                ),
            )
        name = _name(there)
    database, sealing = here.database_and_sealing
    mark(transaction, sealing, name, from_moment(now))
    stopped = [table.name for table in tables if table.name != "moved"]
    for statement in database.dialect.stop(stopped, MOVED + name):
        transaction.execute(statement)
    return sent.rows


def _make_room(destination: Address, here: SqlState, host: str) -> None:
    """Make an empty state at a destination; remove the remains of an interrupted move first. Raises
    `ConfigError` if another state is there.
    """
    with _any(destination, host) as there:
        if there is not None:
            database, _ = there.database_and_sealing
            if _name(here) == _name(there):
                raise ConfigError(Text("the state is already in {place}", place=database.place))
            if _has_left(here, there):
                tables = _tables(database, database.dialect)
                dropped = database.dialect.drop([table.name for table in reversed(tables)])
                database.change_schema(lambda emptied: [*map(emptied.execute, [*dropped])])
    states.prepare(
        destination.url, destination.key, host=host, init=True, password=destination.password
    )
    with closing(_opened(destination, host)) as there:
        database, _ = there.database_and_sealing
        for table in _carried(_tables(database, database.dialect)):
            if table.name != "host" and database.rows(f"SELECT 1 FROM {table.name} LIMIT 1"):  # noqa: S608 - a name of the schema
                raise ConfigError(
                    Text("{place} already holds a state", place=database.place),
                    hint=Text("give an empty database, or a new file"),
                )


def _copy(
    reader: Reader,
    tables: Sequence[_Table],
    here: SqlState,
    transaction: Transaction,
    there: SqlState,
    at: str,
) -> _Tally:
    """Copy all rows from a reader of the state `here` to a transaction of the state `there`, sealed
    with the key of `there`.
    """
    (database, sealing), (other, new_sealing) = (
        here.database_and_sealing,
        there.database_and_sealing,
    )
    ours, theirs = _carried(tables), _carried(_tables(transaction, other.dialect))
    if [(table.name, table.columns) for table in ours] != [
        (table.name, table.columns) for table in theirs
    ]:
        raise StateTooNew(
            Text("{path} was written by a newer certferry", path=database.place),
            hint=Text("install the newest certferry; nothing was changed"),
        )
    opened_by, key, tally = sealing.must_open(reader), new_sealing.begin(transaction), _Tally()
    if opened_by is not None:
        new_sealing.keep_history_key(transaction, sealing.history_key(reader))
    mark(transaction, new_sealing, ARRIVING + _name(here), at)
    transaction.execute("DELETE FROM host")
    for table in ours:
        places = ", ".join("?" * len(table.columns))
        query = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places})"  # noqa: S608 - names of the schema
        for page in table.pages(reader):
            rows = []
            for row in page:
                plain = _plain(table, row, opened_by)
                _must_open(table, plain)
                tally.add(table.name, plain)
                sealed = _sealed(table, row, plain, key)
                rows.append([sealed[column] for column in table.columns])
            transaction.execute_each(query, rows)
    for table in theirs:
        for statement in table.renumber:
            transaction.rows(statement)
    hosts = tally.rows.get("host", 0)
    if hosts != 1 and not there.is_shared:
        raise ConfigError(
            Text("{place} has {count} hosts", place=database.place, count=hosts),
            hint=Text("a file holds one host; forget the others: certferry hosts forget NAME"),
        )
    return tally


# --- Change of the key


def rotate(address: Address, new: Secret, host: str, now: datetime) -> Rotated:
    """Seal everything in a state with a new key, in one transaction.

    If the key is in a file, a new file is written beside the old file first, and replaces the old
    file after the transaction. After an interruption in between, the next run replaces the file
    (see `Sealing`). Raises `LeaseHeld` while a run is in progress, and `StateError`.
    """
    with closing(_opened(address, host)) as state:
        database, sealing = state.database_and_sealing
        must_be_in_use(database, sealing)
        raw, at = key_of(new), state.now() if state.is_shared else now

        def seal_anew(
            transaction: Transaction, tables: Sequence[_Table]
        ) -> tuple[Rotated, Path | None]:
            opened_by = sealing.must_open(transaction)
            if opened_by is not None:
                Sealing(new).keep_history_key(transaction, sealing.history_key(transaction))
            beside = None
            if isinstance(address.key, Path):
                beside = add_new_key(address.key, raw, opened_by)
            sealed = [
                _seal_anew(transaction, table, opened_by, Key(raw))
                for table in tables
                if table.sealed
            ]
            change_key(transaction, Key(raw), from_moment(at), host)
            left = [text for result in sealed for text in result.left]
            return Rotated(sum(result.count for result in sealed), tuple(left)), beside

        rotated, beside = _alone(state, seal_anew)
        state.key_changed(new)
        if beside is not None and isinstance(address.key, Path):
            put_key(beside, address.key)
        return rotated


def _seal_anew(transaction: Transaction, table: _Table, opened_by: Key | None, key: Key) -> Rotated:
    count, left, columns = 0, list[Text](), [sealed.column for sealed in table.sealed]
    changes = ", ".join(f"{column} = ?" for column in columns)
    condition = " AND ".join(f"{column} = ?" for column in table.key)
    query = f"UPDATE {table.name} SET {changes} WHERE {condition}"  # noqa: S608 - names of the schema
    for page in table.pages(transaction):
        rows = []
        for row in page:
            plain = _plain(table, row, opened_by)
            sealed = _sealed(table, row, plain, key)
            rows.append([sealed[column] for column in (*columns, *table.key)])
            for column in columns:
                count += isinstance(plain[column], list)
                if isinstance(plain[column], str):
                    left.append(_named(table, plain, column))
        transaction.execute_each(query, rows)
    return Rotated(count, tuple(left))
