"""A PostgreSQL transaction, which sends several statements in one request. If the answer to a
commit is lost, the transaction's number serves to ask the server about the commit.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus

from certferry.adapters.state import database as databases
from certferry.adapters.state import failures
from certferry.adapters.state.columns import Value

PATIENCE = timedelta(seconds=10)
"""How long a write waits for other writes, and by default for a server's restart."""

ANSWER = timedelta(seconds=30)
"""The longest wait for an answer of the server. A frozen server keeps the connection open."""

_LIMITS = (
    f"; SET LOCAL statement_timeout = {int(PATIENCE.total_seconds())}000"
    f"; SET LOCAL idle_in_transaction_session_timeout = {int(PATIENCE.total_seconds())}000"
)
READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" + _LIMITS
# If the answer to a commit is lost, the server is asked about the transaction by this number.
_NUMBERED = _LIMITS + "; SELECT pg_current_xact_id()::text AS number"
WRITE = "BEGIN ISOLATION LEVEL SERIALIZABLE" + _NUMBERED
_LOCKED = 5_271_849_203_316
"""certferry's number for the advisory lock that every change of tables takes."""

# With READ COMMITTED, statements see the tables that another host made during the wait for the
# lock.
SCHEMA = (
    "BEGIN ISOLATION LEVEL READ COMMITTED"
    f"{_LIMITS}; SELECT pg_advisory_xact_lock({_LOCKED})"
    "; SELECT pg_current_xact_id()::text AS number"
)

T = TypeVar("T")


# The query of `bounded`. If the result is too long, the cast to BOOLEAN fails before the server
# sends a row. The error names the table.
_BOUNDED = (
    "WITH certferry_rows AS MATERIALIZED ({query}) SELECT * FROM certferry_rows WHERE COALESCE(("  # noqa: S608 - constants, by contract
    f"SELECT CASE WHEN SUM(OCTET_LENGTH(certferry_rows::TEXT) + {failures.OF_A_ROW})"
    f" > {failures.LONGEST_RESULT} THEN CAST('certferry_rows {{table}} ' || COUNT(*) AS BOOLEAN)"
    " ELSE TRUE END FROM certferry_rows), TRUE)"
)
_TOO_LONG = re.compile(r"certferry_rows (.*) \d+\b")
_NO_TEXT = {"22021", "22P05"}  # PostgreSQL, "Error Codes"


def bounded(query: str) -> str:
    """Return a query that fails if the result is longer than `LONGEST_RESULT`."""
    if not query.startswith("SELECT"):
        return query  # a setting, or a write that returns the row
    return _BOUNDED.format(query=query, table=failures.table_of(query))


@contextmanager
def reading(query: str) -> Iterator[None]:
    """Raise `Unreadable` if a query in the `with` block has too long a result, or finds bytes in
    place of text. A database without an encoding can hold any bytes, even bytes that the server
    then refuses to send.
    """
    try:
        yield
    except UnicodeDecodeError as problem:
        raise failures.no_text(failures.table_of(query)) from problem
    except psycopg.DataError as problem:
        if problem.sqlstate in _NO_TEXT:
            raise failures.no_text(failures.table_of(query)) from problem
        match = _TOO_LONG.search(problem.diag.message_primary or "")
        if match is None:
            raise
        raise failures.too_long(match[1]) from problem


def to_positional(query: str) -> str:
    """Return a query with psycopg's placeholders for values."""
    return query.replace("%", "%%").replace("?", "%s")


def rows_of(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], databases.NamedRow]:
    """Return a function that makes a row of a result's values (psycopg, "Row factories")."""
    columns = [column.name for column in cursor.description or ()]
    places = {name: place for place, name in enumerate(columns)}
    return lambda values: databases.NamedRow(values, places)


class _Bytes(Loader):
    """Loads a value as bytes, which no column of certferry accepts. psycopg's own loader fails for
    moments beyond Python's calendar, without naming the row.
    """

    def load(self, data: Buffer) -> bytes:
        """See `Loader.load`."""
        return bytes(data)


_FOREIGN_TYPES = ("date", "interval", "time", "timestamp", "timestamptz", "timetz")
"""Types that certferry's tables lack; another program may have changed a column's type."""


