"""The state's contract, kept by SQLite in a file and in memory."""

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


class TestMemoryState(StateStoreContract):
    """SQLite in memory, seen by three processes."""

    @pytest.fixture
    def memory(self) -> MemoryState:
        """An empty memory."""
        return MemoryState()

    @pytest.fixture
    def store(self, memory: MemoryState) -> StateStore:
        """The memory as its owner sees it."""
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
        """The first handle."""
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


def _opened(folder: Path) -> Iterator[StateStore]:
    store = connect(folder / "state.db", folder / "secret.key")
    yield store
    store.close()
