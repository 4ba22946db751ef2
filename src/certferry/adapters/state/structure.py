"""A comparison of a state's tables with certferry's schema.

The comparison notices these changes of another program:

- a trigger that changes written rows;
- a constraint that refuses rows;
- row security that hides rows;
- a view in place of a table.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from certferry.adapters.state.database import Database, read_migrations, schema_of
from certferry.errors import StateForeign
from certferry.text import Text

_SEE_WHO = Text("check who else can change the tables, and put the state back from a backup")


def differences(database: Database) -> Iterator[StateForeign]:
    """Yield an error for each difference between certferry's tables and the schema. Other tables in
    the database are ignored. If a newer certferry has migrated the database, nothing is compared.
    """
    migrations = read_migrations(database.dialect.name)
    if schema_of(database) != migrations[-1].number:
        return
    made, tables = _made(), {row["name"] for row in database.rows(database.dialect.tables)}
    named = ((row["table_name"], row["name"]) for row in database.rows(database.dialect.columns))
    present = _by_table(column for column in named if column[0] in tables)
    for table in sorted(made):
        if table not in present:
            yield _foreign(Text("{table} is not a table", table=table))
            continue
        for column in sorted(made[table] ^ present[table]):
            yield _foreign(Text("the column {column} of {table}", column=column, table=table))
    script = "".join(migration.script for migration in migrations)
    lacking = set(re.findall(r"CREATE TRIGGER (\w+)", script))
    for row in database.rows(database.dialect.attached):
        has_our_name = row["name"] in lacking
        lacking.discard(row["name"])
        is_ours = has_our_name or row["kind"] == "CONSTRAINT"
        if row["table_name"] not in made or (is_ours and row["definition"] in script):
            continue
        difference = Text("{kind} {name} on {table}").filled(
            kind=row["kind"], name=row["name"], table=row["table_name"]
        )
        removal = Text("check who else can change the tables, then run: {statement}")
        yield _foreign(
            difference, _SEE_WHO if has_our_name else removal.filled(statement=row["removal"])
        )
    for name in sorted(lacking):
        yield _foreign(Text("the trigger {name} is gone", name=name))


def _made() -> dict[str, set[str]]:
    """Return the columns of each table of a new state. Every kind of database has the
    same columns.
    """
    with closing(sqlite3.connect(":memory:")) as new:
        for migration in read_migrations("sqlite"):
            new.executescript(migration.script)
        return _by_table(
            new.execute(
                "SELECT one.name, own.name FROM sqlite_schema AS one"
                " JOIN pragma_table_info(one.name) AS own WHERE one.type = 'table'"
            )
        )


def _by_table(columns: Iterable[tuple[Any, Any]]) -> dict[str, set[str]]:
    columns_of: dict[str, set[str]] = {}
    for table, column in columns:
        columns_of.setdefault(table, set()).add(column)
    return columns_of


def _foreign(difference: Text, hint: Text = _SEE_WHO) -> StateForeign:
    message = Text(
        "certferry did not create the state's tables in their present form: {what}", what=difference
    )
    return StateForeign(message, hint=hint)
