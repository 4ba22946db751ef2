"""The state in one SQLite file on a local disk, shared by every certferry on the host."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from certferry.adapters.state.failures import in_our_words, takes_no_writes
from certferry.adapters.state.lease_locks import LeaseLocks
from certferry.adapters.state.leases import Leases
from certferry.adapters.state.migrations import carry_out, is_migrated, migrate, read_migrations
from certferry.adapters.state.private_files import make_directory, make_file
from certferry.adapters.state.runs import Runs
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.sqlite_database import Prove, SqliteDatabase
from certferry.adapters.state.store import SqlState
from certferry.errors import StateError, StateUnavailable
from certferry.file_trust import must_be_trusted
from certferry.ports.state import StateStore

_SCHEME = "sqlite:///"
_LEASES = "-leases"
"""What the folder of the lease locks is called behind the database's name, as SQLite calls its own
files beside it."""


def connect(url: str, key_file: Path, *, looks_only: bool) -> StateStore:
    """See `connect.connect`; three slashes stand before the path, which may begin with a fourth.

    What is made can be read by its owner only: directories 0700, files 0600.
    """
    path = Path(url.removeprefix(_SCHEME))
    with in_our_words(path):
        is_made = not looks_only or _is_made(path)
    sealing = Sealing(key_file)
    if not is_made:
        return _state(_NoDatabase(path), sealing)
    try:
        return _state(_opened(path, sealing.proof_of), sealing)
    except StateUnavailable as problem:
        if not (looks_only and takes_no_writes(path) and _is_at_rest(path)):
            raise
        as_it_is = _Unwritable(path)
        if not is_migrated(as_it_is, read_migrations(as_it_is.dialect)):
            raise
        # Just then an operator wants to look.
        return _state(as_it_is, sealing, problem)


def in_memory() -> StateStore:
    """See `connect.empty_state`."""
    nowhere = Path("state.db")
    return _state(_NoDatabase(nowhere), Sealing(nowhere.with_name("secret.key")))


def _state(
    database: SqliteDatabase, sealing: Sealing, problem: StateError | None = None
) -> StateStore:
    # Whichever way leads to a database, its leases are the same.
    path = database.place.resolve()
    locks = LeaseLocks(path.with_name(path.name + _LEASES))
    leases, runs = Leases(database, locks), Runs(database, locks)
    return SqlState(database, sealing, leases, runs, problem)


def _opened(path: Path, prove: Prove) -> SqliteDatabase:
    with in_our_words(path):
        make_directory(path.parent)
        make_file(path, b"")
        must_be_trusted(path)
        # SQLite's files beside it are made where a link leads to.
        must_be_trusted(path.resolve().parent, makes_files=True)
    database = SqliteDatabase(path, prove=prove)
    try:
        migrate(database, read_migrations(database.dialect))
        database.use_write_ahead_log()
    except BaseException:
        database.close()
        raise
    return database


def _is_made(path: Path) -> bool:
    """Tell whether there is a state. Raises `OSError` when it cannot be known: behind a closed
    door, or where a link leads nowhere, as to a disk that is not there just now.
    """
    for place in (path, *path.parents):
        try:
            place.stat()  # no `exists`: from Python 3.14 on it says no, whatever the trouble is
        except FileNotFoundError:
            if place.is_symlink() and not (place == path and path.resolve().parent.is_dir()):
                raise
        else:
            return place == path
    return False


def _is_at_rest(path: Path) -> bool:
    """Tell whether the file alone has everything: no process has it open, nor left it halfway."""
    try:
        return not any(_size(path.with_name(path.name + end)) for end in ("-wal", "-journal"))
    except OSError:
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _Unwritable(SqliteDatabase):
    """One on a disk that takes no writes: the file is read as it is, without the files that SQLite
    makes beside it (https://sqlite.org/uri.html, "immutable").
    """

    def _connect(self) -> sqlite3.Connection:
        return self._connect_to(f"{self.place.absolute().as_uri()}?immutable=1")


class _NoDatabase(SqliteDatabase):
    """One that has not been made yet: each thread finds an empty one, in its memory."""

    def _connect(self) -> sqlite3.Connection:
        connection = self._connect_to(":memory:")
        carry_out(self, connection, read_migrations(self.dialect))
        return connection
