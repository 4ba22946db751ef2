"""What the tables need of a database, whichever it is, and how its schema is brought up to date.

Their SQL is the same for every database. What only one has is behind this: how it is opened and
kept private, what its errors mean, its `Dialect`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, wraps
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from msgspec import Struct

from certferry.adapters.state.columns import (
    MOMENT,
    PLAIN,
    UNREADABLE,
    Column,
    NoText,
    Value,
    corrupt,
)
from certferry.adapters.state.failures import damaged
from certferry.core.certificates.pem import issuer_end, parse_chain
from certferry.errors import CertificateError, StateError, StateTooNew
from certferry.text import Text

T = TypeVar("T")


class Row(Protocol):
    """What a query found: values by the names of their columns, and in their order."""

    def __getitem__(self, column: str, /) -> Any:
        """Return a value."""

    def __iter__(self) -> Iterator[Any]:
        """Return the values."""


class NamedRow:
    """See `Row`: values, and the place of each column among them."""

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
    """Answers queries, in which values stand as `?`: a transaction, of its moment, or a database,
    each query of its own moment.
    """

    def rows(self, query: str, *values: Value) -> Sequence[Row]:
        """Read. Takes no lock that a writer would have to wait for."""

    def each(self, *queries: Statement) -> Sequence[Sequence[Row]]:
        """Read with several queries, all of one moment: a server is asked once."""
        return [self.rows(query, *values) for query, values in queries]


class Transaction(Reader, Protocol):
    """What a function given to `Database.run` reads and writes with. Tables, columns and conflicts
    are constants.
    """

    def execute(self, query: str, *values: Value) -> None:
        """Write."""

    def execute_each(self, query: str, rows: Iterable[Sequence[Value]]) -> None:
        """Write with the values of each row."""

    def execute_all(self, *statements: Statement) -> None:
        """Write with several statements."""
        for query, values in statements:
            self.execute(query, *values)

    def add(self, table: str, conflict: str = "", /, **row: Value) -> None:
        """Insert a row; `conflict` is the clause for one that is there."""
        query, values = insertion(table, conflict, **row)
        self.execute(query, *values)

    def save(self, table: str, key: Sequence[str], /, **row: Value) -> None:
        """Insert a row, or give the one with its key these values."""
        changes = ", ".join(f"{name} = excluded.{name}" for name in row if name not in key)
        self.add(table, f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}", **row)

    def update(self, table: str, key: Mapping[str, Value], /, **row: Value) -> None:
        """Set the columns of the row in the rows with the values of the key."""
        changes = ", ".join(f"{name} = ?" for name in row)
        query = f"UPDATE {table} SET {changes} WHERE {_equal(key)}"  # noqa: S608 - constants, by contract
        self.execute(query, *row.values(), *key.values())

    def remove(self, table: str, /, **key: Value) -> None:
        """Delete the rows with these values."""
        self.execute(f"DELETE FROM {table} WHERE {_equal(key)}", *key.values())  # noqa: S608 - constants, by contract


def insertion(table: str, conflict: str = "", /, **row: Value) -> Statement:
    """Return what `Transaction.add` carries out."""
    places = ", ".join("?" * len(row))
    query = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places}) {conflict}"  # noqa: S608 - constants, by contract
    return query, tuple(row.values())


def _equal(key: Iterable[str]) -> str:
    return " AND ".join(f"{name} = ?" for name in key)


class Dialect(Struct, frozen=True):
    """What only one kind of database understands: its `name` stands in the names of the schema's
    files that no other takes, `tables` asks for the names of its tables, `clock` is its present
    moment as a column has it, `statements` takes a script apart. `head` asks for the head of a
    lineage's history, which no other writer changes then, and for the number of its next entry.
    `share` ends a query whose rows no other writer changes before the transaction ends, where
    others may write beside it. `oldest` asks for the oldest schema whose certferry may use a newer
    one, where there is any. `attached` asks for triggers and the like on tables: the `table_name`,
    its `kind` and `name`, a `definition` as the scripts of the schema have it, and the statement
    for its `removal`.

    `columns` asks for every column: `table_name`, `name`, its `place` in the key or 0, `is_flag`,
    and the statement to `renumber` by. For tables, `alone` returns the statements after which no
    other transaction writes, `stop` those after which every write fails with a sentence, `drop`
    those that remove them.
    """

    name: str
    tables: str
    clock: str
    statements: Callable[[str], Iterator[str]]
    head: str
    columns: str
    attached: str
    alone: Callable[[Sequence[str]], Iterator[str]]
    stop: Callable[[Sequence[str], str], Iterator[str]]
    drop: Callable[[Sequence[str]], Iterator[str]]
    share: str = ""
    oldest: str = ""


class Database(Reader, Protocol):
    """A database of one state. It may be used from several threads at once, and not within a
    function that it carries out: that is given its transaction. Raises `StateError` and nothing
    foreign.
    """

    @property
    def place(self) -> Path | str:
        """How messages name it; no password is in it."""

    @property
    def dialect(self) -> Dialect:
        """Return its dialect."""

    def read(self, function: Callable[[Reader], T]) -> T:
        """Return what a function reads, all of it of one moment."""

    def run(self, function: Callable[[Transaction], T]) -> T:
        """Return what a function returns that writes: all of it has happened then, or nothing when
        it raises. What it read is still true when it has written. It may run again, where another
        writer came first, so it changes nothing but the database.
        """

    def change_schema(self, function: Callable[[Transaction], T]) -> T:
        """Return what a function returns that changes tables: as `run`, one after the other."""

    def close(self) -> None:
        """Close the connections of every thread. Nothing is asked afterwards."""


class Tables:
    """Some tables of a database, as one host sees them."""

    _database: Database
    host: str

    def _write(self, function: Callable[[Transaction], T]) -> T:
        return self._database.run(function)


Some = TypeVar("Some", bound=Tables)
P = ParamSpec("P")


def writes(
    method: Callable[Concatenate[Some, Transaction, P], T],
) -> Callable[Concatenate[Some, P], T]:
    """Carry out a method as a function of `Database.run`."""

    @wraps(method)
    def run(self: Some, /, *args: P.args, **named: P.kwargs) -> T:
        return self._write(lambda transaction: method(self, transaction, *args, **named))

    return run


class Table(Generic[T]):
    """The rows of one kind of record, a Struct or a dataclass. Each field has a column.

    `columns` names the fields that are stored in another form, with `None` for a field without a
    column. A column without a field is named for `unreadable_rows` alone.

    A row that cannot be read counts as absent: its writer could have deleted the row too. Rows
    that must not be absent are proven (`binding`).
    """

    #: Every table of records, by the name of its table.
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
            (field, one.from_value) for field, one, _ in self._columns if one.from_value
        ]
        beside = {name: column for name, column in columns.items() if name not in fields}
        #: The columns by their names in the table.
        self.by_name = {**beside, **{one: column for _, column, one in self._columns}}
        self.of.setdefault(name, []).append(self)

    def of_row(self, row: Row, **more: Any) -> T:
        """Read a record, with `more` fields. Raises `StateError`."""
        values = {field: row[name] for field, _, name in self._columns}
        if NoText in map(type, values.values()):
            raise corrupt()
        try:
            for field, read in self._readers:  # few of the columns: a run reads many rows
                if values[field] is not None:
                    values[field] = read(values[field])
            return self._record(**values, **more)
        except UNREADABLE as problem:
            raise corrupt() from problem

    def query(self, condition: str, *values: Value) -> Statement:
        """Return what asks for the rows of a condition, which is a constant."""
        return f"SELECT * FROM {self._name} {condition}", values  # noqa: S608 - constants, by contract

    def read(
        self, rows: Iterable[Row], more: Callable[[Row], Mapping[str, Any]] = lambda _: {}
    ) -> tuple[T, ...]:
        """Read the records of rows, each with `more` fields, and leave out unreadable rows."""
        records = []
        for row in rows:
            with suppress(StateError):
                records.append(self.of_row(row, **more(row)))
        return tuple(records)

    def first(self, rows: Iterable[Row], **more: Any) -> T | None:
        """Read the first record of rows, with `more` fields; `None` where no row is readable."""
        return next(iter(self.read(rows, lambda _: more)), None)

    def found(self, reader: Reader, condition: str, *values: Value) -> tuple[T, ...]:
        """Read the records of a condition, which is a constant; see `read`."""
        query, values = self.query(condition, *values)
        return self.read(reader.rows(query, *values))

    def values(self, record: T, **more: Value) -> dict[str, Value]:
        """Return what the columns of a record hold, with `more` columns."""
        written = {name: one.write(getattr(record, field)) for field, one, name in self._columns}
        return {**written, **more}

    def save(self, transaction: Transaction, record: T, **more: Value) -> None:
        """Store a record in the place of the one with its key, with `more` columns."""
        transaction.save(self._name, self._key, **self.values(record, **more))

    def remove(self, transaction: Transaction, record: T, **more: Value) -> None:
        """Delete the record with this one's key."""
        values = self.values(record, **more)
        transaction.remove(self._name, **{name: values[name] for name in self._key})


