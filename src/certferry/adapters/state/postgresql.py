"""The state in a PostgreSQL database, shared by several hosts.

The code also works through PgBouncer in transaction mode: nothing is kept in a session, statements
are not prepared, and locks end with the transaction.
"""

from __future__ import annotations

import ipaddress
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo, TransactionStatus

from certferry.adapters.state import database as databases
from certferry.adapters.state import failures
from certferry.adapters.state.columns import Value
from certferry.adapters.state.postgresql_transaction import (
    PATIENCE,
    READ,
    SCHEMA,
    WRITE,
    BoundedConnection,
    CommitUnanswered,
    bounded,
    carried_out,
    connected,
    is_lost,
    reading,
    to_positional,
)
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import SharedState
from certferry.adapters.state.store import must_be_in_use
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, DatabaseUnavailable, StateError, StateUnavailable
from certferry.text import Text

_OLDEST_SERVER = 140_000
"""The least number of a server's version: PostgreSQL 14, the oldest version with support in 2026
(postgresql.org/support/versioning). Version 14 has `pg_xact_status` and reports `in_hot_standby`.
"""

_CONNECTION: Mapping[str, str | int] = {
    "application_name": "certferry",
    "client_encoding": "UTF8",
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Defaults for parameters absent from the URL (libpq, "Parameter Key Words"). libpq's own time-outs
last hours."""

_IDLE = 8
"""How many idle connections are kept: as many as the passes that a run works on at the
same time."""

_PAUSES = (0.005, 0.1)
"""The shortest and the longest pause before another try, in seconds; the pause is random."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


def _alone(tables: Sequence[str]) -> Iterator[str]:
    # This transaction is idle while the rows are written to another state, perhaps slowly.
    yield "SET LOCAL idle_in_transaction_session_timeout = 0"
    yield f"LOCK TABLE {', '.join(tables)} IN SHARE ROW EXCLUSIVE MODE"


def _stop(tables: Sequence[str], sentence: str) -> Iterator[str]:
    quoted = sentence.replace("'", "''")
    yield (
        "CREATE FUNCTION state_stays() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN RAISE EXCEPTION USING MESSAGE = '{quoted}'; END$$"
    )
    for table in tables:
        yield (
            f"CREATE TRIGGER state_stays BEFORE INSERT OR UPDATE OR DELETE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION state_stays()"
        )


def _drop(tables: Sequence[str]) -> Iterator[str]:
    yield f"DROP TABLE {', '.join(tables)}"
    yield "DROP FUNCTION history_stays"


_ATTACHED = """
SELECT relname AS table_name, kind, name, definition,
    format(removal, kind, name, relname) AS removal
FROM pg_class JOIN (
    SELECT tgrelid AS its, 'TRIGGER' AS kind, tgname AS name,
        CASE tgenabled WHEN 'O' THEN '$$' || prosrc || '$$' ELSE 'not in force' END AS definition,
        'DROP %s %I ON %I;' AS removal
    FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid WHERE NOT tgisinternal
    UNION ALL SELECT ev_class, 'RULE', rulename, pg_get_ruledef(oid), 'DROP %s %I ON %I;'
    FROM pg_rewrite
    UNION ALL SELECT polrelid, 'POLICY', polname, 'a policy', 'DROP %s %I ON %I;' FROM pg_policy
    UNION ALL SELECT oid, 'ROW LEVEL SECURITY', relname, 'row security',
        'ALTER TABLE %3$I DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;'
    FROM pg_class WHERE relrowsecurity OR relforcerowsecurity
    UNION ALL SELECT conrelid, 'CONSTRAINT', conname, pg_get_constraintdef(oid),
        'ALTER TABLE %3$I DROP CONSTRAINT %2$I;'
    FROM pg_constraint WHERE contype IN ('c', 'u', 'x')
    UNION ALL SELECT indrelid, 'UNIQUE INDEX', pg_class.relname, 'an index', 'DROP INDEX %2$I;'
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indisunique AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)
) AS attached ON its = pg_class.oid
WHERE relkind IN ('r', 'p')
    AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
ORDER BY table_name, kind, name
"""
"""A query for triggers, rules, policies, constraints and unique indexes, which may change or refuse
statements, or hide rows (PostgreSQL, "System Catalogs")."""


class PostgresqlDatabase:
    """See `Database`: a database on a server.

    Each transaction takes an idle connection, or opens a new connection. A transaction inside
    another transaction of the same thread raises `RuntimeError`. If the server has answered before
    and stops answering, a call is repeated for up to `patience`. With `reads_only`, the server may
    be a read replica.
    """

    dialect = databases.Dialect(
        "postgresql",
        # Without the tables of extensions, which belong to no program.
        "SELECT relname AS name FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace ="
        " (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
        " AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')",
        "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        lambda script: iter((script,)),  # the server takes a whole script at once
        # A write rather than a query: a query would make writers of other lineages run again.
        "INSERT INTO history_head (lineage, entries, link) VALUES (?, 0, '')"
        " ON CONFLICT (lineage) DO UPDATE SET entries = history_head.entries RETURNING"
        " entries, link AS head, nextval(pg_get_serial_sequence('history', 'number')) AS number",
        "SELECT own.table_name, own.column_name AS name, data_type = 'boolean' AS is_flag,"
        " COALESCE(its.ordinal_position, 0) AS place, CASE is_identity WHEN 'YES' THEN"
        " format('SELECT setval(%L, (SELECT MAX(%I) FROM %I))', pg_get_serial_sequence("
        "own.table_name, own.column_name), own.column_name, own.table_name) END AS renumber"
        " FROM information_schema.columns AS own"
        " LEFT JOIN (information_schema.table_constraints AS one"
        " JOIN information_schema.key_column_usage AS its"
        " USING (constraint_schema, constraint_name))"
        " ON one.constraint_type = 'PRIMARY KEY' AND one.table_schema = own.table_schema"
        " AND one.table_name = own.table_name AND its.column_name = own.column_name"
        " WHERE own.table_schema = current_schema() ORDER BY own.table_name, place",
        _ATTACHED,
        _alone,
        _stop,
        _drop,
        " FOR SHARE",
        "SELECT oldest FROM certferry_schema",
    )

    def __init__(
        self,
        url: str,
        password: Secret | None = None,
        *,
        patience: timedelta = PATIENCE,
        reads_only: bool = False,
    ) -> None:
        self._parameters = _parameters(url)
        self._reads_only = reads_only
        self._patience = patience
        self.place = _place(self._parameters)
        self._password = password
        self._idle: list[BoundedConnection] = []
        self._guard = threading.Lock()
        self._thread = threading.local()
        self._has_connected = False
        self._was_usable = False  # True from the first connection on
        self._closed = False

    def rows(self, query: str, *values: Value) -> list[databases.NamedRow]:
        """See `Reader.rows`."""
        return self.repeat(query, *values)

    def repeat(self, statement: str, *values: Value) -> list[databases.NamedRow]:
        """Carry out a statement outside any transaction, and return the rows. If the answer is
        lost, the statement is carried out again, so the statement must allow a repetition.
        """
        query = to_positional(bounded(statement))

        def work(connection: BoundedConnection) -> list[databases.NamedRow]:
            with reading(statement):
                return connection.execute(query, values).fetchall()

        return self._patiently(work)

    def each(self, *queries: databases.Statement) -> list[list[databases.NamedRow]]:
        return self._patiently(
            lambda connection: carried_out(
                connection, READ, lambda reader: reader.each(*queries, ("COMMIT", ()))[:-1]
            )
        )

    def read(self, function: Callable[[databases.Reader], T]) -> T:
        return self._patiently(lambda connection: carried_out(connection, READ, function))

    def run(self, function: Callable[[databases.Transaction], T]) -> T:
        """See `Database.run`. The transaction is serializable. The function runs again if the
        server cannot serialize the transaction, or if the connection is lost.
        """
        return self._patiently(lambda connection: carried_out(connection, WRITE, function))

    def change_schema(self, function: Callable[[databases.Transaction], T]) -> T:
        return self._patiently(lambda connection: carried_out(connection, SCHEMA, function))

    def close(self) -> None:
        """Close every connection; a connection at work is closed when the work has ended."""
        with self._guard:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _patiently(self, work: Callable[[BoundedConnection], T]) -> T:
        deadline = time.monotonic() + self._patience.total_seconds()
        while True:
            began = time.monotonic()
            try:
                with self._connection() as connection:
                    return work(connection)
            except CommitUnanswered as lost:
                if self._has_happened(lost, deadline):
                    result: T = lost.result
                    return result
                self._must_be_worth_another_try(lost.problem, began, deadline)
            except failures.Unreadable as rows:
                raise failures.damaged(self.place, rows.problem) from rows
            except psycopg.Error as problem:
                self._must_be_worth_another_try(problem, began, deadline)
            time.sleep(random.uniform(*_PAUSES))  # noqa: S311 - no secret

    def _must_be_worth_another_try(
        self, problem: psycopg.Error, began: float, deadline: float
    ) -> None:
        if self._may_help(problem) and time.monotonic() <= deadline:
            return
        lost = is_lost(problem)
        if lost:  # the next call fails at once if the server is still gone
            self._has_connected = False
        raise failures.of_server(
            problem,
            self.place,
            is_connected=self._was_usable,
            is_lost=lost,
            is_patient=time.monotonic() - began >= PATIENCE.total_seconds(),
        ) from problem

    def _may_help(self, problem: psycopg.Error) -> bool:
        """Return whether another try may succeed soon: after a conflict with another write, or over
        another connection if the server has answered before.
        """
        is_conflict = problem.sqlstate in {"40001", "40P01"}
        return is_conflict or (self._has_connected and is_lost(problem))

    def _has_happened(self, lost: CommitUnanswered, deadline: float) -> bool:
        """Ask the server whether a transaction was committed. Raises `StateError` if the server
        gives no answer.
        """
        query = "SELECT pg_xact_status(%s::xid8) AS status"
        while True:
            with suppress(psycopg.Error), self._connection() as connection:
                [row] = connection.execute(query, (lost.number,)).fetchall()
                if row["status"] in {"committed", "aborted"}:
                    return bool(row["status"] == "committed")
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    Text("{place}: no answer to a write", place=self.place),
                    hint=Text("the write may have been stored; the next run checks"),
                ) from lost.__cause__
            time.sleep(random.uniform(*_PAUSES))  # noqa: S311 - no secret

    @contextmanager
    def _connection(self) -> Iterator[BoundedConnection]:
        if getattr(self._thread, "is_at_work", False):
            raise RuntimeError("a function of a transaction must not query the database itself")
        with self._guard:
            if self._closed:
                raise StateError(Text("{path} has been closed", path=self.place))
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect()
        self._thread.is_at_work = True
        try:
            yield connection
        finally:
            self._thread.is_at_work = False
            self._give_back(connection)

    def _give_back(self, connection: BoundedConnection) -> None:
        is_usable = connection.info.transaction_status is TransactionStatus.IDLE
        with self._guard:
            if is_usable and not self._closed and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
            # If the server ended this connection, the server has probably ended the idle
            # connections too.
            gone = [connection] if is_usable else [connection, *self._idle]
            if not is_usable:
                self._idle.clear()
        for dropped in gone:
            dropped.close()

    def _connect(self) -> BoundedConnection:
        secret = {} if self._password is None else {"password": self._password.reveal()}
        connection = connected(
            **self._parameters | secret,
            autocommit=True,  # only `carried_out` begins transactions
            prepare_threshold=None,  # a prepared statement would stay behind in a pooler
        )
        try:
            _must_be_new_enough(connection, self.place)
            self._must_be_fit(is_replica=_is_replica(connection))
        except BaseException as problem:
            connection.close()
            if self._was_usable and isinstance(problem, ConfigError):
                # During a failover the new server may refuse writes for a moment.
                raise psycopg.OperationalError(str(problem.message)) from problem
            raise
        self._has_connected = self._was_usable = True
        return connection

    def _must_be_fit(self, *, is_replica: bool) -> None:
        """Raise `ConfigError` for a read replica; with `reads_only`, log a warning instead."""
        if not is_replica:
            return
        if not self._reads_only:
            raise ConfigError(
                Text("{place} is a read replica", place=self.place),
                hint=Text(
                    "set `url` of [state] to the server that accepts writes; with several servers"
                    " in `url`, add target_session_attrs=read-write"
                ),
            )
        if not self._was_usable:
            message = Text("{place} is a read replica: its data may be a few moments old")
            _log.warning(message.filled(place=self.place))