class BoundedConnection(psycopg.Connection[databases.NamedRow]):
    """A connection that waits for an answer at most as long as `ANSWER`."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """See `psycopg.Connection.wait`."""
        return super().wait(gen, interval, timeout or ANSWER.total_seconds())


def connected(within: timedelta = ANSWER, **parameters: Any) -> BoundedConnection:
    """Return a new connection. Raises `psycopg.Error`, also if connecting takes longer than
    `within`.

    A separate thread connects, and is abandoned at the limit. A program in the server's place may
    demand hours of computing for SCRAM, and libpq computes without a limit.
    """
    coming: Future[BoundedConnection] = Future()

    def connect() -> None:
        try:
            coming.set_result(BoundedConnection.connect(**parameters, row_factory=rows_of))
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            coming.set_exception(error)

    threading.Thread(target=connect, name="connecting", daemon=True).start()
    try:
        connection = coming.result(within.total_seconds())
    except FutureTimeout:
        coming.add_done_callback(_close)
        raise psycopg.errors.ConnectionTimeout("connection timeout expired") from None
    for name in _FOREIGN_TYPES:
        connection.adapters.register_loader(name, _Bytes)
    return connection


def _close(late: Future[BoundedConnection]) -> None:
    if late.exception() is None:
        late.result().close()


class PostgresqlTransaction(databases.Transaction):
    """See `Transaction`. BEGIN and the writes are kept, and are sent together with the next query
    or with COMMIT: over a distance, each answer takes some milliseconds.
    """

    def __init__(self, connection: BoundedConnection, begin: str) -> None:
        self._connection = connection
        self._written = psycopg.ClientCursor(connection)
        self._begin = begin
        self._unsent = [begin]
        self.number: str | None = None

    def rows(self, query: str, *values: Value) -> list[databases.NamedRow]:
        return self.each((query, values))[0]

    def each(self, *queries: databases.Statement) -> list[list[databases.NamedRow]]:
        for query, values in queries:
            self.execute(bounded(query), *values)
        return self._send()[-len(queries) :]

    def execute(self, query: str, *values: Value) -> None:
        # Without values the query may be a script with many statements and without placeholders.
        whole = self._written.mogrify(to_positional(query), values) if values else query
        self._unsent.append(whole)

    def execute_each(self, query: str, rows: Iterable[Sequence[Value]]) -> None:
        """See `Transaction.execute_each`: send all rows without waiting for each answer."""
        if self._unsent:
            self._send()
        with self._connection.cursor() as cursor:
            cursor.executemany(to_positional(query), rows)

    def number_itself(self) -> None:
        """Send BEGIN alone if only writes are kept, to learn the transaction's number before the
        commit. The number is needed if the answer to the commit is lost.
        """
        if self._unsent[:1] == [self._begin] != self._unsent:
            _, *writes = self._unsent
            self._unsent = [self._begin]
            self._send()
            self._unsent = writes

    def commit(self) -> None:
        """Commit the transaction, if begun."""
        if self._connection.info.transaction_status is not TransactionStatus.IDLE:
            self._unsent.append("COMMIT")
            self._send()

    def _send(self) -> list[list[databases.NamedRow]]:
        """Send the waiting statements as a single string, and return the rows of each statement."""
        statements, self._unsent = self._unsent, []
        script = "\n;\n".join(statements)
        results: list[list[databases.NamedRow]] = []
        is_more: bool | None = True
        with reading(script):
            cursor = self._connection.execute(script)
            while is_more:
                results.append(cursor.fetchall() if cursor.description else [])
                is_more = cursor.nextset()
        if statements[0] is self._begin and self._begin != READ:
            [[self.number]] = results[self._begin.count(";")]
        return results


class CommitUnanswered(Exception):
    """The error for a commit whose answer was lost: only the server knows whether the commit
    succeeded.
    """

    def __init__(self, problem: psycopg.Error, number: str, result: Any) -> None:
        super().__init__()
        self.problem = problem
        #: The transaction's number at the server.
        self.number = number
        #: The result of the transaction's function, valid if the commit succeeded.
        self.result = result


def carried_out(
    connection: BoundedConnection, begin: str, function: Callable[[PostgresqlTransaction], T]
) -> T:
    """Carry out a function in a transaction, and return the function's result. Raises
    `CommitUnanswered` if only the server knows whether the commit succeeded.
    """
    transaction = PostgresqlTransaction(connection, begin)
    try:
        result = function(transaction)
        transaction.number_itself()
    except BaseException:
        _roll_back(connection)
        raise
    try:
        transaction.commit()
    except psycopg.Error as problem:
        if transaction.number is None or not is_lost(problem):
            _roll_back(connection)
            raise
        raise CommitUnanswered(problem, transaction.number, result) from problem
    return result


def _roll_back(connection: BoundedConnection) -> None:
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")


def is_lost(problem: psycopg.Error) -> bool:
    """Return whether an error concerns the connection rather than the statement. A stopping or
    starting server reports class 57P (PostgreSQL, "Error Codes").
    """
    code = problem.sqlstate or ""
    if code:
        return code.startswith(("08", "57P", "25P03", "25P04"))
    return isinstance(problem, psycopg.OperationalError | psycopg.InterfaceError)
