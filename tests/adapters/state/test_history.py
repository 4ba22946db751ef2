"""History is append-only, for every program."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from certferry.core.observed.records import HistoryEntry
from certferry.ports.state import StateStore
from tests.adapters.state.child_program import NOW


@pytest.mark.parametrize(
    "statement", ["UPDATE history SET who = 'nobody'", "DELETE FROM history WHERE number = 1"]
)
def test_history_is_neither_changed_nor_removed(
    path: Path, store: StateStore, statement: str
) -> None:
    """The database itself refuses, also from another program."""
    entry = HistoryEntry(NOW, "img", "issued", "root@host", {"fingerprint": "ab"})
    store.append_history(entry)

    with closing(sqlite3.connect(path)) as raw:
        with pytest.raises(sqlite3.IntegrityError, match="history is never"):
            raw.execute(statement)
        raw.rollback()

    assert (entry,) == store.history(None, 10)