_MIGRATIONS = "certferry_migration"
_WHOLE = "_whole."
"""Stands between the number and the dialect of a script that leads from nothing to that schema."""

OLDEST = 22
"""The newest schema of the release before this one, whose hosts go on working in a shared state
while the others are upgraded: nothing that it uses is taken away (docs/decisions/0043). No
release knows an older one; a host that does would write rows that are not bound (0056)."""


class Upgrade(Struct, frozen=True):
    """What migrations need to know: the `host` that what was kept belongs to; by the number of a
    schema, what `binds` the rows of before with the state's key; how a new database is sealed. See
    `binding.upgrade_of`. One without rows is made without the key.
    """

    host: str
    binds: Mapping[int, Callable[[Transaction], None]]
    seal: Callable[[Transaction], object] = lambda _: None


class Migration(Struct, frozen=True):
    """What leads from one schema to the next: a script, then what no SQL can do."""

    number: int
    name: str
    script: str
    finish: Callable[[Transaction, Upgrade], None] = lambda *_: None


@cache
def read_migrations(dialect: str) -> tuple[Migration, ...]:
    """Return the migrations this version knows: each its plain SQL, then what a dialect adds. The
    first is a script for the whole schema, where the dialect has one.
    """
    scripts = {
        file.name.removesuffix(".sql"): file.read_text(encoding="utf-8")
        for file in (resources.files(__package__) / "schema").iterdir()
    }
    migrations = [
        Migration(int(name.partition("_")[0]), name, script, _begin)
        for name, script in scripts.items()
        if name.endswith(_WHOLE + dialect)
    ]
    begun = max((migration.number for migration in migrations), default=0)
    for name in sorted(name for name in scripts if "." not in name):
        number, script = int(name.partition("_")[0]), scripts[name]
        script += scripts.get(f"{name}.{dialect}", "")
        if number > begun:
            migrations.append(Migration(number, name, script, _FINISH.get(number, lambda *_: None)))
    return tuple(migrations)


