"""A transaction in PostgreSQL while the server refuses, is slow, or stops: each write happens once
or is absent.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.database import Transaction
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import SharedState
from certferry.errors import DatabaseUnavailable, StateError
from tests.adapters.state.postgresql_state import ENTRY, NOW, refused
from tests.support.ports import HOST
from tests.support.postgresql import (
    KEY,
    Postgresql,
    impatient,
    running_postgresql,
)
from tests.support.tiers import thorough
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("53100", "cannot be written: the server's disk is full"),
        ("53300", "has no room for the data: because"),
        ("25006", "accepts no writes right now: because"),
        ("57014", "has been busy with other writes for too long"),
        ("57P03", "does not answer: because"),
    ],
)
def test_temporary_refusal(postgresql: Postgresql, name: str, code: str, message: str) -> None:
    """The error allows another try, and names the database."""
    fail = f"DO $$ BEGIN RAISE EXCEPTION 'because' USING ERRCODE = '{code}'; END $$"
    with closing(impatient(postgresql.url(name))) as database:
        database.rows("SELECT 1")

        with pytest.raises(DatabaseUnavailable) as error:
            database.run(lambda transaction: transaction.execute(fail))

        assert error.value.retry.allowed
        assert f"{database.place} {message}" == str(error.value.message)
        assert 1 == len(database.rows("SELECT 1"))


@pytest.mark.parametrize(
    ("setting", "statement"),
    [
        ("statement_timeout", "SELECT pg_sleep(5)"),
        ("lock_timeout", "LOCK TABLE lease"),
        ("transaction_timeout", "SELECT pg_sleep(5)"),
    ],
)
def test_time_out_of_the_server(
    postgresql: Postgresql, name: str, setting: str, statement: str
) -> None:
    """The error names the time-out with a remedy; certferry itself waits longer for other
    writes.
    """
    with ExitStack() as stack:
        database = stack.enter_context(closing(impatient(postgresql.url(name))))
        if setting == "lock_timeout":
            other = stack.enter_context(closing(PostgresqlDatabase(postgresql.url(name))))
            is_held, is_over = threading.Event(), threading.Event()

            def hold(transaction: Transaction) -> None:
                transaction.rows("SELECT 1 FROM lease")
                transaction.execute("LOCK TABLE lease")
                transaction.rows("SELECT 1")
                is_held.set()
                is_over.wait(9)

            holding = stack.enter_context(ThreadPoolExecutor(1))
            holding.submit(other.run, hold)
            stack.callback(is_over.set)
            assert is_held.wait(9)
        postgresql.ask(f"ALTER DATABASE {name} SET {setting} = '50ms'")

        def in_transaction(query: str) -> None:
            def work(transaction: Transaction) -> None:
                transaction.execute(query)
                transaction.rows("SELECT 1")

            database.run(work)

        # In a transaction, certferry sets the time-out for statements.
        ask = database.rows if setting == "statement_timeout" else in_transaction
        with pytest.raises(DatabaseUnavailable) as error:
            ask(statement)
    assert f"ended certferry's transaction by {setting}: " in str(error.value)
    assert f"ALTER ROLE USER SET {setting} = '60s'" in str(error.value.hint)


def test_unforeseen_error(database: PostgresqlDatabase) -> None:
    """Other messages of the server become errors of the state."""
    with pytest.raises(StateError, match="division by zero"):
        database.rows("SELECT 1 / 0")


def test_serialization_failure_is_retried(database: PostgresqlDatabase) -> None:
    """Two functions read each other's writes: one function runs twice, and both results are
    right.
    """
    database.run(
        lambda transaction: transaction.execute(
            "INSERT INTO lease (lineage, token) VALUES ('sum', 0)"
        )
    )
    together, tries = threading.Barrier(2, timeout=20), []

    def add(_: int) -> None:
        first = True

        def write(transaction: Transaction) -> None:
            nonlocal first
            tries.append(1)
            [row] = transaction.rows("SELECT token FROM lease WHERE lineage = ?", "sum")
            if first:
                first = False
                together.wait()
            transaction.update("lease", {"lineage": "sum"}, token=row["token"] + 1)

        database.run(write)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, range(2)))

    assert 2 == database.rows("SELECT token FROM lease")[0]["token"]
    assert 3 == len(tries)


@pytest.mark.parametrize("use", ["rows", "read", "run"])
def test_function_that_uses_the_database_itself(database: PostgresqlDatabase, use: str) -> None:
    """A function has to use its transaction."""
    uses: dict[str, Callable[[object], object]] = {
        "rows": lambda _: database.rows("SELECT 1"),
        "read": lambda _: database.read(lambda _: None),
        "run": lambda _: database.run(lambda _: None),
    }
    with pytest.raises(RuntimeError):
        database.run(uses[use])
    assert [] == database.rows("SELECT * FROM lease")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_connection_ended_between_statements(
    postgresql: Postgresql, name: str, database: PostgresqlDatabase, after: int
) -> None:
    """The function runs again over a new connection, and its earlier writes are rolled back. The
    end of an idle connection goes unnoticed.
    """
    tries: list[int] = []

    def end() -> None:
        postgresql.ask(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608 - the test's own name
            " AND pid <> pg_backend_pid()"
        )

    def write(transaction: Transaction) -> None:
        tries.append(1)
        for number in range(3):
            if (number, len(tries)) == (after, 1):
                end()
            transaction.add("lease", lineage=f"n{number}", token=1)

    database.rows("SELECT 1")
    end()
    assert 1 == database.rows("SELECT 1 AS found")[0]["found"]
    database.run(write)

    assert 2 == len(tries)
    assert 3 == len(database.rows("SELECT * FROM lease"))


@pytest.mark.parametrize("is_forwarded", [True, False])
def test_commit_whose_answer_is_lost(
    postgresql: Postgresql, name: str, *, is_forwarded: bool
) -> None:
    """The server is asked for the transaction's result: the entry is stored exactly once."""
    with cut_at_commit(postgresql.port, is_forwarded=is_forwarded) as port:
        url = f"postgresql://postgres@{HOST}:{port}/{name}?sslmode=disable&gssencmode=disable"
        with closing(connect(url, KEY)) as store:
            store.append_history(ENTRY)
            assert (ENTRY,) == store.history(None, 10)


