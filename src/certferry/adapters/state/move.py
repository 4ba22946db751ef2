"""The whole of a state: carried to another state, or sealed anew with another key."""

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
from certferry.adapters.state.binding import BINDINGS
from certferry.adapters.state.columns import Value, from_moment
from certferry.adapters.state.database import Dialect, Reader, Row, T, Transaction
from certferry.adapters.state.failures import MOVED
from certferry.adapters.state.sealing import Key, Sealing, add_new_key, change_key, key_of, put_key
from certferry.adapters.state.store import ARRIVING, SqlState, mark, mark_of, must_be_in_use
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, StateError, StateForeign, StateTooNew
from certferry.text import Text

_PAGE = 500
"""Rows that are read and written at once: a statement of them takes a fraction of a second."""

_FEW = {"run_report": 10}
"""Of a table whose rows may have megabytes, so many."""

_NOT_CARRIED = frozenset({"certferry_migration", "certferry_schema", "moved", "sealing"})
"""Tables of which each state has its own rows."""

_NOT_OF_LEASES = ("holder", "since", "until")
"""Columns of a lease that end with its holder; its token goes on."""


class Sealed(Struct, frozen=True):
    """A column that is sealed, and what its text is bound to: a kind, and columns of its row. The
    text of a proof is empty.
    """

    table: str
    column: str
    kind: str
    bound_to: tuple[str, ...]

    def of_row(self, row: Row) -> tuple[Value, ...]:
        """Return what the text of a row is bound to."""
        return (self.kind, *(row[name] for name in self.bound_to))


_PROOF = "proof"
SEALED = (
    Sealed("version_pem", "sealed_privkey_pem", "version", ("lineage", "fingerprint")),
    Sealed("acme_account", "sealed_key_pem", "account", ("directory",)),
    Sealed("acme_account", "sealed_next_key_pem", "next account key", ("directory",)),
    Sealed("acme_order", "sealed_key_pem", "order", ("lineage", "url")),
    *(Sealed(one.table, _PROOF, one.kind, one.columns) for one in BINDINGS),
)
_FINGERPRINT = (
    ", (SELECT fingerprint FROM version WHERE version.lineage = version_pem.lineage"
    " AND version.number = version_pem.number) AS fingerprint"
)


class Address(Struct, frozen=True):
    """Where a state is, and the key that opens it."""

    url: states.Location
    key: Path | Secret
    password: Secret | None = None


class Moved(Struct, frozen=True):
    """What a move has carried: from where, to where, how many rows of each table, and the hosts."""

    origin: Path | str
    destination: Path | str
    rows: Mapping[str, int]
    hosts: tuple[str, ...]


class Rotated(Struct, frozen=True):
    """What a change of the key has done."""

    #: How many keys and proofs were sealed anew.
    count: int
    #: The keys and proofs that the old key does not open.
    left: tuple[Text, ...]


class _Table(Struct, frozen=True):
    """A table: its columns by name, those of its key in order, which hold true or false, and the
    statements after which the database numbers the next row.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    flags: frozenset[str]
    renumber: tuple[str, ...]

    @property
    def sealed(self) -> tuple[Sealed, ...]:
        """Return its columns that are sealed."""
        return tuple(one for one in SEALED if one.table == self.name)

    def pages(self, reader: Reader) -> Iterator[Sequence[Row]]:
        """Read its rows in the order of the key. What has none is small, and read at once."""
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
    """Read what tables there are, by name: what refers to another comes after it."""
    ours = {row["name"] for row in reader.rows(dialect.tables)}
    found: dict[str, list[Row]] = {}
    for row in reader.rows(dialect.columns):
        if row["table_name"] in ours:
            found.setdefault(row["table_name"], []).append(row)
    return tuple(
        _Table(
            name,
            tuple(sorted(row["name"] for row in found[name])),
            tuple(row["name"] for row in found[name] if row["place"]),
            frozenset(row["name"] for row in found[name] if row["is_flag"]),
            tuple(row["renumber"] for row in found[name] if row["renumber"]),
        )
        for name in sorted(found)
    )


def _carried(tables: Sequence[_Table]) -> list[_Table]:
    return [table for table in tables if table.name not in _NOT_CARRIED]


def _plain(table: _Table, row: Row, key: Key | None) -> dict[str, Any]:
    """Read a row with what is sealed in it opened: a list of one text. A text that does not open
    stays as it is, for it does not open anywhere else either.
    """
    plain = {name: row[name] for name in table.columns}
    plain |= {name: bool(plain[name]) for name in table.flags if plain[name] is not None}
    if table.name == "lease":
        plain |= dict.fromkeys(_NOT_OF_LEASES)
    for one in table.sealed:
        if row[one.column] is None or key is None:
            continue
        text = key.open(row[one.column], *one.of_row(row))
        if text is not None:
            plain[one.column] = [text]
    return plain


def _sealed(table: _Table, row: Row, plain: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """Return what a row is to hold where this key is in force."""
    opened = [one for one in table.sealed if isinstance(plain[one.column], list)]
    anew = {one.column: key.seal(plain[one.column][0], *one.of_row(row)) for one in opened}
    return {**plain, **anew}


def _must_open(table: _Table, plain: Mapping[str, Any]) -> None:
    """Raise `StateError` for a secret that did not open. A row whose proof did not open is another
    program's, and is so everywhere.
    """
    for one in table.sealed:
        if one.column != _PROOF and isinstance(plain[one.column], str):
            raise StateError(
                Text("{text} does not open", text=_named(table, plain, one.column)),
                hint=Text("`certferry state check` says what to do; then run the same again"),
            )


def _named(table: _Table, row: Mapping[str, Any], column: str) -> Text:
    whose = [str(row[name]) for name in table.key]
    return Text("{column} of {row}", column=f"{table.name}.{column}", row=whose)


class _Tally:
    """How many rows there are in each table, and a digest of what they say, in their order."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self._digests: dict[str, bytes] = {}

    def add(self, table: str, plain: Mapping[str, Any]) -> None:
        """Count a row."""
        self.rows[table] = self.rows.get(table, 0) + 1
        said = json.dumps(plain, sort_keys=True).encode()
        self._digests[table] = hashlib.sha256(self._digests.get(table, b"") + said).digest()

    def difference(self, other: _Tally) -> str | None:
        """Return the first table in which there are other rows."""
        mine, its = self._digests, other._digests
        return next((name for name in sorted(mine | its) if mine.get(name) != its.get(name)), None)