def migrate(database: Database, upgrade: Upgrade, known: Sequence[Migration] = ()) -> bool:
    """Apply the missing migrations, all of them or none; where none is missing, only read. Return
    whether there were any.

    Raises `StateTooNew` for a database that a newer version has migrated, and `StateError` for one
    that is another program's.
    """
    migrations = known or read_migrations(database.dialect.name)
    if is_migrated(database, migrations):
        return False

    def carry_out(transaction: Transaction) -> bool:
        # Asked again: another process may have been first.
        missing = _missing(transaction, database, migrations)
        for migration in missing:
            _apply(transaction, database.dialect, migration, upgrade)
        if missing and database.dialect.oldest:
            transaction.execute("UPDATE certferry_schema SET oldest = ?", OLDEST)
        return bool(missing)

    return database.change_schema(carry_out)


def is_migrated(database: Database, known: Sequence[Migration] = ()) -> bool:
    """Return whether a database lacks nothing. Raises as `migrate` does."""
    return not _missing(database, database, known or read_migrations(database.dialect.name))


def schema_of(database: Database) -> int:
    """Return the number of a database's schema, 0 for one without tables. Raises as `migrate`."""
    applied = _applied(database, database)
    _must_be_known(applied, database, database, read_migrations(database.dialect.name))
    return max(applied, default=0)


