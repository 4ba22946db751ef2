"""A state in PostgreSQL: what its schema is, what a transaction promises while the server comes and
goes, and what is said when it cannot be used.
"""

from __future__ import annotations

import re
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from trustme import CA

from certferry.adapters.state.connect import connect, prepare
from certferry.adapters.state.database import Migration, Transaction, migrate, read_migrations
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.postgresql_transaction import connected
from certferry.adapters.state.sealing import Sealing, new_key
from certferry.adapters.state.shared_leases import SharedState
from certferry.core.observed.records import HistoryEntry
from certferry.core.redaction import Secret
from certferry.errors import CertferryError, ConfigError, DatabaseUnavailable, StateError
from tests.adapters.http.peers import peer
from tests.support.ports import HOST
from tests.support.postgresql import (
    KEY,
    Postgresql,
    impatient,
    running_pgbouncer,
    running_postgresql,
    running_replica,
)
from tests.support.tiers import thorough
from tests.support.waiting import eventually

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ENTRY = HistoryEntry(NOW, "img", "issued", "root@host", {"detail": "证书"})
PASSWORD = "s3cret-of-the-tests"


@pytest.fixture
def name(postgresql: Postgresql) -> str:
    """A database with an empty state."""
    return postgresql.new_state()


@pytest.fixture
def database(postgresql: Postgresql, name: str) -> Iterator[PostgresqlDatabase]:
    """The database, as a host has it open."""
    with closing(PostgresqlDatabase(postgresql.url(name))) as opened:
        yield opened


def refused(
    open_it: Callable[[], object], kind: type[CertferryError] = ConfigError
) -> CertferryError:
    """Return the error of what cannot be opened."""
    with pytest.raises(kind) as error:
        open_it()
    return error.value


# --- The schema


def test_schema_is_that_of_sqlite(postgresql: Postgresql, name: str, tmp_path: Path) -> None:
    """The same tables, columns and keys; what may be empty may be empty in both."""
    connect(tmp_path / "state.db", tmp_path / "secret.key").close()
    ours = {
        (table, column, is_nullable == "YES")
        for table, column, is_nullable in postgresql.ask(
            "SELECT table_name, column_name, is_nullable FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name NOT LIKE 'certferry%'",
            name,
        )
    }
    keys = postgresql.ask(
        "SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position)"
        " FROM information_schema.key_column_usage JOIN information_schema.table_constraints"
        " USING (constraint_schema, constraint_name, table_name)"
        " WHERE constraint_type = 'PRIMARY KEY' AND constraint_schema = 'public'"
        " AND table_name <> 'certferry_migration' GROUP BY table_name",
        name,
    )
    theirs: set[tuple[str, str, bool]] = set()
    their_keys: dict[str, list[str]] = {}
    with closing(sqlite3.connect(tmp_path / "state.db")) as file:
        named = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'certferry%'"
        for (table,) in file.execute(named).fetchall():
            columns = file.execute(f"PRAGMA table_info({table})").fetchall()
            key = sorted((place, column) for _, column, _, _, _, place in columns if place)
            if key:
                their_keys[table] = [column for _, column in key]
            theirs |= {
                (table, column, not needed and not place)
                for _, column, _, needed, _, place in columns
            }

    assert theirs == ours
    assert their_keys == dict(keys)


