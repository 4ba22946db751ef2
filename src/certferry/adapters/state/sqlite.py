"""The state in one SQLite file on a local disk, shared by every certferry on the host."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path

from certferry.adapters.state.columns import from_optional_moment
from certferry.adapters.state.database import (
    Column,
    Row,
    carry_out,
    is_migrated,
    migrate,
    read_migrations,
)
from certferry.adapters.state.failures import in_our_words, takes_no_writes
from certferry.adapters.state.leases import LeaseLocks, Leases
from certferry.adapters.state.runs import Runs
from certferry.adapters.state.sealing import Sealing, make_directory, make_file
from certferry.adapters.state.store import SqlState
from certferry.core.certificates.pem import issuer_end, parse_chain
from certferry.errors import CertificateError, StateError, StateUnavailable
from certferry.file_trust import must_be_trusted
from certferry.ports.state import StateStore
from certferry.text import Text

PATIENCE = timedelta(seconds=10)
"""How long a write waits for another process's."""
_PAUSE = 0.01

Prove = Callable[..., str | None]
"""What a migration proves rows with that were written before there were proofs (`Sealing`)."""

_WRITE_AHEAD = "wal"


class _Own:
    """A thread's connection. In a `with` block it is not closed: SQLite would bring down the whole
    process. A thread may begin one within another.
    """

    def __init__(self, connection: sqlite3.Connection, place: Path) -> None:
        self.connection = connection
        self._place = place
        self._in_use = threading.RLock()
        self._is_closed = False

    def __enter__(self) -> sqlite3.Connection:
        self._in_use.acquire()
        if self._is_closed:
            self._in_use.release()
            raise _has_been_closed(self._place)
        return self.connection

    def __exit__(self, *_: object) -> None:
        self._in_use.release()

    def close(self) -> None:
        """Close the connection, once the thread does not work with it."""
        with self._in_use:
            self._is_closed = True
            self.connection.close()


