"""The schema of a state in PostgreSQL: equal to SQLite's, made on demand alone, and refused if
another release or program made the schema.
"""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect, prepare
from certferry.adapters.state.database import Migration, migrate, read_migrations
from certferry.adapters.state.postgresql import PostgresqlDatabase
from tests.adapters.state.postgresql_state import ENTRY, refused
from tests.support.postgresql import (
    KEY,
    Postgresql,
)


def test_schema_equals_sqlites(postgresql: Postgresql, name: str, tmp_path: Path) -> None:
    """Tables, columns, keys and nullable columns are equal."""
    connect(tmp_path / "state.db", tmp_path / "secret.key").close()
    ours = {
        (table, column, is_nullable == "YES")
        for table, column, is_nullable in postgresql.ask(
            "SELECT table_name, column_name, is_nullable FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name NOT LIKE 'certferry%'",
            name,
        )
    }
    keys = postgresql.ask(
        "SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position)"
        " FROM information_schema.key_column_usage JOIN information_schema.table_constraints"
        " USING (constraint_schema, constraint_name, table_name)"
        " WHERE constraint_type = 'PRIMARY KEY' AND constraint_schema = 'public'"
        " AND table_name <> 'certferry_migration' GROUP BY table_name",
        name,
    )
    theirs: set[tuple[str, str, bool]] = set()
    their_keys: dict[str, list[str]] = {}
    with closing(sqlite3.connect(tmp_path / "state.db")) as file:
        query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'certferry%'"
        for (table,) in file.execute(query).fetchall():
            columns = file.execute(f"PRAGMA table_info({table})").fetchall()
            key = sorted((place, column) for _, column, _, _, _, place in columns if place)
            if key:
                their_keys[table] = [column for _, column in key]
            theirs |= {
                (table, column, not needed and not place)
                for _, column, _, needed, _, place in columns
            }

    assert theirs == ours
    assert their_keys == dict(keys)


def test_indexes_equal_sqlites(postgresql: Postgresql, name: str, tmp_path: Path) -> None:
    """Indexes and unique columns are equal, with the same order of columns and the same rows."""
    connect(tmp_path / "state.db", tmp_path / "secret.key").close()
    indexes = postgresql.ask(
        "SELECT indrelid::regclass::text, CASE WHEN conname IS NULL THEN relname::text END,"
        " ARRAY(SELECT attname::text FROM unnest(indkey) WITH ORDINALITY AS part(place, nth)"
        " JOIN pg_attribute ON attrelid = indrelid AND attnum = place ORDER BY nth),"
        " indisunique, indpred IS NOT NULL FROM pg_index JOIN pg_class ON oid = indexrelid"
        " LEFT JOIN pg_constraint ON conindid = indexrelid AND contype IN ('p', 'u')"
        " WHERE relnamespace = 'public'::regnamespace AND NOT indisprimary",
        name,
    )
    theirs = set()
    with closing(sqlite3.connect(tmp_path / "state.db")) as file:
        query = (
            'SELECT tables.name, own.name, own.origin, own."unique", own.partial'
            " FROM sqlite_schema AS tables JOIN pragma_index_list(tables.name) AS own"
            " WHERE tables.type = 'table' AND own.origin <> 'pk'"
        )
        for table, index, origin, is_unique, is_partial in file.execute(query).fetchall():
            columns = tuple(row[2] for row in file.execute(f"PRAGMA index_info({index})"))
            index_name = index if origin == "c" else None
            theirs.add((table, index_name, columns, bool(is_unique), bool(is_partial)))

    assert theirs == {(row[0], row[1], tuple(row[2]), *row[3:]) for row in indexes}


def test_types_equal_sqlites(postgresql: Postgresql, name: str) -> None:
    """Text is compared by bytes, and numbers have 64 bits, for any locale of the database."""
    columns = postgresql.ask(
        "SELECT data_type, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'certferry_migration'",
        name,
    )

    assert {("text", "C"), ("bigint", None), ("boolean", None)} == set(columns)


def test_history_is_append_only(postgresql: Postgresql, name: str) -> None:
    """Even the administrator has to remove the trigger before a change."""
    with closing(connect(postgresql.url(name), KEY)) as store:
        store.append_history(ENTRY)
    for change in ("UPDATE history SET who = 'x'", "DELETE FROM history", "TRUNCATE history"):
        with pytest.raises(Exception, match="never changed and never removed"):
            postgresql.ask(change, name)


def test_state_made_by_several_hosts_at_once(postgresql: Postgresql) -> None:
    """A single host makes the state, and the others find the state; a host is recorded with its
    first run.
    """
    url = postgresql.url(postgresql.new_database())
    with ThreadPoolExecutor(4) as hosts:
        made = list(hosts.map(lambda n: prepare(url, KEY, host=f"web-{n}", init=True), range(4)))

    assert [False, False, False, True] == sorted(made)
    with closing(connect(url, KEY, host="web-9")) as state:
        run = state.begin_run(state.now())
        assert "web-9" == run.host
        state.end_run(run)
    names = postgresql.ask("SELECT name FROM host", url.partition("@/")[2].partition("?")[0])
    assert 2 == len(names)
    assert ("web-9",) in names