def test_indexes_are_those_of_sqlite(postgresql: Postgresql, name: str, tmp_path: Path) -> None:
    """The same indexes and unique columns, in the same order of columns, over the same rows."""
    connect(tmp_path / "state.db", tmp_path / "secret.key").close()
    indexes = postgresql.ask(
        "SELECT indrelid::regclass::text, CASE WHEN conname IS NULL THEN relname::text END,"
        " ARRAY(SELECT attname::text FROM unnest(indkey) WITH ORDINALITY AS part(place, nth)"
        " JOIN pg_attribute ON attrelid = indrelid AND attnum = place ORDER BY nth),"
        " indisunique, indpred IS NOT NULL FROM pg_index JOIN pg_class ON oid = indexrelid"
        " LEFT JOIN pg_constraint ON conindid = indexrelid AND contype IN ('p', 'u')"
        " WHERE relnamespace = 'public'::regnamespace AND NOT indisprimary",
        name,
    )
    theirs = set()
    with closing(sqlite3.connect(tmp_path / "state.db")) as file:
        query = (
            'SELECT tables.name, own.name, own.origin, own."unique", own.partial'
            " FROM sqlite_schema AS tables JOIN pragma_index_list(tables.name) AS own"
            " WHERE tables.type = 'table' AND own.origin <> 'pk'"
        )
        for table, index, origin, is_unique, is_partial in file.execute(query).fetchall():
            columns = tuple(row[2] for row in file.execute(f"PRAGMA index_info({index})"))
            named = index if origin == "c" else None
            theirs.add((table, named, columns, bool(is_unique), bool(is_partial)))

    assert theirs == {(row[0], row[1], tuple(row[2]), *row[3:]) for row in indexes}


def test_columns_hold_what_they_hold_in_sqlite(postgresql: Postgresql, name: str) -> None:
    """Text is compared by its bytes, and numbers have 64 bits, whatever the database's locale."""
    columns = postgresql.ask(
        "SELECT data_type, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'certferry_migration'",
        name,
    )

    assert {("text", "C"), ("bigint", None), ("boolean", None)} == set(columns)


def test_history_is_never_changed(postgresql: Postgresql, name: str) -> None:
    """By its own administrator neither, unless the trigger is taken away first."""
    with closing(connect(postgresql.url(name), KEY)) as store:
        store.append_history(ENTRY)
    for change in ("UPDATE history SET who = 'x'", "DELETE FROM history", "TRUNCATE history"):
        with pytest.raises(Exception, match="never changed and never removed"):
            postgresql.ask(change, name)


def test_state_that_several_hosts_make_at_once(postgresql: Postgresql) -> None:
    """One makes it, the others find it; each is known by its name from its first run on."""
    url = postgresql.url(postgresql.new_database())
    with ThreadPoolExecutor(4) as hosts:
        made = list(hosts.map(lambda n: prepare(url, KEY, host=f"web-{n}", init=True), range(4)))

    assert [False, False, False, True] == sorted(made)
    with closing(connect(url, KEY, host="web-9")) as state:
        run = state.begin_run(state.now())
        assert "web-9" == run.host
        state.end_run(run)
    names = postgresql.ask("SELECT name FROM host", url.partition("@/")[2].partition("?")[0])
    assert 2 == len(names)
    assert ("web-9",) in names


def test_extension_of_the_server_is_no_other_program(postgresql: Postgresql) -> None:
    """What administrators install beside it, as to see slow queries, is in nothing's way."""
    name = postgresql.new_database()
    postgresql.ask("CREATE TABLE spatial_ref_sys (id INTEGER)", name)
    postgresql.ask(
        "INSERT INTO pg_depend SELECT 'pg_class'::regclass, 'spatial_ref_sys'::regclass, 0,"
        " 'pg_extension'::regclass, oid, 0, 'e' FROM pg_extension LIMIT 1",
        name,
    )

    assert prepare(postgresql.url(name), KEY, init=True)


# --- What is refused, with the database's name and no password


def test_state_is_never_made_by_accident(postgresql: Postgresql) -> None:
    """Neither by opening an empty database, nor by migrating it."""
    name = postgresql.new_database()
    url = postgresql.url(name)
    for open_it in (
        lambda: connect(url, KEY),
        lambda: connect(url, KEY, reads_only=True),
        lambda: prepare(url, KEY, init=False),
    ):
        error = refused(open_it)
        assert f"there is no state in postgresql:///{name}" in str(error)
        assert "certferry state init" in str(error.hint)
    assert [] == postgresql.ask("SELECT 1 FROM pg_tables WHERE schemaname = 'public'", name)


def test_key_of_another_state(postgresql: Postgresql, name: str) -> None:
    """It is refused before anything is written, also by one who would only migrate."""
    other = Secret(new_key())
    for open_it in (
        lambda: connect(postgresql.url(name), other, host="web-7"),
        lambda: prepare(postgresql.url(name), other, init=True),
    ):
        error = refused(open_it)
        assert "`key` of [state] does not open the state" == str(error.message)
    assert [("web-1",)] == postgresql.ask("SELECT name FROM host", name)


