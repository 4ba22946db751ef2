"""The process of `certferry serve`, as an operator or systemd starts the command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType

from certferry_sandbox.authority import Authority
from tests.support.forks import start
from tests.support.ports import HOST, free_port
from tests.support.waiting import Logged

AUTHORITY = Authority("Ops")

DECLARED = """\
[state]
url = "sqlite:///{folder}/state.db"
key_file = "{folder}/secret.key"
[acme]
directory = "http://127.0.0.1:9/directory"
[dns]
resolvers = ["127.0.0.1:9"]
[accounts.dnspod]
id = "1"
token = "t"
api = "http://127.0.0.1:9"
[[certificates]]
name = "ops"
names = ["ops.example.com"]
dns = "dnspod"
"""
"""A configuration with addresses at which nothing listens."""


def write(folder: Path, console: str = "") -> Path:
    """Write a configuration with these lines in the table `[console]`."""
    path = folder / "certferry.toml"
    path.write_text(f"{DECLARED.format(folder=folder)}[console]\n{console}\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def write_certificate(folder: Path, *names: str) -> str:
    """Write the files of a new certificate for the names, and return the fingerprint."""
    moment = datetime.now(UTC)
    issued = AUTHORITY.issue(names, moment - timedelta(hours=1), moment + timedelta(days=90))
    (folder / "fullchain.pem").write_text(issued.fullchain_pem, encoding="ascii")
    (folder / "privkey.pem").write_text(issued.privkey_pem, encoding="ascii")
    (folder / "root.pem").write_text(AUTHORITY.root_pem, encoding="ascii")
    return issued.fingerprint


class Served(Logged):
    """A process of `certferry serve`, with its log."""

    def ended(self, number: int) -> tuple[int, float]:
        """Send a signal, wait for the end, and return the exit code and the seconds."""
        begun = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(20), time.monotonic() - begun


@contextmanager
def serving(
    config: Path,
    *arguments: str,
    started_by: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Served]:
    """Run `certferry serve` for a `with` block. `started_by` holds the words before the command."""
    log = config.parent / "said"
    command = [*started_by, sys.executable, "-m", "certferry", "--config", str(config), "serve"]
    with log.open("w") as file:
        process = start(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            pass_fds=pass_fds,
            env={**os.environ, **environ},
            start_new_session=True,
        )
    served = Served(process, log)
    try:
        assert served.prints("The console is at"), served.output
        yield served
    finally:
        process.kill()
        process.wait()


def address() -> str:
    """Return a free port on loopback, as `HOST:PORT`."""
    return f"{HOST}:{free_port()}"


class OverSocket(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))
