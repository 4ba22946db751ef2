"""What the tables need of a database, whichever it is.

Their SQL is the same for every database. What only one has stays behind this: how it is opened and
kept private, what its errors mean, how a script of the schema is taken apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from certferry.adapters.state.failures import damaged
from certferry.errors import StateTooNew
from certferry.text import Text

Column = str | int | None
Row = tuple[Any, ...]


class Cursor(Protocol):
    """What a query found."""

    def fetchone(self) -> Any:
        """Give the next row, `None` after the last."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Give the rows."""
        ...


class Connection(Protocol):
    """What a transaction works with. Values stand as `?` in a query."""

    def execute(self, query: str, values: Sequence[Column] = ..., /) -> Cursor:
        """Ask, or change something."""
        ...


class Database(Protocol):
    """A database of one state. It may be used from several threads at once; within a transaction
    of the same thread, `rows` reads in it. Raises `StateError` and nothing foreign.
    """

    @property
    def place(self) -> Path | str:
        """How messages name it; no password is in it."""
        ...

    @property
    def dialect(self) -> str:
        """What stands in the name of the schema's files that only this database takes."""
        ...

    def rows(self, query: str, *values: Column) -> list[Row]:
        """Read. Takes no lock that a writer would have to wait for."""
        ...

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Read several times at one moment: what others write meanwhile is not seen."""
        ...

    def transaction(self, *, serializable: bool = False) -> AbstractContextManager[Connection]:
        """Write: all of it has happened when the block ends, nothing when it raises. With
        `serializable`, what the block has read is still true when it writes.
        """
        ...

    def tables(self) -> set[str]:
        """Give the names of what it holds."""
        ...

    def statements(self, script: str) -> Iterator[str]:
        """Take a script apart."""
        ...

    def close(self) -> None:
        """Close the connections of every thread. Nothing is asked afterwards."""
        ...


_LEDGER = "certferry_migration"


@dataclass(frozen=True, slots=True)
class Migration:
    """What leads from one schema to the next."""

    number: int
    name: str
    script: str


@cache
def read_migrations(dialect: str) -> tuple[Migration, ...]:
    """Give the migrations this version knows: each its plain SQL, then what a dialect adds."""
    scripts = {
        file.name.removesuffix(".sql"): file.read_text(encoding="utf-8")
        for file in (resources.files(__package__) / "schema").iterdir()
    }
    return tuple(
        Migration(
            int(name.partition("_")[0]), name, scripts[name] + scripts.get(f"{name}.{dialect}", "")
        )
        for name in sorted(scripts)
        if "." not in name
    )


def migrate(database: Database, migrations: Sequence[Migration]) -> None:
    """Apply the missing scripts, all of them or none. A database that lacks nothing is only read.

    Raises `StateTooNew` for one that a newer version has migrated, and `StateError` for one that
    is another program's.
    """
    if is_migrated(database, migrations):
        return
    with database.transaction(serializable=True) as connection:
        # Asked again: another process may have been first.
        carry_out(database, connection, _missing(database, migrations))


def is_migrated(database: Database, migrations: Sequence[Migration]) -> bool:
    """Tell whether a database lacks nothing. Raises as `migrate` does."""
    return not _missing(database, migrations)


def carry_out(database: Database, connection: Connection, migrations: Sequence[Migration]) -> None:
    """Apply migrations in their order, to a database that lacks just these."""
    for migration in migrations:
        _apply(database, connection, migration)


def _missing(database: Database, migrations: Sequence[Migration]) -> list[Migration]:
    applied = _applied(database)
    newest = max(migration.number for migration in migrations)
    if max(applied, default=0) > newest:
        raise StateTooNew(
            Text(
                "{path} was written by a newer certferry: schema {found}, known here: {known}",
                path=database.place,
                found=max(applied),
                known=newest,
            ),
            hint=Text("install the newest certferry; nothing was changed"),
        )
    return [migration for migration in migrations if migration.number not in applied]


def _applied(database: Database) -> set[int]:
    tables = database.tables()
    if not tables:
        return set()
    if _LEDGER not in tables:
        raise damaged(database.place, Text("it holds the tables of another program"))
    return {number for (number,) in database.rows(f"SELECT number FROM {_LEDGER}")}  # noqa: S608 - a constant


def _apply(database: Database, connection: Connection, migration: Migration) -> None:
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_LEDGER} (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
    )
    for statement in database.statements(migration.script):
        connection.execute(statement)
    connection.execute(
        f"INSERT INTO {_LEDGER} (number, name) VALUES (?, ?)",  # noqa: S608 - a constant
        (migration.number, migration.name),
    )