def test_extension_of_the_server(postgresql: Postgresql) -> None:
    """The tables of an extension do not count as another program's."""
    name = postgresql.new_database()
    postgresql.ask("CREATE TABLE spatial_ref_sys (id INTEGER)", name)
    postgresql.ask(
        "INSERT INTO pg_depend SELECT 'pg_class'::regclass, 'spatial_ref_sys'::regclass, 0,"
        " 'pg_extension'::regclass, oid, 0, 'e' FROM pg_extension LIMIT 1",
        name,
    )

    assert prepare(postgresql.url(name), KEY, init=True)


def test_empty_database_without_init(postgresql: Postgresql) -> None:
    """Opening and migrating an empty database are errors, and create no table."""
    name = postgresql.new_database()
    url = postgresql.url(name)
    for open_it in (
        lambda: connect(url, KEY),
        lambda: connect(url, KEY, reads_only=True),
        lambda: prepare(url, KEY, init=False),
    ):
        error = refused(open_it)
        assert f"there is no state in postgresql:///{name}" in str(error)
        assert "certferry state init" in str(error.hint)
    assert [] == postgresql.ask("SELECT 1 FROM pg_tables WHERE schemaname = 'public'", name)


def test_user_without_permission_to_create_tables(postgresql: Postgresql) -> None:
    """The hint has the grant."""
    name = postgresql.new_database()
    if not postgresql.ask("SELECT 1 FROM pg_roles WHERE rolname = 'guest'"):
        postgresql.ask("CREATE ROLE guest LOGIN")

    error = refused(lambda: prepare(postgresql.url(name, "guest"), KEY, init=True))

    assert "permission is missing: permission denied for schema public" in str(error)
    assert "GRANT CREATE" in str(error.hint)


def test_database_of_another_program(postgresql: Postgresql) -> None:
    """The database of another program stays unchanged."""
    name = postgresql.new_database()
    postgresql.ask("CREATE TABLE bookmark (url TEXT)", name)

    error = refused(lambda: prepare(postgresql.url(name), KEY, init=True))

    assert "holds the tables of another program" in str(error)
    assert [("bookmark",)] == postgresql.ask(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name
    )


def test_newer_schema(postgresql: Postgresql, name: str) -> None:
    """A newer schema is used until its release ends the support for this version."""
    url = postgresql.url(name)
    postgresql.ask("INSERT INTO certferry_migration VALUES (900, 'later')", name)
    connect(url, KEY).close()

    postgresql.ask("UPDATE certferry_schema SET oldest = 899", name)
    error = refused(lambda: connect(url, KEY))

    assert "schema 900" in str(error)


def test_schema_of_the_next_release(postgresql: Postgresql, name: str) -> None:
    """Rows stay, and this release works until a later script ends its support."""
    url, first = postgresql.url(name), read_migrations("postgresql")
    adds = Migration(24, "0024_adds", "ALTER TABLE notice ADD COLUMN later TEXT;")
    ends = Migration(25, "0025_ends", "UPDATE certferry_schema SET oldest = 24;")
    with closing(connect(url, KEY)) as store:
        store.append_history(ENTRY)
    with closing(PostgresqlDatabase(url)) as database:
        assert migrate(database, "web-1", [*first, adds])
        with closing(connect(url, KEY)) as store:
            assert [ENTRY.event] == [entry.event for entry in store.history(None, 10)]
            assert not prepare(url, KEY, init=False)

        assert migrate(database, "web-1", [*first, adds, ends])

    error = refused(lambda: connect(url, KEY))
    assert "newer certferry: schema 25" in str(error)
    assert [("web-1",)] == postgresql.ask("SELECT name FROM host", name)


def test_schema_from_before_the_first_release(postgresql: Postgresql, name: str) -> None:
    """Every way to open the state is refused, and changes nothing."""
    url = postgresql.url(name)
    postgresql.ask("UPDATE certferry_migration SET number = 22", name)
    for open_it in (
        lambda: connect(url, KEY),
        lambda: connect(url, KEY, reads_only=True),
        lambda: prepare(url, KEY, init=False),
        lambda: prepare(url, KEY, init=True),
    ):
        error = refused(open_it)

        assert "from before the first release: schema 22, the oldest known here: 23" in str(error)
        assert "name another place as `url` of [state]" in str(error.hint)
    assert [(22,)] == postgresql.ask("SELECT number FROM certferry_migration", name)


def test_database_in_another_encoding(postgresql: Postgresql) -> None:
    """The database is refused, because Chinese text would be an error later."""
    name = postgresql.new_database("template0 ENCODING 'LATIN1' LOCALE 'C'")

    error = refused(lambda: prepare(postgresql.url(name), KEY, init=True))

    assert "has the encoding LATIN1" in str(error)
