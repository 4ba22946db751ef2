"""Migrations: each applied once, all or none of them, and never backwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.backup import back_up
from certferry.adapters.state.connect import connect, open_whole, prepare
from certferry.adapters.state.database import Migration, migrate, read_migrations
from certferry.adapters.state.sqlite import SqliteDatabase
from certferry.core.observed.records import HistoryEntry
from certferry.errors import ConfigError, StateError, StateTooNew, StateTooOld
from tests.adapters.state.child_program import NOW

SHIPS = Migration(
    1, "0001_ships", "CREATE TABLE ship (name TEXT); CREATE TABLE host (name TEXT PRIMARY KEY);"
)
PORTS = Migration(
    2,
    "0002_ports",
    """
    CREATE TABLE port (name TEXT); -- more than one; and a comment
    CREATE TRIGGER no_port_is_lost BEFORE DELETE ON port
    BEGIN
        SELECT RAISE(ABORT, 'ports; stay');
    END;
    INSERT INTO port VALUES ('a;b')
    """,
)
BROKEN = Migration(3, "0003_broken", "CREATE TABLE quay (name TEXT); CREATE NONSENSE;")


@pytest.fixture
def database(path: Path) -> Iterator[SqliteDatabase]:
    path.touch()
    with closing(SqliteDatabase(path)) as opened:
        yield opened


def apply(database: SqliteDatabase, migrations: Sequence[Migration]) -> None:
    migrate(database, "web-1", migrations)


def tables(database: SqliteDatabase) -> set[str]:
    rows = database.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
    return {row["name"] for row in rows}


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_scripts_of_the_schema(dialect: str) -> None:
    """The scripts count from 23 without a gap, and every kind of database has the same scripts."""
    migrations = read_migrations(dialect)

    assert list(range(23, 23 + len(migrations))) == [m.number for m in migrations]
    assert all(m.name.startswith(f"{m.number:04}_") and m.script for m in migrations)
    assert [m.name for m in read_migrations("sqlite")] == [m.name for m in migrations]


def test_empty_file_is_migrated(path: Path, key_file: Path) -> None:
    """An empty file becomes a state."""
    path.touch()

    with closing(connect(path, key_file)) as store:
        store.append_history(HistoryEntry(NOW, "img", "issued", "root"))
        assert 1 == len(store.history("img", 10))


def test_missing_migrations_are_applied(database: SqliteDatabase) -> None:
    """Each migration runs once, with any text between semicolons."""
    apply(database, [SHIPS])
    apply(database, [SHIPS, PORTS])
    apply(database, [SHIPS, PORTS])

    assert {"certferry_migration", "host", "ship", "port"} == tables(database)
    assert ["a;b"] == [row["name"] for row in database.rows("SELECT name FROM port")]
    applied = database.rows("SELECT number, name FROM certferry_migration ORDER BY number")
    assert [(1, "0001_ships"), (2, "0002_ports")] == list(map(tuple, applied))
    with pytest.raises(StateError, match="ports; stay"):
        database.rows("DELETE FROM port")


def test_failed_migrations_are_rolled_back(database: SqliteDatabase) -> None:
    """A broken migration rolls back the migrations before, and the database stays unchanged."""
    with pytest.raises(StateError, match="NONSENSE"):
        apply(database, [SHIPS, PORTS, BROKEN])
    assert set() == tables(database)

    apply(database, [SHIPS])
    with pytest.raises(StateError, match="NONSENSE"):
        apply(database, [SHIPS, PORTS, BROKEN])
    assert {"certferry_migration", "host", "ship"} == tables(database)


def test_database_of_a_newer_version(path: Path, key_file: Path) -> None:
    """The refusal has both numbers and a hint, and the file stays unchanged."""
    connect(path, key_file).close()
    newest = read_migrations("sqlite")[-1].number
    with closing(sqlite3.connect(path)) as newer, newer:
        newer.execute("INSERT INTO certferry_migration VALUES (9001, '9001_new')")
    before = path.read_bytes()

    with pytest.raises(StateTooNew, match=f"schema 9001, known here: {newest}") as refused:
        connect(path, key_file)

    assert "install the newest certferry" in str(refused.value.hint)
    assert not refused.value.retry.allowed
    assert before == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


def test_second_process_applies_no_migration(database: SqliteDatabase, path: Path) -> None:
    """A process that waited for another's migrations finds the schema up to date."""
    with closing(SqliteDatabase(path)) as first:
        apply(first, [SHIPS])
    apply(database, [SHIPS])

    assert 1 == len(database.rows("SELECT * FROM certferry_migration"))


def test_schema_of_the_next_release(path: Path, key_file: Path) -> None:
    """A migration keeps the rows and the host of a file; this release then refuses the file."""
    with closing(connect(path, key_file, host="web-1")) as store:
        store.append_history(HistoryEntry(NOW, "img", "issued", "root"))
    later = Migration(24, "0024_later", "ALTER TABLE notice ADD COLUMN later TEXT;")
    with closing(SqliteDatabase(path)) as database:
        assert migrate(database, "web-2", [*read_migrations("sqlite"), later])
        assert ["web-1"] == [row["name"] for row in database.rows("SELECT name FROM host")]
        assert ["img"] == [row["lineage"] for row in database.rows("SELECT lineage FROM history")]

    with pytest.raises(StateTooNew, match="schema 24, known here: 23"):
        connect(path, key_file)


UNRELEASED = {
    "the last": ("UPDATE certferry_migration SET number = 22", 22),
    "the first": ("UPDATE certferry_migration SET number = 1, name = '0001_initial'", 1),
    "unknown": ("DELETE FROM certferry_migration", 0),
}


@pytest.mark.parametrize("kind", UNRELEASED)
def test_state_from_before_the_first_release(path: Path, key_file: Path, kind: str) -> None:
    """Every way to open the state is refused with both numbers and a hint, and the file stays
    unchanged.
    """
    connect(path, key_file).close()
    change, number = UNRELEASED[kind]
    with closing(sqlite3.connect(path)) as older, older:
        older.execute(change)
    before = path.read_bytes()

    for open_it in (
        lambda: connect(path, key_file),
        lambda: connect(path, key_file, reads_only=True),
        lambda: prepare(path, key_file, init=False),
        lambda: prepare(path, key_file, init=True),
        lambda: open_whole(path, key_file),
        lambda: back_up(path, key_file, NOW),
    ):
        with pytest.raises(StateTooOld) as refused:
            open_it()

        message, hint = str(refused.value.message), str(refused.value.hint)
        assert (
            f"{path} was written by a certferry from before the first release: schema {number},"
            " the oldest known here: 23" == message
        )
        assert "move it away, or name another place as `url` of [state]" in hint
        assert "state_too_old" == refused.value.code
        assert not refused.value.retry.allowed
    assert before == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


def test_prepared_state(path: Path, key_file: Path) -> None:
    """`init` alone makes the state, and a second preparation changes nothing."""
    with pytest.raises(ConfigError, match="there is no state at"):
        prepare(path, key_file, init=False)
    assert not path.exists()

    assert prepare(path, key_file, init=True)
    assert not prepare(path, key_file, init=True)
    assert not prepare(path, key_file, init=False)