def _missing(
    reader: Reader, database: Database, migrations: Sequence[Migration]
) -> list[Migration]:
    applied = _applied(reader, database)
    _must_be_known(applied, reader, database, migrations)
    return [migration for migration in migrations if migration.number not in applied]


def _must_be_known(
    applied: set[int], reader: Reader, database: Database, migrations: Sequence[Migration]
) -> None:
    newest = max(migration.number for migration in migrations)
    if max(applied, default=0) > newest and not _is_meant_for(newest, reader, database.dialect):
        raise StateTooNew(
            Text(
                "{path} was written by a newer certferry: schema {found}, known here: {known}",
                path=database.place,
                found=max(applied),
                known=newest,
            ),
            hint=Text("install the newest certferry; nothing was changed"),
        )


def _is_meant_for(schema: int, reader: Reader, dialect: Dialect) -> bool:
    """Return whether a newer schema still has all that this one has."""
    return bool(dialect.oldest) and reader.rows(dialect.oldest)[0]["oldest"] <= schema


def _applied(reader: Reader, database: Database) -> set[int]:
    tables = {row["name"] for row in reader.rows(database.dialect.tables)}
    if tables and _MIGRATIONS not in tables:
        raise damaged(database.place, Text("it holds the tables of another program"))
    query = f"SELECT number FROM {_MIGRATIONS}"  # noqa: S608 - a constant
    return {row["number"] for row in reader.rows(query)} if tables else set()


def _apply(
    transaction: Transaction, dialect: Dialect, migration: Migration, upgrade: Upgrade
) -> None:
    transaction.execute(
        f"CREATE TABLE IF NOT EXISTS {_MIGRATIONS} (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
    )
    for statement in dialect.statements(migration.script):
        transaction.execute(statement)
    migration.finish(transaction, upgrade)
    if migration.number in upgrade.binds:
        upgrade.binds[migration.number](transaction)
    transaction.add(_MIGRATIONS, number=migration.number, name=migration.name)


def _add_digests(transaction: Transaction, _: Upgrade) -> None:
    """Compute the digests of what was stored before there were any: see schema 3."""
    for version, fullchain_pem in _fullchains(transaction):
        digest = hashlib.sha256(fullchain_pem.encode()).hexdigest()
        transaction.update("version", version, fullchain_digest=digest)
    transaction.execute(
        "UPDATE rollout SET fullchain_digest = (SELECT version.fullchain_digest FROM version"
        " WHERE version.lineage = rollout.lineage AND version.fingerprint = rollout.fingerprint)"
        " WHERE fullchain_digest IS NULL AND target = 'command'"
    )


def _add_issuer_ends(transaction: Transaction, _: Upgrade) -> None:
    """Read until when the issuers of what was stored before are valid: see schema 15."""
    for version, fullchain_pem in _fullchains(transaction):
        with suppress(CertificateError):
            end = MOMENT.write(issuer_end(parse_chain(fullchain_pem)))
            transaction.update("version", version, issuer_not_after=end)


def _fullchains(reader: Reader) -> Iterator[tuple[dict[str, Value], str]]:
    for row in reader.rows("SELECT lineage, number, fullchain_pem FROM version_pem"):
        yield {"lineage": row["lineage"], "number": row["number"]}, row["fullchain_pem"]


def _begin(transaction: Transaction, upgrade: Upgrade) -> None:
    """Store what belongs to a new state: the host that makes it, and what its key alone opens."""
    transaction.add("host", name=upgrade.host)
    upgrade.seal(transaction)


def _give_to_host(transaction: Transaction, upgrade: Upgrade) -> None:
    """Assign what was stored without a host, and belongs to one, to this host: see schema 17."""
    host = upgrade.host
    transaction.add("host", name=host)
    for target in ("files", "command"):
        transaction.update("rollout", {"target": target}, host=host)
        transaction.update("sighting", {"target": target}, host=host)
    transaction.update("account_note", {"account": "[metrics]"}, host=host)
    transaction.update("last_run", {"host": ""}, host=host)
    transaction.update("begun_run", {"host": ""}, host=host)


_FINISH = {3: _add_digests, 15: _add_issuer_ends, 17: _give_to_host}
