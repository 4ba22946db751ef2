"""The state's contract, kept by SQLite in a file and in memory, and by PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.leases import HostState, LeaseLocks
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.sqlite import SqliteDatabase
from certferry.ports.state import StateStore
from certferry_sandbox.testing.contracts.state import StateStoreContract
from certferry_sandbox.testing.memory_state import MemoryState
from tests.support.ports import HOST
from tests.support.postgresql import KEY, Postgresql, running_pgbouncer
from tests.support.tiers import thorough


class TestMemoryState(StateStoreContract):
    """SQLite in memory, seen by three processes."""

    @pytest.fixture
    def memory(self) -> MemoryState:
        return MemoryState()

    @pytest.fixture
    def store(self, memory: MemoryState) -> StateStore:
        return memory

    @pytest.fixture
    def other(self, memory: MemoryState) -> StateStore:
        """The memory as another process sees it."""
        return memory.seen_by("another process")

    @pytest.fixture
    def elsewhere(self, memory: MemoryState) -> StateStore:
        """The memory as another host sees it."""
        return memory.seen_by("a third process", host="web-2")


class TestSqliteState(StateStoreContract):
    """One file, opened twice."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[StateStore]:
        yield from _opened(tmp_path)

    @pytest.fixture
    def other(self, tmp_path: Path) -> Iterator[StateStore]:
        """The second handle, with connections of its own."""
        yield from _opened(tmp_path)

    @pytest.fixture
    def elsewhere(self, tmp_path: Path, store: StateStore) -> Iterator[StateStore]:
        """The file as another host would see it, which has its own locks."""
        assert store.host != "web-2"
        database = SqliteDatabase(tmp_path / "state.db")
        sealing, locks = Sealing(tmp_path / "secret.key"), LeaseLocks(tmp_path / "elsewhere")
        with closing(HostState(database, sealing, locks, "web-2")) as opened:
            yield opened


class TestPostgresqlState(StateStoreContract):
    """One database, opened by two processes of a host, and by one of another."""

    @pytest.fixture
    def url(self, postgresql: Postgresql) -> str:
        """Where an empty state is."""
        return postgresql.url(postgresql.new_state())

    @pytest.fixture
    def store(self, url: str) -> Iterator[StateStore]:
        """The database as its host sees it."""
        yield from _shared(url, "web-1")

    @pytest.fixture
    def other(self, url: str) -> Iterator[StateStore]:
        """The database as another process sees it."""
        yield from _shared(url, "web-1")

    @pytest.fixture
    def elsewhere(self, url: str) -> Iterator[StateStore]:
        """The database as another host sees it."""
        yield from _shared(url, "web-2")


@pytest.fixture(scope="module")
def pooler(postgresql: Postgresql) -> Iterator[int]:
    """The port of PgBouncer, before the server."""
    with running_pgbouncer(postgresql) as port:
        yield port


@thorough
class TestPooledState(TestPostgresqlState):
    """The same through PgBouncer in transaction mode."""

    @pytest.fixture
    def url(self, postgresql: Postgresql, pooler: int) -> str:
        """Where an empty state is."""
        return f"postgresql://postgres@{HOST}:{pooler}/{postgresql.new_state()}"


@thorough
class TestStateOfTheNextVersion(TestPostgresqlState):
    """The same where a host with the next version has changed the schema as it may: it has added
    tables, and columns that are nullable or have a default. This version goes on working there.
    """

    @pytest.fixture
    def url(self, postgresql: Postgresql) -> str:
        """Where an empty state is."""
        name = postgresql.new_state()
        added = "ADD COLUMN later TEXT, ADD COLUMN later_flag BOOLEAN NOT NULL DEFAULT FALSE"
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        for (table,) in postgresql.ask(tables, name):
            postgresql.ask(f"ALTER TABLE {table} {added}", name)
        postgresql.ask("CREATE TABLE later (host TEXT PRIMARY KEY)", name)
        postgresql.ask("INSERT INTO certferry_migration VALUES (900, 'later')", name)
        return postgresql.url(name)


def _shared(url: str, host: str) -> Iterator[StateStore]:
    with closing(connect(url, KEY, host=host)) as store:
        yield store


def _opened(folder: Path) -> Iterator[StateStore]:
    store = connect(folder / "state.db", folder / "secret.key")
    yield store
    store.close()
