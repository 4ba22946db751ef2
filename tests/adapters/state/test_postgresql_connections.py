"""Connections to a state in PostgreSQL: refused keys, passwords, URLs and servers, with an error
that names the database and hides the password.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from trustme import CA

from certferry.adapters.state.connect import connect, prepare
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.postgresql_transaction import connected
from certferry.adapters.state.sealing import new_key
from certferry.core.redaction import Secret
from certferry.errors import CertferryError, ConfigError, DatabaseUnavailable
from tests.adapters.http.peers import peer
from tests.adapters.state.postgresql_state import refused
from tests.support.ports import HOST
from tests.support.postgresql import (
    KEY,
    Postgresql,
    running_pgbouncer,
    running_replica,
)
from tests.support.tiers import thorough

PASSWORD = "s3cret-of-the-tests"


def test_key_of_another_state(postgresql: Postgresql, name: str) -> None:
    """The key is refused before any write, for connecting and for migrating."""
    other = Secret(new_key())
    for open_it in (
        lambda: connect(postgresql.url(name), other, host="web-7"),
        lambda: prepare(postgresql.url(name), other, init=True),
    ):
        error = refused(open_it)
        assert "`key` of [state] does not open the state" == str(error.message)
    assert [("web-1",)] == postgresql.ask("SELECT name FROM host", name)


@pytest.mark.parametrize("key", ["", "short", "x" * 44, "@" * 44])
def test_invalid_key(postgresql: Postgresql, name: str, key: str) -> None:
    """The error leaves the key out."""
    error = refused(lambda: connect(postgresql.url(name), Secret(key)))

    assert "`key` of [state] is not a key: 32 bytes in base64" == str(error.message)


def test_missing_database(postgresql: Postgresql) -> None:
    """The error is final, and the hint has the command that creates a database."""
    error = refused(lambda: connect(postgresql.url("nowhere"), KEY))

    assert (
        f'postgresql:///nowhere?host={postgresql.folder} cannot be opened: database "nowhere"'
        in (str(error))
    )
    assert "createdb" in str(error.hint)


def test_wrong_password(postgresql: Postgresql, name: str) -> None:
    """The error hides right and wrong passwords, and the hint names the places for a password. The
    right password opens the state.
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
def listener_demanding(request: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Listen as a false server that demands this authentication; yield the port, and the client's
    answers.
    """
    answers: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    while client.recv(4096)[4:8] in NOT_ENCRYPTED:
                        client.sendall(b"N")
                    client.sendall(b"R" + struct.pack("!I", 4 + len(request)) + request)
                    answers.append(client.recv(4096))

    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1], answers
        listener.shutdown(socket.SHUT_RDWR)


NOT_ENCRYPTED = {struct.pack("!I", 80877103), struct.pack("!I", 80877104)}
"""Requests for TLS and for GSSAPI (PostgreSQL, "Message Formats")."""


@pytest.mark.parametrize(
    "request_", [struct.pack("!I", 3), struct.pack("!I", 5) + b"salt"], ids=["clear", "md5"]
)
def test_password_at_an_unproven_server(request_: bytes) -> None:
    """The password is sent neither in clear nor by md5 to a server that has not proven its
    identity.
    """
    with listener_demanding(request_) as (port, answers):
        url = f"postgresql://certferry@{HOST}:{port}/x"
        error = refused(lambda: connect(url, KEY, password=Secret(PASSWORD)))

    assert "authentication method requirement" in str(error)
    assert "scram-sha-256" in str(error.hint)
    assert "sslmode=verify-full" in str(error.hint)
    assert not b"".join(answers)


def demanding(iterations: int) -> Callable[[socket.socket], None]:
    """Return a server that demands a proof by SCRAM with these iterations (RFC 5802 §5.1)."""

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


def test_server_that_demands_long_computations() -> None:
    """The connection attempt ends in time; libpq computes on in a thread, here for some seconds."""
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
    """PGREQUIREAUTH cannot weaken the requirement for an unproven server."""
    monkeypatch.setenv("PGREQUIREAUTH", methods)
    with listener_demanding(struct.pack("!I", 3)) as (port, answers):
        url = f"postgresql://certferry@{HOST}:{port}/x"
        error = refused(lambda: connect(url, KEY, password=Secret(PASSWORD)))

    assert "authentication method requirement" in str(error)
    assert not b"".join(answers)


@pytest.mark.parametrize("methods", ["scram-sha-256", "!password,!md5,!none"])
def test_stricter_requirement_of_the_environment(
    methods: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requirement of the environment reaches libpq unchanged."""
    monkeypatch.setenv("PGREQUIREAUTH", methods)
    with listener_demanding(struct.pack("!I", 0)) as (port, _):
        error = refused(lambda: connect(f"postgresql://certferry@{HOST}:{port}/x", KEY))

    assert f'"{methods}"' in str(error)


@pytest.mark.parametrize(
    ("url", "message"),
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
def test_refused_url(url: str, message: str) -> None:
    """The error comes before a connection, and hides the URL, which may contain a password."""
    error = refused(lambda: connect(url, KEY))

    assert message in str(error)
    assert "hidden" not in f"{error}{error.hint}"


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("postgresql://127.0.0.1:1/x?sslmode=often", ConfigError, 'invalid sslmode value: "often"'),
        ("postgresql://[::1]:1/x", DatabaseUnavailable, "Connection refused"),
    ],
)
def test_failed_connection_is_explained(url: str, kind: type[CertferryError], message: str) -> None:
    """The error has libpq's message, without its repetition of the address."""
    error = refused(lambda: connect(url, KEY), kind)

    assert f"{url.partition('?')[0]} cannot be opened: {message}" == str(error)


def test_environment_that_names_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of libpq count as well: PGHOST, PGSSLMODE."""
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
    ("host", "is_trusted", "message"),
    [
        ("localhost", True, None),
        ("127.0.0.1", True, 'certificate for "localhost" does not match host name "127.0.0.1"'),
        ("localhost", False, "certificate verify failed"),
    ],
)
def test_certificate_of_the_server(
    postgresql: Postgresql,
    name: str,
    authority: CA,
    tmp_path: Path,
    *,
    host: str,
    is_trusted: bool,
    message: str | None,
) -> None:
    """`verify-full` refuses another name or another CA, and the hint names the setting."""
    (authority if is_trusted else CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    with running_pgbouncer(postgresql, authority.issue_cert("localhost")) as port:
        url = (
            f"postgresql://postgres@{host}:{port}/{name}"
            f"?sslmode=verify-full&sslrootcert={tmp_path / 'ca.pem'}&gssencmode=disable"
        )
        if message is None:
            with closing(connect(url, KEY)) as store:
                assert () == store.lineages()
            return
        error = refused(lambda: connect(url, KEY))
    assert message in str(error)
    assert "sslrootcert=FILE" in str(error.hint)


@thorough
def test_read_replica(postgresql: Postgresql, name: str) -> None:
    """A replica would answer with old rows, and cannot be written."""
    with running_replica(postgresql) as replica:
        error = refused(lambda: connect(replica.url(name), KEY))

    assert "is a read replica" in str(error)
    assert "target_session_attrs" in str(error.hint)