@pytest.mark.parametrize("key", ["", "short", "x" * 44, "@" * 44])
def test_key_that_is_none(postgresql: Postgresql, name: str, key: str) -> None:
    """It is not shown."""
    error = refused(lambda: connect(postgresql.url(name), Secret(key)))

    assert "`key` of [state] is not a key: 32 bytes in base64" == str(error.message)


def test_database_that_is_not_there(postgresql: Postgresql) -> None:
    """Waiting makes none."""
    error = refused(lambda: connect(postgresql.url("nowhere"), KEY))

    assert (
        f'postgresql:///nowhere?host={postgresql.folder} cannot be opened: database "nowhere"'
        in (str(error))
    )
    assert "createdb" in str(error.hint)


def test_wrong_password(postgresql: Postgresql, name: str) -> None:
    """Neither the right one nor the wrong one is shown; without any, the hint says where one may
    stand. The right one opens.
    """
    if not postgresql.ask("SELECT 1 FROM pg_roles WHERE rolname = 'secured'"):
        postgresql.ask(f"CREATE ROLE secured SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    url = postgresql.tcp_url(name, "secured")
    for password in (Secret("wrong-" + PASSWORD), None):
        error = refused(partial(connect, url, KEY, password=password))
        assert f"postgresql://127.0.0.1:{postgresql.port}/{name} cannot be opened: " in str(error)
        assert PASSWORD not in f"{error}{error.hint}{error.__cause__}"
        assert "PGPASSWORD" in str(error.hint)

    connect(url, KEY, password=Secret(PASSWORD)).close()


@contextmanager
def listener_that_asks(request: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Listen as a server that is none, and asks who begins a connection so; give its port, and what
    it is answered.
    """
    answered: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    while client.recv(4096)[4:8] in NOT_ENCRYPTED:
                        client.sendall(b"N")
                    client.sendall(b"R" + struct.pack("!I", 4 + len(request)) + request)
                    answered.append(client.recv(4096))

    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1], answered
        listener.shutdown(socket.SHUT_RDWR)


NOT_ENCRYPTED = {struct.pack("!I", 80877103), struct.pack("!I", 80877104)}
"""Asked for TLS, or for GSSAPI (PostgreSQL, "Message Formats")."""


@pytest.mark.parametrize(
    "request_", [struct.pack("!I", 3), struct.pack("!I", 5) + b"salt"], ids=["clear", "md5"]
)
def test_password_for_a_listener(request_: bytes) -> None:
    """Without proof of who the server is, it goes neither in clear nor by md5."""
    with listener_that_asks(request_) as (port, answered):
        url = f"postgresql://certferry@{HOST}:{port}/x"
        error = refused(lambda: connect(url, KEY, password=Secret(PASSWORD)))

    assert "authentication method requirement" in str(error)
    assert "scram-sha-256" in str(error.hint)
    assert "sslmode=verify-full" in str(error.hint)
    assert not b"".join(answered)


def demanding(iterations: int) -> Callable[[socket.socket], None]:
    """Return a server that asks for a proof by SCRAM with these iterations (RFC 5802 §5.1)."""

    def converse(client: socket.socket) -> None:
        while client.recv(4096)[4:8] in NOT_ENCRYPTED:
            client.sendall(b"N")
        offered = b"SCRAM-SHA-256\0\0"
        client.sendall(b"R" + struct.pack("!II", 8 + len(offered), 10) + offered)
        nonce = client.recv(4096).rpartition(b"r=")[2]
        first = b"r=%bx,s=c2FsdA==,i=%d" % (nonce, iterations)
        client.sendall(b"R" + struct.pack("!II", 8 + len(first), 11) + first)
        client.recv(4096)

    return converse


def test_listener_that_demands_hours_of_computing() -> None:
    """The connection ends in time; libpq goes on in a thread, here for some seconds."""
    with peer(demanding(600_000)) as place:
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="timeout expired"):
            connected(
                timedelta(seconds=0.1),
                host=HOST,
                port=int(place.rpartition(":")[2]),
                user="certferry",
                password=PASSWORD,
                sslmode="disable",
            )
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("methods", ["password", "scram-sha-256,md5", "!md5", ""])
def test_environment_that_accepts_a_password_in_clear(
    methods: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGREQUIREAUTH cannot loosen the demand on an unproven server."""
    monkeypatch.setenv("PGREQUIREAUTH", methods)
    with listener_that_asks(struct.pack("!I", 3)) as (port, answered):
        url = f"postgresql://certferry@{HOST}:{port}/x"
        error = refused(lambda: connect(url, KEY, password=Secret(PASSWORD)))

    assert "authentication method requirement" in str(error)
    assert not b"".join(answered)


@pytest.mark.parametrize("methods", ["scram-sha-256", "!password,!md5,!none"])
def test_stricter_demand_on_a_server(methods: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demand of the environment reaches libpq unchanged."""
    monkeypatch.setenv("PGREQUIREAUTH", methods)
    with listener_that_asks(struct.pack("!I", 0)) as (port, _):
        error = refused(lambda: connect(f"postgresql://certferry@{HOST}:{port}/x", KEY))

    assert f'"{methods}"' in str(error)


def test_user_without_the_right_to_make_tables(postgresql: Postgresql) -> None:
    """The hint has the grant."""
    name = postgresql.new_database()
    if not postgresql.ask("SELECT 1 FROM pg_roles WHERE rolname = 'guest'"):
        postgresql.ask("CREATE ROLE guest LOGIN")

    error = refused(lambda: prepare(postgresql.url(name, "guest"), KEY, init=True))

    assert "permission is missing: permission denied for schema public" in str(error)
    assert "GRANT CREATE" in str(error.hint)


def test_database_of_another_program(postgresql: Postgresql) -> None:
    """Nothing is added to it."""
    name = postgresql.new_database()
    postgresql.ask("CREATE TABLE bookmark (url TEXT)", name)

    error = refused(lambda: prepare(postgresql.url(name), KEY, init=True))

    assert "holds the tables of another program" in str(error)
    assert [("bookmark",)] == postgresql.ask(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name
    )


def test_schema_that_is_newer(postgresql: Postgresql, name: str) -> None:
    """It is used as long as it has all that this version needs, and refused from then on."""
    url = postgresql.url(name)
    postgresql.ask("INSERT INTO certferry_migration VALUES (900, 'later')", name)
    connect(url, KEY).close()

    postgresql.ask("UPDATE certferry_schema SET oldest = 899", name)
    error = refused(lambda: connect(url, KEY))

    assert "schema 900" in str(error)


def test_schema_of_the_next_release(postgresql: Postgresql, name: str) -> None:
    """Rows stay, and this release goes on working until a later script ends its support."""
    url, first = postgresql.url(name), read_migrations("postgresql")
    adds = Migration(24, "0024_adds", "ALTER TABLE notice ADD COLUMN later TEXT;")
    ends = Migration(25, "0025_ends", "UPDATE certferry_schema SET oldest = 24;")
    with closing(connect(url, KEY)) as store:
        store.append_history(ENTRY)
    with closing(PostgresqlDatabase(url)) as database:
        assert migrate(database, "web-1", [*first, adds])
        with closing(connect(url, KEY)) as store:
            assert [ENTRY.event] == [entry.event for entry in store.history(None, 10)]
            assert not prepare(url, KEY, init=False)

        assert migrate(database, "web-1", [*first, adds, ends])

    error = refused(lambda: connect(url, KEY))
    assert "newer certferry: schema 25" in str(error)
    assert [("web-1",)] == postgresql.ask("SELECT name FROM host", name)


def test_schema_from_before_the_first_release(postgresql: Postgresql, name: str) -> None:
    """Every way to open the state refuses the state, and changes nothing."""
    url = postgresql.url(name)
    postgresql.ask("UPDATE certferry_migration SET number = 22", name)
    for open_it in (
        lambda: connect(url, KEY),
        lambda: connect(url, KEY, reads_only=True),
        lambda: prepare(url, KEY, init=False),
        lambda: prepare(url, KEY, init=True),
    ):
        error = refused(open_it)

        assert "from before the first release: schema 22, the oldest known here: 23" in str(error)
        assert "name another place as `url` of [state]" in str(error.hint)
    assert [(22,)] == postgresql.ask("SELECT number FROM certferry_migration", name)


def test_database_that_is_not_in_utf8(postgresql: Postgresql) -> None:
    """Chinese words would be an error on the day on which one comes."""
    name = postgresql.new_database("template0 ENCODING 'LATIN1' LOCALE 'C'")

    error = refused(lambda: prepare(postgresql.url(name), KEY, init=True))

    assert "has the encoding LATIN1" in str(error)


def test_rows_that_another_program_removed(postgresql: Postgresql, name: str) -> None:
    """A table that is missing is named."""
    with closing(connect(postgresql.url(name), KEY)) as store:
        postgresql.ask("DROP TABLE upload", name)
        with pytest.raises(StateError, match=r'is not a state of certferry: .*"upload"') as error:
            store.uploads("img", "qiniu")

    assert "backup" in str(error.value.hint)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://a@db.example.com/x", "db.example.com is another machine"),
        ("postgresql://a@db.example.com/x?sslmode=require", "must say sslmode=verify-full"),
        ("postgresql://a@192.0.2.1/x?sslmode=verify-ca", "192.0.2.1 is another machine"),
        ("postgresql://a@localhost/x?hostaddr=192.0.2.1", "192.0.2.1 is another machine"),
        ("postgresql://a@127.0.0.1,db.example.com/x", "db.example.com is another machine"),
        ("postgresql://a@127.0.0.1/x?service=prod", "`service`"),
        ("postgresql://a:hidden@127.0.0.1/x", "`url` of [state] contains a password"),
        ("postgresql://127.0.0.1/x?password=hidden", "`url` of [state] contains a password"),
        (
            "postgresql://127.0.0.1/x?require_auth=password",
            "lets an unproven server ask for the password in clear",
        ),
        ("postgresql://127.0.0.1/x?nothing=1", "is not the address of a PostgreSQL database"),
        ("postgresql://127.0.0.1:port/x", ""),
    ],
)
def test_url_that_is_refused(url: str, said: str) -> None:
    """Before a connection is made; it is not shown, since a password may stand in it."""
    error = refused(lambda: connect(url, KEY))

    assert said in str(error)
    assert "hidden" not in f"{error}{error.hint}"


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("postgresql://127.0.0.1:1/x?sslmode=often", ConfigError, 'invalid sslmode value: "often"'),
        ("postgresql://[::1]:1/x", DatabaseUnavailable, "Connection refused"),
    ],
)
def test_what_prevents_a_connection_is_said_in_full(
    url: str, kind: type[CertferryError], said: str
) -> None:
    """In the words of libpq, without where they say again what was to be opened."""
    error = refused(lambda: connect(url, KEY), kind)

    assert f"{url.partition('?')[0]} cannot be opened: {said}" == str(error)


def test_environment_that_names_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What libpq reads beside the URL counts: PGHOST, PGSSLMODE."""
    monkeypatch.setenv("PGHOST", "db.example.com")
    error = refused(lambda: connect("postgresql:///x", KEY))
    assert "db.example.com is another machine" in str(error)

    monkeypatch.setenv("PGSSLMODE", "verify-full")
    place = PostgresqlDatabase("postgresql:///x").place
    assert "postgresql://db.example.com" == place.partition(":5")[0]


@pytest.fixture(scope="module")
def authority() -> CA:
    """The CA of the server's certificate."""
    return CA()


@pytest.mark.parametrize(
    ("host", "is_trusted", "said"),
    [
        ("localhost", True, None),
        ("127.0.0.1", True, 'certificate for "localhost" does not match host name "127.0.0.1"'),
        ("localhost", False, "certificate verify failed"),
    ],
)
def test_server_is_known_by_its_certificate(
    postgresql: Postgresql,
    name: str,
    authority: CA,
    tmp_path: Path,
    *,
    host: str,
    is_trusted: bool,
    said: str | None,
) -> None:
    """With `verify-full` over TLS: another name, or another CA, is refused in one sentence, with
    what to write as its hint.
    """
    (authority if is_trusted else CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    with running_pgbouncer(postgresql, authority.issue_cert("localhost")) as port:
        url = (
            f"postgresql://postgres@{host}:{port}/{name}"
            f"?sslmode=verify-full&sslrootcert={tmp_path / 'ca.pem'}&gssencmode=disable"
        )
        if said is None:
            with closing(connect(url, KEY)) as store:
                assert () == store.lineages()
            return
        error = refused(lambda: connect(url, KEY))
    assert said in str(error)
    assert "sslrootcert=FILE" in str(error.hint)


@thorough
def test_read_replica(postgresql: Postgresql, name: str) -> None:
    """It would answer with old rows, and takes none."""
    with running_replica(postgresql) as replica:
        error = refused(lambda: connect(replica.url(name), KEY))

    assert "is a read replica" in str(error)
    assert "target_session_attrs" in str(error.hint)


# --- Rows that certferry did not write

READS: list[Callable[[PostgresqlDatabase], object]] = [
    lambda database: database.rows("SELECT * FROM lease"),
    lambda database: database.each(("SELECT 1 AS one", ()), ("SELECT holder FROM lease", ())),
    lambda database: database.read(lambda reader: reader.rows("SELECT * FROM lease")),
    lambda database: database.run(lambda one: one.rows("SELECT * FROM lease FOR SHARE")),
]


@pytest.mark.parametrize(
    ("holder", "count"),
    [
        pytest.param("repeat('x', 23000000)", 3, id="long"),
        pytest.param("NULL", 700_000, id="many", marks=thorough),
    ],
)
def test_more_rows_than_a_state_has(
    postgresql: Postgresql, name: str, database: PostgresqlDatabase, holder: str, count: int
) -> None:
    """The server sends none of them, and the table is named; so many as there may be are read."""
    rows = f"INSERT INTO lease (lineage, token, holder) SELECT 'n' || n, 1, {holder}"
    postgresql.ask(f"{rows} FROM generate_series(1, {count}) AS n", name)
    for read in READS:
        with pytest.raises(StateError, match="the table lease returns more than 64 MiB") as error:
            read(database)
        assert str(database.place) in str(error.value)
    assert 1 == len(database.rows("SELECT * FROM lease WHERE lineage = 'n1'"))


def test_text_that_is_not_utf8(postgresql: Postgresql) -> None:
    """A database without an encoding holds any bytes: the table is named."""
    name = postgresql.new_database("template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    postgresql.ask("CREATE TABLE lease (holder TEXT)", name)
    postgresql.ask("INSERT INTO lease VALUES (convert_from('\\xff'::bytea, 'SQL_ASCII'))", name)
    with closing(PostgresqlDatabase(postgresql.url(name))) as database:
        for read in READS:
            with pytest.raises(StateError, match="the table lease contains text that is not UTF-8"):
                read(database)
        assert 1 == len(database.rows("SELECT 1 AS one"))


# --- What the server says in the middle


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("53100", "cannot be written: the server's disk is full"),
        ("53300", "has no room for the data: because"),
        ("25006", "accepts no writes right now: because"),
        ("57014", "has been busy with other writes for too long"),
        ("57P03", "does not answer: because"),
    ],
)
def test_trouble_that_passes(postgresql: Postgresql, name: str, code: str, said: str) -> None:
    """Another try may help, and the sentence names the database."""
    fail = f"DO $$ BEGIN RAISE EXCEPTION 'because' USING ERRCODE = '{code}'; END $$"
    with closing(impatient(postgresql.url(name))) as database:
        database.rows("SELECT 1")

        with pytest.raises(DatabaseUnavailable) as error:
            database.run(lambda one: one.execute(fail))

        assert error.value.retry.allowed
        assert f"{database.place} {said}" == str(error.value.message)
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
    """It is named, with what to change; certferry waits for other writes as long as it does."""
    with ExitStack() as stack:
        database = stack.enter_context(closing(impatient(postgresql.url(name))))
        if setting == "lock_timeout":
            other = stack.enter_context(closing(PostgresqlDatabase(postgresql.url(name))))
            held, is_over = threading.Event(), threading.Event()

            def hold(one: Transaction) -> None:
                one.rows("SELECT 1 FROM lease")
                one.execute("LOCK TABLE lease")
                one.rows("SELECT 1")
                held.set()
                is_over.wait(9)

            holding = stack.enter_context(ThreadPoolExecutor(1))
            holding.submit(other.run, hold)
            stack.callback(is_over.set)
            assert held.wait(9)
        postgresql.ask(f"ALTER DATABASE {name} SET {setting} = '50ms'")

        def in_transaction(query: str) -> None:
            def work(one: Transaction) -> None:
                one.execute(query)
                one.rows("SELECT 1")

            database.run(work)

        # In a transaction the time of a statement is certferry's.
        ask = database.rows if setting == "statement_timeout" else in_transaction
        with pytest.raises(DatabaseUnavailable) as error:
            ask(statement)
    assert f"ended certferry's transaction by {setting}: " in str(error.value)
    assert f"ALTER ROLE USER SET {setting} = '60s'" in str(error.value.hint)


def test_unforeseen_error(database: PostgresqlDatabase) -> None:
    """What the server says otherwise is passed on as an error of the state."""
    with pytest.raises(StateError, match="division by zero"):
        database.rows("SELECT 1 / 0")


def test_function_that_cannot_be_serialized_runs_again(database: PostgresqlDatabase) -> None:
    """Of two that read what the other writes, one runs twice, and both are right."""
    database.run(lambda one: one.execute("INSERT INTO lease (lineage, token) VALUES ('sum', 0)"))
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
    """It has to use its transaction."""
    uses: dict[str, Callable[[object], object]] = {
        "rows": lambda _: database.rows("SELECT 1"),
        "read": lambda _: database.read(lambda _: None),
        "run": lambda _: database.run(lambda _: None),
    }
    with pytest.raises(RuntimeError):
        database.run(uses[use])
    assert [] == database.rows("SELECT * FROM lease")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_connection_that_is_ended_between_two_statements(
    postgresql: Postgresql, name: str, database: PostgresqlDatabase, after: int
) -> None:
    """The function runs again over another connection; what it wrote before has not happened. An
    idle one that was ended is not noticed at all.
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
    """The server is asked what became of it: it is not written twice, and not forgotten."""
    with cut_at_commit(postgresql.port, is_forwarded=is_forwarded) as port:
        url = f"postgresql://postgres@{HOST}:{port}/{name}?sslmode=disable&gssencmode=disable"
        with closing(connect(url, KEY)) as store:
            store.append_history(ENTRY)
            assert (ENTRY,) == store.history(None, 10)


class Cutter:
    """A proxy that ends the connection of the first commit: when the server has it, or before."""

    def __init__(self, server: int, *, is_forwarded: bool) -> None:
        self._server = server
        self._is_forwarded = is_forwarded
        self.was_cut = threading.Event()

    def serve(self, listener: socket.socket) -> None:
        """Serve until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                there = socket.create_connection((HOST, self._server))
                ways = ((self._ask, client, there), (self._answer, there, client))
                for pump, one, other in ways:
                    threading.Thread(target=pump, args=(one, other), daemon=True).start()

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
                    time.sleep(0.2)  # the server carries it out
                source.shutdown(socket.SHUT_RDWR)
                sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_at_commit(server: int, *, is_forwarded: bool) -> Iterator[int]:
    """Run a `Cutter`; give its port."""
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


def test_server_that_comes_and_goes(own_server: Postgresql) -> None:
    """Gone at the start, it is an error at once; while it starts again, a host that was connected
    waits; gone for ever, it is one sentence, and the next call does not wait again.
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
def test_server_that_refuses_for_a_while(postgresql: Postgresql) -> None:
    """A failover may lead to a server that refuses at first: who was admitted once waits, and is
    told to try later; its leases are renewed again when it is over.
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
