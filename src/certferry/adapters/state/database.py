"""One SQLite file: a connection for each thread, writes as whole transactions, our own errors."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from certferry.adapters.state.failures import in_our_words
from certferry.errors import StateError, StateUnavailable
from certferry.text import Text

PATIENCE = timedelta(seconds=10)
"""How long a write waits for another process's."""
_PAUSE = 0.01
_WRITE_AHEAD = "wal"

Column = str | int | None
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Own:
    """A thread's connection, and what it holds while it works with it: at times it does so within
    its own work.
    """

    connection: sqlite3.Connection
    in_use: threading.RLock = field(default_factory=threading.RLock)


class Database:
    """The file behind a state. It must exist; an empty one is a database without tables."""

    def __init__(self, path: Path, patience: timedelta = PATIENCE) -> None:
        self.path = path
        self._patience = patience.total_seconds()
        self._connections: dict[threading.Thread, _Own] = {}
        self._guard = threading.Lock()
        self._closed = False

    def rows(self, query: str, *values: Column) -> list[Row]:
        """Read. Takes no lock that a writer would have to wait for."""
        with in_our_words(self.path), self._in_use() as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read several times at one moment: what others write meanwhile is not seen."""
        with self._begun("BEGIN"):
            yield

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: all of it has happened when the block ends, nothing when it raises.

        It begins as a writer (`IMMEDIATE`), so that what it reads is still true when it writes.
        """
        with self._begun("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _begun(self, begin: str) -> Iterator[sqlite3.Connection]:
        with in_our_words(self.path), self._in_use() as connection:
            try:
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def connection(self) -> sqlite3.Connection:
        """Give this thread's connection."""
        return self._own().connection

    @contextmanager
    def _in_use(self) -> Iterator[sqlite3.Connection]:
        """Have this thread's connection for a `with` block, in which nobody closes it: SQLite would
        bring down the whole process.
        """
        own = self._own()
        with own.in_use:
            if self._closed:
                raise _has_been_closed(self.path)
            yield own.connection

    def _own(self) -> _Own:
        found = self._connections.get(threading.current_thread())
        return self._open() if found is None else found

    def use_write_ahead_log(self) -> None:
        """Let nobody who reads wait for a writer: a property of the file, set once for ever."""
        with in_our_words(self.path):
            if self._journal_mode("PRAGMA journal_mode") == _WRITE_AHEAD:
                return
            if self._switch_with_patience() != _WRITE_AHEAD:
                raise StateUnavailable(
                    Text("{path}: its file system cannot share a database", path=self.path),
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
        ((mode,),) = self.connection().execute(pragma).fetchall()
        return str(mode)

    def close(self) -> None:
        """Close every thread's connection, those of threads that have ended too."""
        with self._guard:
            self._closed = True
            for own in self._connections.values():
                with own.in_use:
                    own.connection.close()
            self._connections.clear()

    def _open(self) -> _Own:
        with self._guard:
            if self._closed:
                raise _has_been_closed(self.path)
            self._close_those_of_ended_threads()
            own = _Own(self._connect())
            self._connections[threading.current_thread()] = own
            return own

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._patience,
            isolation_level=None,  # transactions are begun where `transaction` says so
            check_same_thread=False,  # used by one thread, but closed by whoever closes all
        )
        try:
            # A write is on the disk when it returns: a power failure loses no account and no key.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _close_those_of_ended_threads(self) -> None:
        for thread in [thread for thread in self._connections if not thread.is_alive()]:
            self._connections.pop(thread).connection.close()


def _has_been_closed(path: Path) -> StateError:
    return StateError(Text("{path} has been closed", path=path))
