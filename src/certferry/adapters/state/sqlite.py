"""The state in one SQLite file on a local disk, shared by every certferry on the host."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from certferry.adapters.state import database as databases
from certferry.adapters.state import failures
from certferry.adapters.state.columns import PLAIN, NoText, Value
from certferry.adapters.state.failures import PRIMARY, takes_no_writes, translating_errors
from certferry.adapters.state.leases import HostState, LeaseLocks
from certferry.adapters.state.sealing import Sealing, make_directory, make_file
from certferry.adapters.state.store import must_be_in_use
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, StateError, StateUnavailable
from certferry.file_trust import must_be_trusted
from certferry.ports.state import StateStore
from certferry.text import Text

PATIENCE = timedelta(seconds=10)
"""How long a write waits for another process's write."""
_PAUSE = 0.01

T = TypeVar("T")

_WRITE_AHEAD = "wal"

_File = tuple[int, int]
"""The identity of a file under any name: the numbers of the device and the inode."""


class _Own:
    """A thread's connection, used in a `with` block. A nested block of the same thread raises
    `RuntimeError`. `close` waits for the end of the block, because closing a connection in use
    would crash the process.
    """

    def __init__(self, connection: sqlite3.Connection, place: Path, file: _File | None) -> None:
        self.connection = connection
        self.file = file
        self._place = place
        self._in_use = threading.RLock()
        self._is_at_work = False
        self._is_closed = False

    def __enter__(self) -> sqlite3.Connection:
        self._in_use.acquire()
        if self._is_closed or self._is_at_work:
            self._in_use.release()
            if self._is_at_work:
                raise RuntimeError("a function of a transaction must not query the database itself")
            raise _has_been_closed(self._place)
        self._is_at_work = True
        return self.connection

    def __exit__(self, *_: object) -> None:
        self._is_at_work = False
        self._in_use.release()

    def close(self) -> None:
        """Close the connection as soon as the thread's `with` block has ended."""
        with self._in_use:
            self._is_closed = True
            self.connection.close()