def _must_be_new_enough(connection: BoundedConnection, place: str) -> None:
    """Raise `ConfigError` for too old a server."""
    if connection.info.server_version < _OLDEST_SERVER:
        raise ConfigError(
            Text("{place}: PostgreSQL 14 or newer is needed", place=place),
            hint=Text("upgrade the server, or set `url` of [state] to another server"),
        )


def _is_replica(connection: BoundedConnection) -> bool:
    is_replica = connection.info.parameter_status("in_hot_standby")
    if is_replica is None:  # a pooler hides the parameter
        [row] = connection.execute("SELECT pg_is_in_recovery() AS found").fetchall()
        is_replica = "on" if row["found"] else "off"
    return is_replica == "on"


# --- The URL, and the demands on a URL


def _parameters(url: str) -> dict[str, Any]:
    """Return the parameters of a connection, without a password. Raises `ConfigError`; messages
    never show the URL, because the URL may contain a password.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigError(
            Text("`url` of [state] is not the address of a PostgreSQL database"),
            hint=Text("write postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full"),
        ) from None
    if given.pop("password", None) is not None:
        raise ConfigError(
            Text("`url` of [state] contains a password"),
            hint=Text("write `password`, a reference, instead"),
        )
    if "service" in given:
        raise ConfigError(
            Text("`service` in `url` of [state] is not supported"),
            hint=Text("write host, port and database into the URL"),
        )
    usual = {
        option.keyword.decode(): option.val.decode()
        for option in Conninfo.get_defaults()
        if option.val
    }
    where = {**usual, **given}
    host = str(given.get("hostaddr") or where.get("hostaddr") or where.get("host") or "")
    elsewhere = [name for name in host.split(",") if not _is_here(name)]
    if elsewhere and where.get("sslmode") != "verify-full":
        raise ConfigError(
            Text(
                "{host} is another machine: `url` of [state] must say sslmode=verify-full",
                host=elsewhere[0],
            ),
            hint=Text(
                "write sslmode=verify-full in `url`, and sslrootcert=FILE with the CA of the"
                " server's certificate (/etc/ssl/certs/ca-certificates.crt has the public CAs)"
            ),
        )
    shown: dict[str, Any] = {
        name: where[name] for name in ("host", "port", "dbname", "user") if name in where
    }
    # Without sslmode=verify-full, another program may be listening in the server's place. Such a
    # server must get neither the password nor the password's MD5 digest.
    accepted = str(where.get("require_auth", ""))
    if where.get("sslmode") == "verify-full" or not _accepts_password(accepted):
        return {**_CONNECTION, **shown, **given}
    if "require_auth" in given:
        raise ConfigError(
            Text("`url` of [state] lets an unproven server ask for the password in clear"),
            hint=Text("remove require_auth from `url`, or add sslmode=verify-full"),
        )
    return {**_CONNECTION, **shown, **given, "require_auth": "!password,!md5"}


def _accepts_password(methods: str) -> bool:
    """Return whether `require_auth` allows a password in clear or a password's MD5 digest."""
    named = {method.strip() for method in methods.split(",")}
    if all(method.startswith("!") for method in named):
        return not {"!password", "!md5"} <= named
    return not named.isdisjoint({"", "password", "md5"})


