"""The state's contract, kept by SQLite in a file and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.ports.state import StateStore
from certferry_sandbox.testing.contracts.state import StateStoreContract
from certferry_sandbox.testing.memory_state import MemoryState


class TestMemoryState(StateStoreContract):
    """SQLite in memory, seen by two processes."""

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


class TestSqliteState(StateStoreContract):
    """One file, opened twice."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[StateStore]:
        yield from _opened(tmp_path)

    @pytest.fixture
    def other(self, tmp_path: Path) -> Iterator[StateStore]:
        """The second handle, with connections of its own."""
        yield from _opened(tmp_path)


def _opened(folder: Path) -> Iterator[StateStore]:
    store = connect(folder / "state.db", folder / "secret.key")
    yield store
    store.close()