class _SqliteTransaction(databases.Transaction):
    """See `Transaction`: a connection with a transaction in progress."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, *values: Value) -> list[databases.Row]:
        """See `Reader.rows`."""
        return _rows(self._connection, query, values)

    def execute(self, query: str, *values: Value) -> None:
        self._connection.execute(query, values)

    def execute_each(self, query: str, rows: Iterable[Sequence[Value]]) -> None:
        self._connection.executemany(query, rows)


def _rows(
    connection: sqlite3.Connection, query: str, values: Sequence[Value]
) -> list[databases.Row]:
    """Return the rows of a query, with bytes as `NoText`. Raises `Unreadable` for too long a
    result.
    """
    try:
        return _bounded(connection, query, values)
    except sqlite3.DataError as problem:  # a value longer than the connection's limit
        raise failures.too_long(failures.table_of(query)) from problem
    except sqlite3.OperationalError as problem:
        # Recognised by the words of Python's module, because SQLite has no code for this error.
        if connection.text_factory is not str or "decode to UTF-8" not in str(problem):
            raise
    connection.text_factory = _text_or_bytes  # slower, so only for this query
    try:
        return _rows(connection, query, values)
    finally:
        connection.text_factory = str


def _bounded(
    connection: sqlite3.Connection, query: str, values: Sequence[Value]
) -> list[databases.Row]:
    rows: list[databases.Row] = []
    left = failures.LONGEST_RESULT
    for row in connection.execute(query, values):
        left -= failures.OF_A_ROW
        has_bytes = False
        for value in row:
            if type(value) is str:
                left -= len(value)
            elif type(value) is bytes:
                left -= len(value)
                has_bytes = True
        if left < 0:
            raise failures.too_long(failures.table_of(query))
        rows.append(_without_bytes(row) if has_bytes else row)
    return rows


def _without_bytes(row: sqlite3.Row) -> databases.NamedRow:
    values = [NoText.of(value) if type(value) is bytes else value for value in row]
    return databases.NamedRow(values, {name: place for place, name in enumerate(row.keys())})


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _statements(script: str) -> Iterator[str]:
    """Split a script into statements, because `executescript` would first commit the
    transaction.
    """
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        # A semicolon may belong to a string, a comment or a trigger's body.
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement


def _stop(tables: Sequence[str], sentence: str) -> Iterator[str]:
    quoted = sentence.replace("'", "''")
    for table in tables:
        for change in ("INSERT", "UPDATE", "DELETE"):
            yield (
                f"CREATE TRIGGER {table}_stays_at_{change} BEFORE {change} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{quoted}'); END"
            )


class SqliteDatabase:
    """See `Database`: the file behind a state. The file must exist; an empty file is a database
    without tables.
    """

    dialect = databases.Dialect(
        "sqlite",
        "SELECT name FROM sqlite_schema",
        "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
        _statements,
        "SELECT entries, link AS head, (SELECT COALESCE(MAX(number), 0) + 1 FROM history) AS number"
        " FROM (SELECT ? AS name) LEFT JOIN history_head ON lineage = name",
        "SELECT one.name AS table_name, own.name, own.pk AS place, own.type = 'BOOLEAN' AS is_flag,"
        " NULL AS renumber FROM sqlite_schema AS one JOIN pragma_table_info(one.name) AS own"
        " WHERE one.type = 'table' ORDER BY table_name, place",
        "SELECT tbl_name AS table_name, 'TRIGGER' AS kind, name, sql || ';' AS definition,"
        " printf('DROP TRIGGER \"%w\";', name) AS removal FROM sqlite_schema"
        " WHERE type = 'trigger' UNION ALL SELECT tbl_name, 'UNIQUE INDEX', name, 'an index',"
        " printf('DROP INDEX \"%w\";', name) FROM sqlite_schema"
        " WHERE type = 'index' AND upper(sql) LIKE 'CREATE UNIQUE%' ORDER BY table_name, name",
        lambda _: iter(()),  # SQLite has one writer at a time
        _stop,
        lambda tables: (f"DROP TABLE {table}" for table in tables),
    )

    def __init__(
        self, path: Path, patience: timedelta = PATIENCE, *, file: str | None = None
    ) -> None:
        self.path = path
        self._file = file or path
        self._patience = patience.total_seconds()
        self._connections: dict[threading.Thread, _Own] = {}
        self._guard = threading.Lock()
        self._was_there = self._closed = False

    @property
    def place(self) -> Path | str:
        return self.path

    def rows(self, query: str, *values: Value) -> list[databases.Row]:
        """See `Reader.rows`."""
        with translating_errors(self.path), self._own() as connection:
            return _rows(connection, query, values)

    def each(self, *queries: databases.Statement) -> Sequence[Sequence[databases.Row]]:
        return self.read(lambda reader: reader.each(*queries))

    def read(self, function: Callable[[databases.Reader], T]) -> T:
        with translating_errors(self.path):
            return self._carry_out("BEGIN", function)

    def run(self, function: Callable[[databases.Transaction], T]) -> T:
        """See `Database.run`. SQLite has one writer at a time; the transaction becomes the writer
        (`IMMEDIATE`) before reading anything.
        """
        with translating_errors(self.path):
            return self._patiently(partial(self._carry_out, "BEGIN IMMEDIATE", function))

    change_schema = run

    def _carry_out(self, begin: str, function: Callable[[_SqliteTransaction], T]) -> T:
        with self._own() as connection:
            try:
                connection.execute(begin)
                result = function(_SqliteTransaction(connection))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

    def _patiently(self, work: Callable[[], T]) -> T:
        """Repeat the work while SQLite reports "busy". SQLite may report "busy" without waiting,
        for example if two processes open a new file at the same moment.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return work()
            except sqlite3.OperationalError as exc:
                code = exc.sqlite_errorcode & PRIMARY
                if code != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def _own(self) -> _Own:
        """Return this thread's connection to the file that is at the path now.

        A connection opened earlier may belong to a file that was moved away or replaced. Writes to
        that file would be lost, and users removed in the new file would stay logged in.
        """
        own, file = self._connections.get(threading.current_thread()), self._file_there()
        if own is not None and own.file != file:
            own.close()
            own = None
        return self._open(file) if own is None else own

    def _file_there(self) -> _File | None:
        """Return the identity of the file, `None` before the file is made. Raises `OSError` if the
        file is gone.
        """
        try:
            there = self.path.stat()
        except FileNotFoundError:
            if self._was_there:
                raise
            return None
        self._was_there = True
        return there.st_dev, there.st_ino

    def use_write_ahead_log(self) -> None:
        """Switch the file permanently to a write-ahead log, so readers need not wait for writers.
        Raises `StateUnavailable` if the file system cannot share a database.
        """
        with translating_errors(self.path):
            if self._journal_mode("PRAGMA journal_mode") == _WRITE_AHEAD:
                return
            switch = partial(self._journal_mode, f"PRAGMA journal_mode = {_WRITE_AHEAD}")
            if self._patiently(switch) != _WRITE_AHEAD:
                raise StateUnavailable(
                    Text("{path}: the file system cannot share a database", path=self.path),
                    hint=Text("put the state on a local disk"),
                )

    def _journal_mode(self, pragma: str) -> str:
        [row] = self._own().connection.execute(pragma).fetchall()
        return str(row[0])

    def content(self) -> bytes:
        """Return the database as the content of a file."""
        with self._own() as connection:
            return connection.serialize()

    def close(self) -> None:
        """Close the connections of all threads, living and ended."""
        with self._guard:
            self._closed = True
            for own in self._connections.values():
                own.close()
            self._connections.clear()

    def _open(self, file: _File | None) -> _Own:
        with self._guard:
            if self._closed:
                raise _has_been_closed(self.path)
            self._close_those_of_ended_threads()
            own = _Own(self._connect(), self.path, file)
            self._connections[threading.current_thread()] = own
            return own

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file,
            uri=str(self._file).startswith("file:"),
            timeout=self._patience,
            isolation_level=None,  # only `run` begins transactions
            check_same_thread=False,  # `close` closes other threads' connections
        )
        connection.row_factory = sqlite3.Row
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, failures.LONGEST_RESULT)
        try:
            # A write returns once stored on the disk, so accounts and keys survive a power failure.
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