class SqliteDatabase:
    """The file behind a state. It must exist; an empty one is a database without tables."""

    dialect = "sqlite"

    def __init__(
        self, path: Path, patience: timedelta = PATIENCE, prove: Prove | None = None
    ) -> None:
        self.place = path
        self._prove = prove or _no_proof
        self._patience = patience.total_seconds()
        self._connections: dict[threading.Thread, _Own] = {}
        self._guard = threading.Lock()
        self._closed = False

    def rows(self, query: str, *values: Column) -> list[Row]:
        """Read. Takes no lock that a writer would have to wait for."""
        with in_our_words(self.place), self._own() as connection:
            return connection.execute(query, values).fetchall()

    def snapshot(self) -> AbstractContextManager[sqlite3.Connection]:
        """See `Database.snapshot`."""
        return self._begun("BEGIN")

    def transaction(
        self, *, serializable: bool = False
    ) -> AbstractContextManager[sqlite3.Connection]:
        """See `Database.transaction`: there is one writer at a time, so all are serializable. It
        begins as that writer (`IMMEDIATE`), before it has read anything.
        """
        del serializable
        return self._begun("BEGIN IMMEDIATE")

    @contextmanager
    def _begun(self, begin: str) -> Iterator[sqlite3.Connection]:
        with in_our_words(self.place), self._own() as connection:
            try:
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def tables(self) -> set[str]:
        """See `Database.tables`."""
        return {name for (name,) in self.rows("SELECT name FROM sqlite_schema")}

    def statements(self, script: str) -> Iterator[str]:
        """See `Database.statements`: `executescript` would commit before it begins."""
        statement = ""
        for piece in script.split(";"):
            statement += piece + ";"
            # A semicolon may also stand in a string, a comment or a trigger's body.
            if sqlite3.complete_statement(statement):
                yield statement
                statement = ""
        yield statement

    def _own(self) -> _Own:
        found = self._connections.get(threading.current_thread())
        return self._open() if found is None else found

    def use_write_ahead_log(self) -> None:
        """Let no reader wait for a writer: a property of the file, set once for ever."""
        with in_our_words(self.place):
            if self._journal_mode("PRAGMA journal_mode") == _WRITE_AHEAD:
                return
            if self._switch_with_patience() != _WRITE_AHEAD:
                raise StateUnavailable(
                    Text("{path}: its file system cannot share a database", path=self.place),
                    hint=Text("put the state on a local disk"),
                )

    def _switch_with_patience(self) -> str:
        deadline = time.monotonic() + self._patience
        while True:
            # SQLite may say "busy" at once, without its own waiting, to one of two processes
            # that open a new file at the same moment.
            try:
                return self._journal_mode(f"PRAGMA journal_mode = {_WRITE_AHEAD}")
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def _journal_mode(self, pragma: str) -> str:
        ((mode,),) = self._own().connection.execute(pragma).fetchall()
        return str(mode)

    def close(self) -> None:
        """Close every thread's connection, those of threads that have ended too."""
        with self._guard:
            self._closed = True
            for own in self._connections.values():
                own.close()
            self._connections.clear()

    def _open(self) -> _Own:
        with self._guard:
            if self._closed:
                raise _has_been_closed(self.place)
            self._close_those_of_ended_threads()
            own = _Own(self._connect(), self.place)
            self._connections[threading.current_thread()] = own
            return own

    def _connect(self) -> sqlite3.Connection:
        return self._connect_to(self.place)

    def _connect_to(self, file: Path | str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            file,
            uri=str(file).startswith("file:"),
            timeout=self._patience,
            isolation_level=None,  # transactions are begun where `transaction` says so
            check_same_thread=False,  # used by one thread, but closed with all others
        )
        try:
            # A write is on the disk when it returns: a power failure loses no account and no key.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.create_function("sha256_hex", 1, _sha256_hex, deterministic=True)
            connection.create_function("proof_of", -1, self._prove)
            connection.create_function("issuer_end", 1, _issuer_end)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _close_those_of_ended_threads(self) -> None:
        for thread in [thread for thread in self._connections if not thread.is_alive()]:
            self._connections.pop(thread).connection.close()


def _sha256_hex(text: str | None) -> str | None:
    """Give what migrations ask SQLite for, which has no function of its own."""
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def _issuer_end(fullchain_pem: str | None) -> str | None:
    """Give until when what signed a leaf is valid, `None` where that is unknown."""
    try:
        return from_optional_moment(issuer_end(parse_chain(fullchain_pem or "")))
    except CertificateError:
        return None


def _no_proof(*_bound_to: str) -> None:
    return None


def _has_been_closed(path: Path) -> StateError:
    return StateError(Text("{path} has been closed", path=path))


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
        return _state(InMemory(path), sealing)
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
    return _state(InMemory(nowhere), Sealing(nowhere.with_name("secret.key")))


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
    port, or where a link leads nowhere, as to a disk that is not there just now.
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


class InMemory(SqliteDatabase):
    """One that ends with its process. Its threads share one connection, one after another."""

    def count_changes(self) -> int:
        """Count the rows that were ever written, changed or removed."""
        with self._own() as connection:
            return connection.total_changes

    def _own(self) -> _Own:
        with self._guard:
            if self._closed:
                raise _has_been_closed(self.place)
            owner = threading.main_thread()
            if owner not in self._connections:
                self._connections[owner] = _Own(self._connect(), self.place)
            return self._connections[owner]

    def _connect(self) -> sqlite3.Connection:
        connection = self._connect_to(":memory:")
        weakref.finalize(self, connection.close)
        connection.deserialize(_empty())
        return connection


@cache
def _empty() -> bytes:
    """Return a database without rows: to migrate one takes as long as hundreds of questions."""
    nowhere = SqliteDatabase(Path(":memory:"))
    with closing(nowhere), nowhere.transaction() as connection:
        carry_out(nowhere, connection, read_migrations(nowhere.dialect))
        return connection.serialize()
