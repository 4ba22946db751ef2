"""Deliveries that are killed or cut anywhere: the pair on the server always matches."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certferry.adapters.files.directory import NAMES, contents
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import FileDelivery
from certferry.errors import DeployError
from certferry.values import replace
from tests.adapters.receivers.bench import LINEAGE, holds, issue, program
from tests.adapters.ssh.bench import remote, to
from tests.support.programs import needs
from tests.support.sshd import Sshd
from tests.support.tiers import long, thorough

pytestmark = needs("sshd")

WATCHED = ("mkdir", "touch", "dd", "chmod", "chown", "ln", "mv", "rm", "cp", "sync", "sleep")
"""The programs with which the script changes files."""

COUNTED = """\
#!/bin/sh
read -r n <{folder}/count
echo $((n + 1)) >{folder}/count
read -r at <{folder}/kill
[ "$n" != "$at" ] || kill -9 0
exec /usr/bin/{name} "$@"
"""


class Killer:
    """An sshd whose sessions die before the n-th of the watched programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "programs"
        self.folder.mkdir(parents=True)
        for name in WATCHED:
            path = self.folder / name
            path.write_text(COUNTED.format(folder=self.folder, name=name))
            path.chmod(0o755)
        self.kill_at(-1)
        wrapped = f'PATH={self.folder}:/usr/bin:/bin exec sh -c "$SSH_ORIGINAL_COMMAND"'
        self.sshd = Sshd(folder, f"ForceCommand {wrapped}")
        self.sshd.start()

    def kill_at(self, position: int) -> None:
        """Kill the next session at a position; -1: nowhere."""
        (self.folder / "kill").write_text(f"{position}\n")
        (self.folder / "count").write_text("0\n")


@pytest.fixture
def killer(tmp_path: Path) -> Iterator[Killer]:
    killer = Killer(tmp_path / "killer")
    yield killer
    killer.sshd.stop()


def matches(ssl: Path) -> bool:
    """Return whether all files are of one certificate, as a server reads the files."""
    key = load_pem_private_key((ssl / "privkey.pem").read_bytes(), None)
    for name in ("fullchain.pem", "cert.pem"):
        leaf = x509.load_pem_x509_certificate((ssl / name).read_bytes())
        if leaf.public_key() != key.public_key():
            return False
    return True


def must_be_whole(ssl: Path, bundles: tuple[CertificateBundle, CertificateBundle]) -> None:
    """All four files are of one of the two certificates, and no other user can read a key."""
    assert matches(ssl)
    present = {name: (ssl / name).read_bytes() for name in NAMES}
    assert present in [contents(bundle) for bundle in bundles]
    for path in ssl.rglob("*privkey.pem*"):
        assert path.is_symlink() or not path.stat().st_mode & 0o077


def delivery_of(way: str, ssl: Path, tmp_path: Path) -> FileDelivery:
    if way == "plain":
        return to(ssl)
    test = program(Path("/"), "sh", "-c", f"test ! -e {tmp_path}/refuse")
    return replace(to(ssl), test=test, reload=program(Path("/"), "true"))


@long
@thorough
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("way", ["plain", "tested", "refused"])
def test_session_that_is_killed_anywhere(
    killer: Killer, ssl: Path, tmp_path: Path, way: str
) -> None:
    """Before each program of the script in turn; the next delivery leaves nothing else behind."""
    delivery = delivery_of(way, ssl, tmp_path)
    receiver = remote(killer.sshd, delivery)
    old, new = issue(), issue()
    receiver.deliver(LINEAGE, old)
    killed, positions = 0, range(200)
    for position in positions:
        if way == "refused":
            (tmp_path / "refuse").touch()
        killer.kill_at(position)
        with contextlib.suppress(DeployError):
            receiver.deliver(LINEAGE, new)
        reached = int((killer.folder / "count").read_text()) > position
        killer.kill_at(-1)
        (tmp_path / "refuse").unlink(missing_ok=True)
        must_be_whole(ssl, (old, new))
        if not reached:
            break
        killed += 1
        observed = receiver.observe(None)
        done = observed.bound == new.certificate.fingerprint and observed.drift is None
        receiver.deliver(LINEAGE, new)
        assert holds(ssl, new), (position, done)
        old, new = new, issue()
    assert killed >= 40


class Cutter:
    """A way to the server that is cut after some bytes."""

    def __init__(self, port: int, after: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._to, self._left, self.was_cut = port, after, False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._server.accept()
            there = socket.create_connection(("127.0.0.1", self._to))
            back = threading.Thread(target=self._back, args=(there, client))
            back.start()
            while self._left > 0:
                chunk = client.recv(min(self._left, 65536))
                if not chunk:
                    break
                there.sendall(chunk)
                self._left -= len(chunk)
            self.was_cut = self._left <= 0
            for end in (client, there):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            back.join()

    @staticmethod
    def _back(there: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := there.recv(65536):
                client.sendall(chunk)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


@long
@thorough
@pytest.mark.timeout(3000)
def test_connection_that_is_cut_anywhere(sshd: Sshd, ssl: Path) -> None:
    """After each of a hundred numbers of bytes from here to the server."""
    receiver = remote(sshd, to(ssl))
    old, new = issue(), issue()
    receiver.deliver(LINEAGE, old)
    cut = 0
    for after in range(0, 40_000, 180):
        cutter = Cutter(sshd.port, after)
        error: DeployError | None = None
        try:
            remote(sshd, to(ssl), port=cutter.port).deliver(LINEAGE, new)
        except DeployError as failed:
            error = failed
        finally:
            cutter.close()
        must_be_whole(ssl, (old, new))
        if not cutter.was_cut:
            break
        cut += 1
        assert error is None or (error.code, bool(error.hint)) == ("target_unavailable", True), (
            error
        )
        receiver.deliver(LINEAGE, new)
        assert holds(ssl, new), after
        old, new = new, issue()
    assert cut >= 100


@long
@thorough
@pytest.mark.timeout(3000)
def test_process_that_is_killed_anywhere(sshd: Sshd, ssl: Path) -> None:
    """Certferry dies by SIGKILL after each of some moments; `ssh` and its key end with it."""
    receiver = remote(sshd, to(ssl))
    old, new = issue(), issue()
    receiver.deliver(LINEAGE, old)
    for moment in range(100):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                remote(sshd, to(ssl)).deliver(LINEAGE, new)
            os._exit(0)
        time.sleep(moment / 100)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        must_be_whole(ssl, (old, new))
        receiver.deliver(LINEAGE, new)
        assert holds(ssl, new), moment
        old, new = new, issue()