def _tally(reader: Reader, state: SqlState) -> _Tally:
    """Read all of a state, as `_copy` has."""
    database, sealing = state.whole
    key, tally = sealing.must_open(reader), _Tally()
    for table in _carried(_tables(reader, database.dialect)):
        for page in table.pages(reader):
            for row in page:
                tally.add(table.name, _plain(table, row, key))
    return tally


def _alone(state: SqlState, function: Callable[[Transaction, tuple[_Table, ...]], T]) -> T:
    """Return what a function returns that has the state to itself, with its tables: nothing else
    is written until its transaction ends, and no run begins. Raises `LeaseHeld` while one is in
    progress.
    """
    database, _ = state.whole

    def carry_out(transaction: Transaction) -> T:
        tables = _tables(transaction, database.dialect)
        for statement in database.dialect.alone([table.name for table in tables]):
            transaction.execute(statement)
        state.must_be_idle(transaction)
        return function(transaction, tables)

    return database.change_schema(carry_out)


# --- Carried to another state


def move(origin: Address, destination: Address, host: str, now: datetime) -> Moved:
    """Carry everything to a destination that is empty or not there, and mark the origin, so that no
    run goes on with it. `host` is what a new state's host is called until those of the origin are
    there.

    What has arrived is marked as well until the origin is, so that no run begins with it. A move
    that was stopped starts over, or ends where only that mark is left. Raises `LeaseHeld` while a
    run is in progress, `ConfigError` and `StateError`.
    """
    with closing(_opened(origin, host)) as here:
        name, rows, at = _name(here), None, here.now() if here.is_shared else now
        marked = mark_of(*here.whole)
        if marked is None:
            rows = _alone(
                here, lambda one, tables: _carry(one, tables, here, destination, host, at)
            )
        elif not _lacks_its_end(here, marked["destination"], destination, host):
            must_be_in_use(*here.whole)
    # The origin is closed, and so its mark is stored, before the destination's is deleted.
    with closing(_opened(destination, host)) as there:
        other, _ = there.whole
        found = rows or other.read(lambda reader: _tally(reader, there)).rows
        other.run(lambda one: one.execute("DELETE FROM moved"))
        hosts = other.rows("SELECT name FROM host ORDER BY name")
        return Moved(name, _name(there), found, tuple(row["name"] for row in hosts))


def _opened(address: Address, host: str) -> SqlState:
    return states.open_whole(address.url, address.key, host=host, password=address.password)


@contextmanager
def _any(address: Address, host: str) -> Iterator[SqlState | None]:
    """Open a state for a `with` block; `None` if it cannot be opened."""
    try:
        state = _opened(address, host)
    except ConfigError:
        yield None
        return
    with closing(state):
        yield state


def _lacks_its_end(here: SqlState, mark: str, destination: Address, host: str) -> bool:
    """Return whether the destination is where the state went, and nothing but its mark is left."""
    with _any(destination, host) as there:
        return there is not None and _name(there) == mark and _has_left(here, there)


