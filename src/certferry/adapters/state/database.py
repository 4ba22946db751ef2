"""The interface between the tables and any database, and the migrations of the schema.

The tables send the same queries to every database. The differences between SQLite and PostgreSQL
are in `Dialect`, and in a class for each kind of database.

Declare and call a method that writes::

    @writes
    def save_note(self, transaction: Transaction, text: str) -> None:
        transaction.save("note", ("host",), host=self.host, text=text)


    state.save_note("…")  # one transaction, run again after a conflict with another writer
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, wraps
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from msgspec import Struct

from certferry.adapters.state.columns import (
    PLAIN,
    UNREADABLE,
    Column,
    NoText,
    Value,
    corrupt,
)
from certferry.adapters.state.failures import damaged
from certferry.errors import StateError, StateTooNew, StateTooOld
from certferry.text import Text

T = TypeVar("T")


class Row(Protocol):
    """A row of a result: values by the names of the columns, and in the columns' order."""

    def __getitem__(self, column: str, /) -> Any:
        """Return the value of a column."""

    def __iter__(self) -> Iterator[Any]:
        """Return the values in the columns' order."""


class NamedRow:
    """See `Row`: the values, and the position of each column among the values."""

    __slots__ = ("_places", "_values")

    def __init__(self, values: Sequence[Any], places: Mapping[str, int]) -> None:
        self._values = values
        self._places = places

    def __getitem__(self, column: str) -> Any:
        return self._values[self._places[column]]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)


Statement = tuple[str, tuple[Value, ...]]


class Reader(Protocol):
    """Answers queries with `?` in place of values.

    A transaction answers all queries from a single snapshot. A database answers each query from the
    present rows.
    """

    def rows(self, query: str, *values: Value) -> Sequence[Row]:
        """Return the rows of a query. Writers can go on during the query."""

    def each(self, *queries: Statement) -> Sequence[Sequence[Row]]:
        """Return the rows of several queries from a single snapshot, in one request to a server."""
        return [self.rows(query, *values) for query, values in queries]


class Transaction(Reader, Protocol):
    """A transaction, given to a function of `Database.run`.

    Names of tables and columns, and conflict clauses, become part of the SQL, so callers pass only
    constants.
    """

    def execute(self, query: str, *values: Value) -> None:
        """Carry out a statement that writes."""

    def execute_each(self, query: str, rows: Iterable[Sequence[Value]]) -> None:
        """Carry out a statement once for each row's values."""

    def execute_all(self, *statements: Statement) -> None:
        """Carry out several statements."""
        for query, values in statements:
            self.execute(query, *values)

    def add(self, table: str, conflict: str = "", /, **row: Value) -> None:
        """Insert a row; `conflict` is the `ON CONFLICT` clause for an existing row."""
        query, values = insertion(table, conflict, **row)
        self.execute(query, *values)

    def save(self, table: str, key: Sequence[str], /, **row: Value) -> None:
        """Insert a row, or overwrite the existing row with the same key."""
        changes = ", ".join(f"{name} = excluded.{name}" for name in row if name not in key)
        self.add(table, f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}", **row)

    def update(self, table: str, key: Mapping[str, Value], /, **row: Value) -> None:
        """Set the columns given as `row` in every row matching `key`."""
        changes = ", ".join(f"{name} = ?" for name in row)
        query = f"UPDATE {table} SET {changes} WHERE {_equal(key)}"  # noqa: S608 - constants, by contract
        self.execute(query, *row.values(), *key.values())

    def remove(self, table: str, /, **key: Value) -> None:
        """Delete the rows matching `key`."""
        self.execute(f"DELETE FROM {table} WHERE {_equal(key)}", *key.values())  # noqa: S608 - constants, by contract


def insertion(table: str, conflict: str = "", /, **row: Value) -> Statement:
    """Return the statement that `Transaction.add` carries out."""
    places = ", ".join("?" * len(row))
    query = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places}) {conflict}"  # noqa: S608 - constants, by contract
    return query, tuple(row.values())