_SCHEME = "sqlite:///"
_LEASES = "-leases"
"""The suffix of the folder of lease locks, after the database's name, like the suffixes of SQLite's
own files."""


def connect(url: str, key: Path | Secret, host: str, *, reads_only: bool) -> StateStore:
    """See `connect.connect`. In the URL, the path follows three slashes; an absolute path begins
    with a fourth slash.

    Only the owner can read new directories (0700) and files (0600). A file belongs to one host and
    keeps the host's name, even if the machine has another name later.
    """
    path = Path(url.removeprefix(_SCHEME))
    with translating_errors(path):
        is_made = not reads_only or _is_made(path)
    sealing = Sealing(key)
    if not is_made:
        return _state(InMemory(path, empty(host)), sealing, host)
    try:
        return _in_use(_opened(path, host), sealing, host)
    except StateUnavailable as problem:
        if not (reads_only and takes_no_writes(path) and _is_at_rest(path)):
            raise
        # Read the file alone, and make no files beside it (https://sqlite.org/uri.html).
        as_it_is = SqliteDatabase(path, file=f"{path.absolute().as_uri()}?immutable=1")
        if not databases.is_migrated(as_it_is):
            raise
        # Open the state only for reading: on a full or read-only disk, operators need `status`.
        return _in_use(as_it_is, sealing, host, problem)


def open_whole(url: str, key: Path | Secret, host: str) -> HostState:
    """See `connect.open_whole`."""
    path = Path(url.removeprefix(_SCHEME))
    with translating_errors(path):
        if not _is_made(path):
            raise _not_made(path)
    sealing = Sealing(key)
    return _state(_opened(path, host), sealing, host)