def _is_here(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _place(parameters: Mapping[str, Any]) -> str:
    """Return the database's name in messages: a URL with the host and the database."""
    host, port = str(parameters.get("host") or ""), str(parameters.get("port") or "")
    database = parameters.get("dbname") or parameters.get("user") or ""
    if host.startswith("/"):
        return f"postgresql:///{database}?host={host}"
    shown_host = f"[{host}]" if ":" in host else host
    return f"postgresql://{shown_host}{port and ':' + port}/{database}"


# --- Opening a state


def connect(
    url: str, key: Path | Secret, host: str, *, reads_only: bool, password: Secret | None = None
) -> SharedState:
    """See `connect.connect`. Nothing is written: this host's row is stored later, by the host's
    first run.
    """
    state = open_whole(url, key, host, password, reads_only=reads_only)
    database, sealing = state.database_and_sealing
    try:
        must_be_in_use(database, sealing)
        state.now()  # sets the clock, so later calls need no answer of the database
    except BaseException:
        state.close()
        raise
    return state


def open_whole(
    url: str,
    key: Path | Secret,
    host: str,
    password: Secret | None = None,
    *,
    reads_only: bool = False,
) -> SharedState:
    """See `connect.open_whole`."""
    database, sealing = PostgresqlDatabase(url, password, reads_only=reads_only), Sealing(key)
    try:
        with _refusing():
            _must_be_made(database)
            sealing.must_open(database)
    except BaseException:
        database.close()
        raise
    return SharedState(database, sealing, host, reads_only=reads_only)


def prepare(
    url: str, key: Path | Secret, host: str, *, init: bool, password: Secret | None = None
) -> bool:
    """See `connect.prepare`. An old schema is migrated; a missing schema is made only
    with `init`.
    """
    sealing = Sealing(key)
    with closing(PostgresqlDatabase(url, password)) as database, _refusing():
        if databases.schema_of(database):
            sealing.must_open(database)
        elif init:
            _must_hold_any_text(database)
        else:
            raise _not_made(database)
        if databases.is_migrated(database):
            must_be_in_use(database, sealing)
            return False
        return databases.migrate(database, host, seal=sealing.begin)


@contextmanager
def _refusing() -> Iterator[None]:
    """Raise a `StateError` of the `with` block as `ConfigError`, because waiting does not help. A
    `StateUnavailable` passes unchanged: an unavailable state may be usable later.
    """
    try:
        yield
    except StateError as error:
        if isinstance(error, StateUnavailable):
            raise
        raise ConfigError(error.message, hint=error.hint) from error


def _must_be_made(database: PostgresqlDatabase) -> None:
    if databases.is_migrated(database):
        return
    if not databases.schema_of(database):
        raise _not_made(database)
    raise ConfigError(
        Text("{place} has the tables of an older certferry", place=database.place),
        hint=Text("on one host, run: certferry state migrate"),
    )


def _not_made(database: PostgresqlDatabase) -> ConfigError:
    return ConfigError(
        Text("there is no state in {place}", place=database.place),
        hint=Text("on one host, run: certferry state init"),
    )


def _must_hold_any_text(database: PostgresqlDatabase) -> None:
    [row] = database.rows("SHOW server_encoding")
    if row["server_encoding"] != "UTF8":
        raise ConfigError(
            Text(
                "{place} has the encoding {name}", place=database.place, name=row["server_encoding"]
            ),
            hint=Text("create a database with UTF8: createdb --encoding=UTF8 --template=template0"),
        )