def _equal(key: Iterable[str]) -> str:
    return " AND ".join(f"{name} = ?" for name in key)


class Dialect(Struct, frozen=True):
    """SQL that differs between the kinds of database."""

    #: The dialect's name: the suffix of schema files for this kind of database alone.
    name: str
    #: A query for the `name` of each table.
    tables: str
    #: An expression for the present moment, in the form of stored moments.
    clock: str
    #: Splits a script into statements.
    statements: Callable[[str], Iterator[str]]
    #: A query for a lineage's row of `history_head`: `entries` and `head` (the column `link`), with
    #: the `number` of the next entry. The row stays locked against other writers until the
    #: transaction ends.
    head: str
    #: A query for all columns: `table_name`, `name`, `place` in the key (0 outside the key),
    #: `is_flag`, and `renumber`, a statement that sets the number of the next row after rows were
    #: copied.
    columns: str
    #: A query for triggers, rules, constraints and the like: `table_name`, `kind`, `name`,
    #: `definition` in the words of the schema's scripts, and `removal`, the statement that removes
    #: the object.
    attached: str
    #: Returns statements that lock tables against other writers.
    alone: Callable[[Sequence[str]], Iterator[str]]
    #: Returns statements that make every later write to tables fail with a sentence.
    stop: Callable[[Sequence[str], str], Iterator[str]]
    #: Returns statements that remove tables.
    drop: Callable[[Sequence[str]], Iterator[str]]
    #: The end of a query that locks rows against change until the transaction ends. Empty if
    #: the database has one writer at a time.
    share: str = ""
    #: A query for `oldest`: the number of the oldest schema whose certferry can still use this
    #: database after a newer certferry migrated it. Empty if only one host uses the state.
    oldest: str = ""


class Database(Reader, Protocol):
    """The database of one state; several threads may use the database at once.

    A function given to `read`, `run` or `change_schema` queries the reader or transaction that it
    receives, never the database. Methods translate the driver's errors to `StateError`.
    """

    @property
    def place(self) -> Path | str:
        """The database's name in messages, without a password."""

    @property
    def dialect(self) -> Dialect:
        """Return the database's dialect."""

    def read(self, function: Callable[[Reader], T]) -> T:
        """Return the result of a function whose queries all read a single snapshot."""

    def run(self, function: Callable[[Transaction], T]) -> T:
        """Return the result of a function that writes in one serializable transaction.

        If the function raises, all its writes are undone. After a conflict with another writer the
        function runs again, so the function may change only the database.
        """

    def change_schema(self, function: Callable[[Transaction], T]) -> T:
        """Return the result of a function that changes the tables themselves. As `run`, but such
        functions exclude each other, also in other processes.
        """

    def close(self) -> None:
        """Close the connections of every thread. Later queries raise `StateError`."""


class Tables:
    """Some tables of a database, as one host sees the tables."""

    _database: Database
    #: This host's name, stored in the keys of rows that belong to one host.
    host: str

    def _write(self, function: Callable[[Transaction], T]) -> T:
        return self._database.run(function)


Some = TypeVar("Some", bound=Tables)
P = ParamSpec("P")


def writes(
    method: Callable[Concatenate[Some, Transaction, P], T],
) -> Callable[Concatenate[Some, P], T]:
    """Make a method run as one transaction of `Database.run`."""

    @wraps(method)
    def run(self: Some, /, *args: P.args, **named: P.kwargs) -> T:
        return self._write(lambda transaction: method(self, transaction, *args, **named))

    return run