def _has_left(here: SqlState, there: SqlState) -> bool:
    """Return whether what is in the one came from the other, and a move into it did not end."""
    try:
        marked = mark_of(*there.whole)
    except StateForeign:  # perhaps of a move with another key
        return False
    return marked is not None and marked["destination"] == ARRIVING + _name(here)


def _name(state: SqlState) -> str:
    """Return how a mark names a state: no password is in it."""
    database, _ = state.whole
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
    """Copy everything, read it back, and mark the origin; return how many rows there are."""
    _make_room(destination, here, host)
    with closing(_opened(destination, host)) as there:
        other, _ = there.whole
        sent = other.change_schema(
            lambda one: _copy(transaction, tables, here, one, there, from_moment(now))
        )
    with closing(_opened(destination, host)) as there:  # what was stored
        other, _ = there.whole
        wrong = sent.difference(other.read(lambda reader: _tally(reader, there)))
        if wrong is not None:
            said = Text("{place} does not hold what was sent: {table}")
            raise StateError(
                said.filled(place=other.place, table=wrong),
                hint=Text("nothing was changed here; see what else writes there, and run it again"),
            )
        name = _name(there)
    database, sealing = here.whole
    mark(transaction, sealing, name, from_moment(now))
    stopped = [table.name for table in tables if table.name != "moved"]
    for statement in database.dialect.stop(stopped, MOVED + name):
        transaction.execute(statement)
    return sent.rows


def _make_room(destination: Address, here: SqlState, host: str) -> None:
    """Make an empty state at a destination, in the place of what a move that was stopped has left
    there. Raises `ConfigError` where there is another one.
    """
    with _any(destination, host) as there:
        if there is not None:
            database, _ = there.whole
            if _name(here) == _name(there):
                raise ConfigError(Text("{place} is where the state is", place=database.place))
            if _has_left(here, there):
                tables = _tables(database, database.dialect)
                dropped = database.dialect.drop([table.name for table in reversed(tables)])
                database.change_schema(lambda one: [*map(one.execute, [*dropped])])
    states.prepare(
        destination.url, destination.key, host=host, init=True, password=destination.password
    )
    with closing(_opened(destination, host)) as there:
        database, _ = there.whole
        for table in _carried(_tables(database, database.dialect)):
            if table.name != "host" and database.rows(f"SELECT 1 FROM {table.name} LIMIT 1"):  # noqa: S608 - a name of the schema
                raise ConfigError(
                    Text("{place} holds a state already", place=database.place),
                    hint=Text("name an empty database, or a file that is not there"),
                )


def _copy(
    reader: Reader,
    tables: Sequence[_Table],
    here: SqlState,
    transaction: Transaction,
    there: SqlState,
    at: str,
) -> _Tally:
    """Copy everything from a reader of one state to a transaction of the other; its keys are sealed
    with the other's.
    """
    (database, sealing), (other, its) = here.whole, there.whole
    ours, theirs = _carried(tables), _carried(_tables(transaction, other.dialect))
    if [(one.name, one.columns) for one in ours] != [(one.name, one.columns) for one in theirs]:
        raise StateTooNew(
            Text("{path} was written by a newer certferry", path=database.place),
            hint=Text("install the newest certferry; nothing was changed"),
        )
    opened_by, key, tally = sealing.must_open(reader), its.begin(transaction), _Tally()
    if opened_by is not None:
        its.keep_history_key(transaction, sealing.history_key(reader))
    mark(transaction, its, ARRIVING + _name(here), at)
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
            hint=Text("a file has one; forget the others: certferry hosts forget NAME"),
        )
    return tally


# --- Sealed anew with another key


def rotate(address: Address, new: Secret, host: str, now: datetime) -> Rotated:
    """Seal everything in a state with a new key, in one transaction. A key file gets the new one:
    it is written beside before, and put in its place afterwards (or by the next run: see
    `Sealing`). Raises `LeaseHeld` while a run is in progress, and `StateError`.
    """
    with closing(_opened(address, host)) as state:
        database, sealing = state.whole
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
            left = [text for one in sealed for text in one.left]
            return Rotated(sum(one.count for one in sealed), tuple(left)), beside

        rotated, beside = _alone(state, seal_anew)
        state.key_changed(new)
        if beside is not None and isinstance(address.key, Path):
            put_key(beside, address.key)
        return rotated


def _seal_anew(transaction: Transaction, table: _Table, opened_by: Key | None, key: Key) -> Rotated:
    count, left, columns = 0, list[Text](), [one.column for one in table.sealed]
    changes = ", ".join(f"{column} = ?" for column in columns)
    these = " AND ".join(f"{column} = ?" for column in table.key)
    query = f"UPDATE {table.name} SET {changes} WHERE {these}"  # noqa: S608 - names of the schema
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
