"""States as earlier versions of certferry would have written them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from certferry.adapters.state.database import Upgrade, migrate, read_migrations
from certferry.adapters.state.sealing import Key, read_key
from certferry.adapters.state.sqlite import SqliteDatabase

MIGRATIONS = read_migrations("sqlite")
CHECKS = {21: ("rows are bound",), 22: ("deliveries are bound",)}
"""What the check is bound to, by the schema whose migration bound rows."""
RENAMED = {("begun_run", "host"): "machine"}
"""What a column of an earlier schema is called now."""

Rows = dict[str, list[tuple[object, ...]]]


def make_one_of_schema(number: int, path: Path) -> None:
    """Put in the place of a state what an earlier schema could hold of it."""
    older = path.with_name("older.db")
    older.touch()
    with closing(SqliteDatabase(older)) as made:
        migrate(made, Upgrade("localhost", {}), MIGRATIONS[:number])
    with closing(sqlite3.connect(older)) as old, old:
        old.execute("ATTACH ? AS newer", (str(path),))
        for table, columns in columns_of(old).items():
            kept = kept_columns(old, table, columns, "newer")
            were, are = ", ".join(kept), ", ".join(kept.values())
            old.execute(f"DELETE FROM main.{table}")  # noqa: S608 - a test's own
            old.execute(f"INSERT INTO main.{table} ({were}) SELECT {are} FROM newer.{table}")  # noqa: S608 - a test's own
        key_file = path.with_name("secret.key")
        if key_file.exists():
            check = Key(read_key(key_file)).seal("", "check", "certferry", *CHECKS.get(number, ()))
            old.execute("UPDATE main.sealing SET sealed_check = ?", (check,))
    for file in path.parent.glob(f"{path.name}-[ws]*"):
        file.unlink()
    older.replace(path)


def rows_kept(old: Path, new: Path) -> tuple[Rows, Rows]:
    """Return what an earlier state holds, as far as the newest schema has a column for it; and what
    that holds in the same columns. The check of the key is sealed anew.
    """
    before: Rows = {}
    after: Rows = {}
    with closing(sqlite3.connect(old)) as one, closing(sqlite3.connect(new)) as other:
        for table, columns in columns_of(one).items():
            kept = kept_columns(other, table, columns)
            kept.pop("sealed_check", None)
            for database, names, found in ((one, [*kept], before), (other, kept.values(), after)):
                query = f"SELECT {', '.join(names)} FROM {table}"  # noqa: S608 - a test's own
                found[table] = sorted(database.execute(query), key=repr)
    return before, after


def columns_of(database: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the columns of each table that holds what certferry stores."""
    query = "SELECT name FROM main.sqlite_schema WHERE type = 'table'"
    tables = {name for (name,) in database.execute(query)} - {"certferry_migration"}
    return {table: named(database, table) for table in sorted(tables)}


def kept_columns(
    newer: sqlite3.Connection, table: str, columns: list[str], schema: str = "main"
) -> dict[str, str]:
    """Return which columns of an earlier schema there still are, and what each is called now."""
    now = {column: RENAMED.get((table, column), column) for column in columns}
    known = named(newer, table, schema)
    return {column: name for column, name in now.items() if name in known}


def named(database: sqlite3.Connection, table: str, schema: str = "main") -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA {schema}.table_info({table})")]