class Table(Generic[T]):
    """The rows of one kind of record, a Struct or a dataclass. Each field has a column.

    ``ORDERS = Table("acme_order", Ordered, "lineage", names=NAMES)`` stores each `Ordered` as a row
    of `acme_order`, with the key `lineage`, and converts `names`.

    `columns` has the conversion of each field that is not stored unchanged. `None` means that the
    field has no column. An entry without a field describes a further column of the table, for
    `unreadable_rows`.

    An unreadable row counts as absent: the program that wrote the row could as well have deleted
    the row. Important rows, such as versions, have a proof, and a wrong proof raises an error
    (`row_proofs`).
    """

    #: All tables of records, by the table's name in the database.
    of: ClassVar[dict[str, list[Table[Any]]]] = {}

    def __init__(
        self, name: str, record: Callable[..., T], *key: str, **columns: Column | None
    ) -> None:
        self._name, self._key, self._record = name, key, record
        fields: tuple[str, ...] = cast("Any", record).__match_args__  # of Structs and dataclasses
        self._columns = [
            (field, column, column.name or field)
            for field in fields
            if (column := columns.get(field, PLAIN)) is not None
        ]
        self._readers = [
            (field, column.from_value) for field, column, _ in self._columns if column.from_value
        ]
        beside = {name: column for name, column in columns.items() if name not in fields}
        #: The columns by their names in the table.
        self.by_name = {**beside, **{stored_as: column for _, column, stored_as in self._columns}}
        self.of.setdefault(name, []).append(self)

    def of_row(self, row: Row, **more: Any) -> T:
        """Return the record of a row; `more` has the fields without a column. Raises
        `StateError`.
        """
        values = {field: row[name] for field, _, name in self._columns}
        if NoText in map(type, values.values()):
            raise corrupt()
        try:
            # Only the columns that need a conversion are visited, because a run reads many rows.
            for field, from_value in self._readers:
                if values[field] is not None:
                    values[field] = from_value(values[field])
            return self._record(**values, **more)
        except UNREADABLE as problem:
            raise corrupt() from problem

    def query(self, condition: str, *values: Value) -> Statement:
        """Return the query for the rows that match `condition`, constant SQL after the table."""
        return f"SELECT * FROM {self._name} {condition}", values  # noqa: S608 - constants, by contract

    def read(
        self, rows: Iterable[Row], more: Callable[[Row], Mapping[str, Any]] = lambda _: {}
    ) -> tuple[T, ...]:
        """Return the records of the readable rows; `more` returns a row's fields without
        a column.
        """
        records = []
        for row in rows:
            with suppress(StateError):
                records.append(self.of_row(row, **more(row)))
        return tuple(records)

    def first(self, rows: Iterable[Row], **more: Any) -> T | None:
        """Return the first readable record, or `None`; `more` has the fields without a column."""
        return next(iter(self.read(rows, lambda _: more)), None)

    def found(self, reader: Reader, condition: str, *values: Value) -> tuple[T, ...]:
        """Return the records of the rows that match `condition`, constant SQL; see `read`."""
        query, values = self.query(condition, *values)
        return self.read(reader.rows(query, *values))

    def values(self, record: T, **more: Value) -> dict[str, Value]:
        """Return the values of a record by column; `more` has columns that belong to no field."""
        values = {
            name: column.write(getattr(record, field)) for field, column, name in self._columns
        }
        return {**values, **more}

    def save(self, transaction: Transaction, record: T, **more: Value) -> None:
        """Store a record in place of the record with the same key; see `values` for `more`."""
        transaction.save(self._name, self._key, **self.values(record, **more))

    def remove(self, transaction: Transaction, record: T, **more: Value) -> None:
        """Delete the record with the same key as the given record; see `values` for `more`."""
        values = self.values(record, **more)
        transaction.remove(self._name, **{name: values[name] for name in self._key})


_MIGRATIONS = "certferry_migration"
"""The table with the number and the name of each migration that a database has had."""


class Migration(Struct, frozen=True):
    """A script that changes one schema to the next. The first migration makes all tables."""

    #: The number of the schema after the migration.
    number: int
    name: str
    #: SQL for one kind of database.
    script: str


@cache
def read_migrations(dialect: str) -> tuple[Migration, ...]:
    """Return this certferry's migrations for a kind of database, in the order of their numbers.

    A migration is a file `<number>_<name>.<dialect>.sql`. The numbers begin at 23, because no
    release had a schema with a smaller number (docs/decisions/0059).
    """
    scripts = {
        file.name.removesuffix(f".{dialect}.sql"): file.read_text(encoding="utf-8")
        for file in (resources.files(__package__) / "schema").iterdir()
        if file.name.endswith(f".{dialect}.sql")
    }
    return tuple(
        Migration(int(name.partition("_")[0]), name, scripts[name]) for name in sorted(scripts)
    )