class Cutter:
    """A proxy that closes the connection at the first commit, before or after the server receives
    the commit.
    """

    def __init__(self, server: int, *, is_forwarded: bool) -> None:
        self._server = server
        self._is_forwarded = is_forwarded
        self.was_cut = threading.Event()

    def serve(self, listener: socket.socket) -> None:
        """Serve until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                upstream = socket.create_connection((HOST, self._server))
                ways = ((self._ask, client, upstream), (self._answer, upstream, client))
                for pump, source, sink in ways:
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    def _answer(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                if not self.was_cut.is_set() or sink is not self._cut:
                    sink.sendall(data)

    def _ask(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                if b"COMMIT" not in data or self.was_cut.is_set():
                    sink.sendall(data)
                    continue
                self._cut = source
                self.was_cut.set()
                if self._is_forwarded:
                    sink.sendall(data)
                    time.sleep(0.2)  # commit takes effect on the server
                source.shutdown(socket.SHUT_RDWR)
                sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_at_commit(server: int, *, is_forwarded: bool) -> Iterator[int]:
    """Run a `Cutter`, and yield its port."""
    cutter = Cutter(server, is_forwarded=is_forwarded)
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=cutter.serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    assert cutter.was_cut.is_set()


@pytest.fixture
def own_server() -> Iterator[Postgresql]:
    """A server that a test may stop."""
    with running_postgresql() as server:
        yield server


def test_server_that_stops_and_starts(own_server: Postgresql) -> None:
    """A stopped server is an error at once for a new host. A connected host waits while the server
    restarts; after the wait, each call has an error without another wait.
    """
    url = own_server.url(own_server.new_state())
    with closing(connect(url, KEY)) as store:
        store.append_history(ENTRY)
        own_server.stop()
        error = refused(lambda: connect(url, KEY), DatabaseUnavailable)
        assert "cannot be opened: " in str(error)
        assert str(own_server.folder) in str(error)

        back = threading.Timer(0.5, own_server.start)
        back.start()
        store.append_history(ENTRY)
        back.join()
        assert (ENTRY, ENTRY) == store.history(None, 10)

    with closing(SharedState(impatient(url), Sealing(KEY), "web-1")) as store:
        assert (ENTRY, ENTRY) == store.history(None, 10)
        own_server.stop()
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable) as gone:
                store.append_history(ENTRY)
            assert re.search(r"does not answer|cannot be opened", str(gone.value))
        own_server.start()
        assert (ENTRY, ENTRY) == store.history(None, 10)


@thorough
def test_server_that_refuses_logins_for_a_while(postgresql: Postgresql) -> None:
    """After a failover, a server may refuse logins at first: an admitted host waits, then gets an
    error. Its leases are renewed again afterwards.
    """
    postgresql.ask("CREATE ROLE fickle LOGIN SUPERUSER")
    name, length = postgresql.new_state(), timedelta(seconds=6)
    database = PostgresqlDatabase(postgresql.url(name, "fickle"))
    with closing(SharedState(database, Sealing(KEY), "web-1", length)) as store:
        store.acquire("img", NOW)
        postgresql.ask("ALTER ROLE fickle NOLOGIN")
        postgresql.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'fickle'"
        )
        with pytest.raises(DatabaseUnavailable, match="is not permitted to log in"):
            store.notices()
        postgresql.ask("ALTER ROLE fickle LOGIN")

        lease = store.acquire("ops", NOW)
        end = "SELECT until FROM lease WHERE lineage = 'ops'"
        before = postgresql.ask(end, name)
        assert eventually(lambda: postgresql.ask(end, name) != before)
        store.extend(lease)
    postgresql.ask("DROP ROLE fickle")
