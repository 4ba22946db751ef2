"""A state in a folder of its own, and child processes that work on the state."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.ports.state import StateStore
from tests.adapters.state.attacked import Attacked, filled
from tests.adapters.state.child import Child
from tests.support.postgresql import KEY, Postgresql


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the database, which may not exist yet."""
    return tmp_path / "state.db"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """The path of the key file, which may not exist yet."""
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


@pytest.fixture(params=["sqlite", "postgresql"])
def attacked(request: pytest.FixtureRequest, path: Path, key_file: Path) -> Iterator[Attacked]:
    """A state with two lineages, a user with a session, and a token."""
    if request.param == "sqlite":
        with (
            closing(connect(path, key_file)) as store,
            closing(sqlite3.connect(path, isolation_level=None)) as raw,
        ):
            yield Attacked(store, raw.executescript, filled(store), is_shared=False)
        return
    server: Postgresql = request.getfixturevalue("postgresql")
    name = server.new_state()
    with closing(connect(server.url(name), KEY, host="web-1")) as store:
        # The owner of a database can switch off foreign keys and triggers.
        without_triggers = "SET session_replication_role = replica; "
        bundle = filled(store)
        yield Attacked(
            store,
            lambda statement: server.ask(without_triggers + statement, name),
            bundle,
            is_shared=True,
        )


@pytest.fixture
def name(postgresql: Postgresql) -> str:
    """A database with an empty state."""
    return postgresql.new_state()


@pytest.fixture
def database(postgresql: Postgresql, name: str) -> Iterator[PostgresqlDatabase]:
    """The database, as a host opens it."""
    with closing(PostgresqlDatabase(postgresql.url(name))) as opened:
        yield opened