def migrate(
    database: Database,
    host: str,
    known: Sequence[Migration] = (),
    *,
    seal: Callable[[Transaction], object] = lambda _: None,
) -> bool:
    """Apply the missing migrations in one transaction, and return whether any were missing. A
    database with all migrations is only read.

    In a new state, store the first `host`, and call `seal`, which may store the check of the key.
    By default, `seal` does nothing, and the check is stored with the first secret.

    Raises `StateTooNew` for a database migrated by a newer version, `StateTooOld` for a database
    from before the first release, and `StateError` for another program's database.
    """
    migrations = known or read_migrations(database.dialect.name)
    if is_migrated(database, migrations):
        return False

    def carry_out(transaction: Transaction) -> bool:
        # Read again: another process may have migrated since.
        missing = _missing(transaction, database, migrations)
        for migration in missing:
            _apply(transaction, database.dialect, migration)
        if migrations[0] in missing:
            transaction.add("host", name=host)
            seal(transaction)
        return bool(missing)

    return database.change_schema(carry_out)


def is_migrated(database: Database, known: Sequence[Migration] = ()) -> bool:
    """Return whether a database has every migration. Raises as `migrate` does."""
    return not _missing(database, database, known or read_migrations(database.dialect.name))


def schema_of(database: Database) -> int:
    """Return the number of a database's schema, or 0 for a database without tables. Raises as
    `migrate`.
    """
    return max(_applied(database, database, read_migrations(database.dialect.name)), default=0)


def _missing(
    reader: Reader, database: Database, migrations: Sequence[Migration]
) -> list[Migration]:
    applied = _applied(reader, database, migrations)
    return [migration for migration in migrations if migration.number not in applied]


def _applied(reader: Reader, database: Database, migrations: Sequence[Migration]) -> set[int]:
    """Return the numbers of the migrations that a database has had. Raises as `migrate`."""
    tables = {row["name"] for row in reader.rows(database.dialect.tables)}
    if not tables:
        return set()
    if _MIGRATIONS not in tables:
        raise damaged(database.place, Text("the database holds the tables of another program"))
    query = f"SELECT number FROM {_MIGRATIONS}"  # noqa: S608 - a constant
    applied = {row["number"] for row in reader.rows(query)}
    first, newest = migrations[0].number, migrations[-1].number
    if first not in applied:
        raise StateTooOld(
            Text(
                "{path} was written by a certferry from before the first release: schema {found},"
                " the oldest known here: {known}",
                path=database.place,
                found=max(applied, default=0),
                known=first,
            ),
            hint=Text(
                "move it away, or name another place as `url` of [state]: a new state issues every"
                " certificate again; nothing was changed"
            ),
        )
    if max(applied) > newest and not _is_meant_for(newest, reader, database.dialect):
        raise StateTooNew(
            Text(
                "{path} was written by a newer certferry: schema {found}, known here: {known}",
                path=database.place,
                found=max(applied),
                known=newest,
            ),
            hint=Text("install the newest certferry; nothing was changed"),
        )
    return applied


def _is_meant_for(schema: int, reader: Reader, dialect: Dialect) -> bool:
    """Return whether a certferry with `schema` can use the database that a newer certferry
    migrated.
    """
    return bool(dialect.oldest) and reader.rows(dialect.oldest)[0]["oldest"] <= schema


def _apply(transaction: Transaction, dialect: Dialect, migration: Migration) -> None:
    transaction.execute(
        f"CREATE TABLE IF NOT EXISTS {_MIGRATIONS} (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
    )
    for statement in dialect.statements(migration.script):
        transaction.execute(statement)
    transaction.add(_MIGRATIONS, number=migration.number, name=migration.name)
