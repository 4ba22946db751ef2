"""The contract of states: SQLite in a file, in memory and in a bucket, and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.generations import (
    BucketDatabase,
    BucketState,
    Generations,
    ThreadLocks,
)
from certferry.adapters.state.leases import HostState, LeaseLocks
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.sqlite import SqliteDatabase
from certferry.ports.state import StateStore
from certferry_sandbox.testing.contracts.state import StateStoreContract
from certferry_sandbox.testing.memory_objects import MemoryObjects
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
        """Return the memory of another process."""
        return memory.seen_by("another process")

    @pytest.fixture
    def elsewhere(self, memory: MemoryState) -> StateStore:
        """Return the memory of another host."""
        return memory.seen_by("a third process", host="web-2")


class TestBucketState(StateStoreContract):
    """Generations in a bucket, opened by three threads of a process.

    The newest generation has the work of all threads at the end.
    """

    @pytest.fixture
    def locks(self) -> ThreadLocks:
        return ThreadLocks()

    @pytest.fixture
    def database(self) -> Iterator[BucketDatabase]:
        """Open a database whose last stored generation equals its rows."""
        bucket = Generations(MemoryObjects(), KEY)
        with closing(BucketDatabase(bucket, None, "web-1")) as opened:
            yield opened
            rows = _all_rows(opened)
            opened.store()
        for newest in bucket.numbers()[-1:]:
            with closing(BucketDatabase(bucket, bucket.read(newest), "web-3")) as stored:
                assert rows == _all_rows(stored)

    @pytest.fixture
    def store(self, database: BucketDatabase, locks: ThreadLocks) -> Iterator[StateStore]:
        with closing(_Handle(database, Sealing(KEY), locks, "web-1")) as opened:
            yield opened

    @pytest.fixture
    def other(self, database: BucketDatabase, locks: ThreadLocks) -> Iterator[StateStore]:
        """Return the state of another run in the same process."""
        with closing(_Handle(database, Sealing(KEY), locks, "web-1")) as opened:
            yield opened

    @pytest.fixture
    def elsewhere(self, database: BucketDatabase, locks: ThreadLocks) -> Iterator[StateStore]:
        """Return the state of a host with another name."""
        with closing(_Handle(database, Sealing(KEY), locks, "web-2")) as opened:
            yield opened


class _Handle(BucketState):
    """A handle of an open database, among several."""

    def close(self) -> None:
        """Release the locks of this handle; the rows stay for the others."""
        self.release_locks()


def _all_rows(database: BucketDatabase) -> list[list[tuple[object, ...]]]:
    named = database.rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    queries = [f"SELECT * FROM {row['name']}" for row in named]  # noqa: S608 - names of the schema
    return [[tuple(row) for row in database.rows(query)] for query in queries]


class TestSqliteState(StateStoreContract):
    """A file, opened twice."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[StateStore]:
        yield from _opened(tmp_path)

    @pytest.fixture
    def other(self, tmp_path: Path) -> Iterator[StateStore]:
        """The second handle, with connections of its own."""
        yield from _opened(tmp_path)

    @pytest.fixture
    def elsewhere(self, tmp_path: Path, store: StateStore) -> Iterator[StateStore]:
        """Return the file of another host, with locks of its own."""
        assert store.host != "web-2"
        database = SqliteDatabase(tmp_path / "state.db")
        sealing, locks = Sealing(tmp_path / "secret.key"), LeaseLocks(tmp_path / "elsewhere")
        with closing(HostState(database, sealing, locks, "web-2")) as opened:
            yield opened


class TestPostgresqlState(StateStoreContract):
    """A database, opened by two processes of a host and by another host."""

    @pytest.fixture
    def url(self, postgresql: Postgresql, empty_state: Callable[[], str]) -> str:
        """Return the address of an empty state."""
        return postgresql.url(empty_state())

    @pytest.fixture
    def store(self, url: str) -> Iterator[StateStore]:
        """Return the state of the first host."""
        yield from _shared(url, "web-1")

    @pytest.fixture
    def other(self, url: str) -> Iterator[StateStore]:
        """Return the state of another process."""
        yield from _shared(url, "web-1")

    @pytest.fixture
    def elsewhere(self, url: str) -> Iterator[StateStore]:
        """Return the state of another host."""
        yield from _shared(url, "web-2")


@pytest.fixture(scope="module")
def empty_state(postgresql: Postgresql) -> Iterator[Callable[[], str]]:
    """Return a function that empties the single database of all tests."""
    with postgresql.states() as emptied:
        yield emptied


@pytest.fixture(scope="module")
def pooler(postgresql: Postgresql) -> Iterator[int]:
    """The port of PgBouncer, before the server."""
    with running_pgbouncer(postgresql) as port:
        yield port


@thorough
class TestPooledState(TestPostgresqlState):
    """The same contract through PgBouncer in transaction mode."""

    @pytest.fixture
    def url(self, postgresql: Postgresql, pooler: int) -> str:
        """Return the address of an empty state."""
        return f"postgresql://postgres@{HOST}:{pooler}/{postgresql.new_state()}"


@thorough
class TestStateOfTheNextVersion(TestPostgresqlState):
    """The same contract after a host with the next version has changed the schema.

    Added tables, and added columns that are nullable or have a default, leave this version working.
    """

    @pytest.fixture
    def url(self, postgresql: Postgresql) -> str:
        """Return the address of an empty state."""
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
