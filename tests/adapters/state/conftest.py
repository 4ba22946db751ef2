"""A state in a folder of its own, and programs that work on it in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.ports.state import StateStore
from tests.adapters.state.child import Child


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, or will be."""
    return tmp_path / "state.db"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Where the key is, or will be."""
    return tmp_path / "secret.key"


@pytest.fixture
def store(path: Path, key_file: Path) -> Iterator[StateStore]:
    opened = connect(path, key_file)
    yield opened
    opened.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Child]]:
    """Start a program of `child_program.py` on the state."""
    with ExitStack() as children:
        yield lambda program: children.enter_context(Child(program, tmp_path))