def prepare(url: str, key: Path | Secret, host: str, *, init: bool) -> bool:
    """See `connect.prepare`."""
    path = Path(url.removeprefix(_SCHEME))
    with translating_errors(path):
        is_made = _is_made(path) and bool(path.stat().st_size)
    if not (is_made or init):
        raise _not_made(path)
    is_whole, sealing = False, Sealing(key)
    if is_made:
        with closing(SqliteDatabase(path)) as database:
            is_whole = databases.is_migrated(database)
    with closing(_opened(path, host)) as database:
        must_be_in_use(database, sealing)
        if init:
            is_whole &= bool(database.rows("SELECT 1 FROM sealing"))
            database.run(sealing.begin)
    return not is_whole


def _not_made(path: Path) -> ConfigError:
    return ConfigError(
        Text("there is no state at {path}", path=path),
        hint=Text("the first `certferry sync` or `certferry state init` creates the state"),
    )


def in_memory() -> StateStore:
    """See `connect.empty_state`."""
    nowhere = Path("state.db")
    host, sealing = "localhost", Sealing(nowhere.with_name("secret.key"))
    return _state(InMemory(nowhere, empty(host)), sealing, host)


def _in_use(
    database: SqliteDatabase, sealing: Sealing, host: str, problem: StateError | None = None
) -> HostState:
    try:
        must_be_in_use(database, sealing)
        return _state(database, sealing, host, problem)
    except BaseException:
        database.close()
        raise


def _state(
    database: SqliteDatabase, sealing: Sealing, host: str, problem: StateError | None = None
) -> HostState:
    # Resolved, so all paths to a database lead to the same leases.
    path = database.path.resolve()
    locks = LeaseLocks(path.with_name(path.name + _LEASES))
    # The first row is the file's host; another program may have added rows, or damaged the first.
    names = [row["name"] for row in database.rows("SELECT name FROM host ORDER BY rowid")]
    name = next(filter(PLAIN.can_read, names), host)
    return HostState(database, sealing, locks, name, problem)


def _opened(path: Path, host: str) -> SqliteDatabase:
    with translating_errors(path):
        make_directory(path.parent)
        make_file(path, b"")
        must_be_trusted(path)
        # SQLite makes more files in the directory of a link's destination.
        must_be_trusted(path.resolve().parent, makes_files=True)
    database = SqliteDatabase(path)
    try:
        databases.migrate(database, host)
        database.use_write_ahead_log()
    except BaseException:
        database.close()
        raise
    return database


def _is_made(path: Path) -> bool:
    """Return whether a state exists. Raises `OSError` if the answer is unknown: for a directory
    that this user cannot enter, and for a broken link, such as a link to an absent disk.
    """
    for place in (path, *path.parents):
        try:
            place.stat()  # from Python 3.14 on, `exists` returns False after any error
        except FileNotFoundError:
            if place.is_symlink() and not (place == path and path.resolve().parent.is_dir()):
                raise
        else:
            return place == path
    return False


def _is_at_rest(path: Path) -> bool:
    """Return whether the file alone has the whole state. SQLite's log and journal are then absent
    or empty.
    """
    beside = [path.with_name(path.name + end) for end in ("-wal", "-journal")]
    with suppress(OSError):
        return not any(file.exists() and file.stat().st_size for file in beside)
    return False


class InMemory(SqliteDatabase):
    """A database in memory, filled with the content of a file. The threads take turns with a single
    connection.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__(path, file=":memory:")
        self._content = content

    def _own(self) -> _Own:
        with self._guard:
            if self._closed:
                raise _has_been_closed(self.path)
            owner = threading.main_thread()
            if owner not in self._connections:
                self._connections[owner] = _Own(self._connect(), self.path, None)
            return self._connections[owner]

    def _connect(self) -> sqlite3.Connection:
        connection = super()._connect()
        weakref.finalize(self, connection.close)
        connection.deserialize(self._content)
        return connection


@cache
def empty(host: str) -> bytes:
    """Return the content of a new database, which has only the rows of its migrations and the row
    of `host`. Cached, because a migration takes as long as hundreds of queries.
    """
    with closing(SqliteDatabase(Path(":memory:"))) as nowhere:
        databases.migrate(nowhere, host)
        return nowhere.content()
