"""One transaction of PostgreSQL's: what it sends together, and whether it has happened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from certferry.adapters.state import database as databases
from certferry.adapters.state import failures
from certferry.adapters.state.columns import Value

PATIENCE = timedelta(seconds=10)
"""How long a write waits for others', and by default for a server that was there and is starting
again."""

ANSWER = timedelta(seconds=30)
"""How long one answer is waited for: a server that is frozen closes no connection."""

_LIMITS = (
    f"; SET LOCAL statement_timeout = {int(PATIENCE.total_seconds())}000"
    f"; SET LOCAL idle_in_transaction_session_timeout = {int(PATIENCE.total_seconds())}000"
)
READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" + _LIMITS
# The number is for the question whether a commit has happened whose answer was lost.
_NUMBERED = _LIMITS + "; SELECT pg_current_xact_id()::text AS number"
WRITE = "BEGIN ISOLATION LEVEL SERIALIZABLE" + _NUMBERED
_LOCKED = 5_271_849_203_316
"""The advisory lock of a change of tables: certferry's own number."""

# Each statement sees what was committed before it: what another host has made while this waited.
SCHEMA = (
    "BEGIN ISOLATION LEVEL READ COMMITTED"
    f"{_LIMITS}; SELECT pg_advisory_xact_lock({_LOCKED})"
    "; SELECT pg_current_xact_id()::text AS number"
)

T = TypeVar("T")


# The server refuses before it sends a row: the cast fails, and says which table it was.
_BOUNDED = (
    "WITH certferry_rows AS MATERIALIZED ({query}) SELECT * FROM certferry_rows WHERE COALESCE(("  # noqa: S608 - constants, by contract
    f"SELECT CASE WHEN SUM(OCTET_LENGTH(certferry_rows::TEXT) + {failures.OF_A_ROW})"
    f" > {failures.LONGEST_RESULT} THEN CAST('certferry_rows {{table}} ' || COUNT(*) AS BOOLEAN)"
    " ELSE TRUE END FROM certferry_rows), TRUE)"
)
_TOO_LONG = re.compile(r"certferry_rows (.*) \d+\b")
_NO_TEXT = {"22021", "22P05"}  # of PostgreSQL's "Error Codes"


def bounded(query: str) -> str:
    """Return a query that fails where it would find more than one may."""
    if not query.startswith("SELECT"):
        return query  # a write that returns its row, or a setting
    return _BOUNDED.format(query=query, table=failures.table_of(query))


@contextmanager
def reading(query: str) -> Iterator[None]:
    """Raise `Unreadable` for what a query finds in a `with` block that certferry did not write. A
    database without an encoding holds any bytes, which the server may refuse to send.
    """
    try:
        yield
    except UnicodeDecodeError as problem:
        raise failures.no_text(failures.table_of(query)) from problem
    except psycopg.DataError as problem:
        if problem.sqlstate in _NO_TEXT:
            raise failures.no_text(failures.table_of(query)) from problem
        found = _TOO_LONG.search(problem.diag.message_primary or "")
        if found is None:
            raise
        raise failures.too_long(found[1]) from problem


def to_positional(query: str) -> str:
    """Return a query with the places for values as psycopg has them."""
    return query.replace("%", "%%").replace("?", "%s")


def rows_of(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], databases.NamedRow]:
    """Return what makes rows of a result's values (psycopg, "Row factories")."""
    columns = [column.name for column in cursor.description or ()]
    places = {name: place for place, name in enumerate(columns)}
    return lambda values: databases.NamedRow(values, places)


class BoundedConnection(psycopg.Connection[databases.NamedRow]):
    """One that waits for no answer for ever."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """See `psycopg.Connection.wait`."""
        return super().wait(gen, interval, timeout or ANSWER.total_seconds())


class PostgresqlTransaction(databases.Transaction):
    """See `Transaction`. Its beginning and its writes are sent with its next query, or its end: an
    answer that is waited for costs a host in another town some milliseconds.
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
        # Without values it is perhaps a script of many statements, in which nothing stands for one.
        whole = self._written.mogrify(to_positional(query), values) if values else query
        self._unsent.append(whole)

    def execute_each(self, query: str, rows: Iterable[Sequence[Value]]) -> None:
        """See `Transaction.execute_each`: the server is sent them without waiting for each."""
        if self._unsent:
            self._send()
        with self._connection.cursor() as cursor:
            cursor.executemany(to_positional(query), rows)

    def number_itself(self) -> None:
        """Have the server number a transaction that only writes, before anything can be lost."""
        if self._unsent[:1] == [self._begin] != self._unsent:
            _, *written = self._unsent
            self._unsent = [self._begin]
            self._send()
            self._unsent = written

    def commit(self) -> None:
        """End it, if it has begun."""
        if self._connection.info.transaction_status is not TransactionStatus.IDLE:
            self._unsent.append("COMMIT")
            self._send()

    def _send(self) -> list[list[databases.NamedRow]]:
        """Send what is not sent, as one string, and return the rows that each statement found."""
        statements, self._unsent = self._unsent, []
        script = "\n;\n".join(statements)
        found: list[list[databases.NamedRow]] = []
        is_more: bool | None = True
        with reading(script):
            cursor = self._connection.execute(script)
            while is_more:
                found.append(cursor.fetchall() if cursor.description else [])
                is_more = cursor.nextset()
        if statements[0] is self._begin and self._begin != READ:
            [[self.number]] = found[self._begin.count(";")]
        return found


class CommitUnanswered(Exception):
    """A commit got no answer: the problem, its transaction's number, its function's result."""

    def __init__(self, problem: psycopg.Error, number: str, result: Any) -> None:
        super().__init__()
        self.problem = problem
        self.number = number
        self.result = result


def carried_out(
    connection: BoundedConnection, begin: str, function: Callable[[PostgresqlTransaction], T]
) -> T:
    """Carry out a function in a transaction. Raises `CommitUnanswered` where only the server knows
    whether it was committed.
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
    """Return whether an error is of the connection, and not of what was asked. A server that stops,
    or starts, says so (class 57P; PostgreSQL, "Error Codes").
    """
    code = problem.sqlstate or ""
    if code:
        return code.startswith(("08", "57P", "25P03", "25P04"))
    return isinstance(problem, psycopg.OperationalError | psycopg.InterfaceError)
