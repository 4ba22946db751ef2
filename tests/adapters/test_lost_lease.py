"""Every adapter stops before its next outside effect once a run has lost its lease."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from certferry.adapters.acme.acme_client import Client
from certferry.adapters.acme.network import IssuerSettings, opened_network
from certferry.adapters.http.http_client import HttpClient, Pacer
from certferry.adapters.probe.tls import TlsProbe
from certferry.adapters.programs.run import run_to_end
from certferry.adapters.receivers.files import FilesReceiver
from certferry.adapters.rfc2136.update_server import ServerKey, UpdateServer
from certferry.core.desired.certificate import FileDelivery, Program
from certferry.core.redaction import Secret
from certferry.errors import LeaseLost
from certferry.ports.state import Lease, LeaseStore, holding
from certferry.text import Text
from certferry_sandbox.testing.certificates import make_bundle
from tests.adapters.lexicon.account import connected
from tests.adapters.rfc2136.scripted_server import KEY
from tests.support.ports import HOST

SECOND = timedelta(seconds=1)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Service:
    """A port that accepts connections without answering; `heard` is the bytes received on each."""

    heard: list[bytes] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @contextmanager
    def running(self) -> Iterator[Service]:
        with socket.create_server((HOST, 0)) as server:
            self.port = server.getsockname()[1]
            thread = threading.Thread(target=self._take, args=(server,), daemon=True)
            thread.start()
            yield self
            server.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _take(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                self.heard.append(connection.recv(100))


@dataclass
class LostLeaseStore:
    """A state store that reports a lost lease after `after` successful checks."""

    after: int

    def must_hold(self, lease: Lease) -> None:
        self.after -= 1
        if self.after < 0:
            raise LeaseLost(Text("{lineage}: lost", lineage=lease.lineage))


Call = Callable[[Service, Path], object]


def by_http(service: Service, _: Path) -> object:
    client = HttpClient(pace=Pacer(1000, pause=time.sleep), pause=time.sleep)
    return client.send("POST", f"{service.url}/v1", body=b"{}", repeatable=True)


def at_a_ca(service: Service, _: Path) -> object:
    settings = IssuerSettings(service.url)
    with opened_network(settings, time.sleep, now) as network:
        return Client.at(service.url, network)


def by_update(service: Service, _: Path) -> object:
    server_key = ServerKey((HOST, service.port), KEY, "hmac-sha256")
    return UpdateServer(server_key, (), SECOND, now, time.sleep).zone_of("example.com")


def by_lexicon(service: Service, _: Path) -> object:
    options: dict[str, Secret | str] = {"auth_token": Secret("key"), "pdns-server": service.url}
    return connected("powerdns", options).add_txt("_acme-challenge.example.com", "value")


def by_program(_: Service, folder: Path) -> object:
    program = Program(("touch", str(folder / "touched")), "/", SECOND)
    return run_to_end(program, {}, time.sleep, hidden=[])


def to_files(_: Service, folder: Path) -> object:
    receiver = FilesReceiver(FileDelivery(str(folder)), pause=time.sleep)
    receiver.deliver("img", make_bundle("img.example.com", not_before=now()))
    return None


def at_an_edge(service: Service, _: Path) -> object:
    return TlsProbe((), now, pause=time.sleep, port=service.port).served([HOST])


CALLS = [by_http, at_a_ca, by_update, by_lexicon, by_program, to_files, at_an_edge]


@pytest.mark.parametrize("call", CALLS)
def test_call_after_the_lease_is_lost(call: Call, tmp_path: Path) -> None:
    """No adapter sends a message, runs a program or writes a file; not even a draft appears."""
    with Service().running() as service, holding(store(0), Lease("img", "web-1", 1)):
        with pytest.raises(LeaseLost):
            call(service, tmp_path)
        assert not any(service.heard)
    assert [] == [*tmp_path.iterdir()]


@pytest.mark.parametrize("call", [by_http, at_a_ca])
def test_lease_lost_during_a_connection_attempt(call: Call, tmp_path: Path) -> None:
    """The process may freeze while it connects: the connected client then sends nothing."""
    with Service().running() as service:
        with holding(store(1), Lease("img", "web-1", 1)), pytest.raises(LeaseLost):
            call(service, tmp_path)
        assert not any(service.heard)


def test_lease_lost_during_a_delivery_to_files(tmp_path: Path) -> None:
    """At every stage of the delivery, a server still reads the earlier files."""
    old, new = (make_bundle("img.example.com", not_before=now()) for _ in range(2))
    FilesReceiver(FileDelivery(str(tmp_path)), pause=time.sleep).deliver("img", old)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for successful_checks in range(5):  # four drafts, then the first change
        with holding(store(successful_checks), Lease("img", "web-1", 1)), pytest.raises(LeaseLost):
            FilesReceiver(FileDelivery(str(tmp_path)), pause=time.sleep).deliver("img", new)
        assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_lease_of_an_outer_block_counts_as_well(tmp_path: Path) -> None:
    """An account is made under its own lease within a certificate's lease; losing the certificate's
    lease stops the call.
    """
    account = Lease("account", "web-1", 1)
    with (
        Service().running() as service,
        holding(store(0), Lease("img", "web-1", 1)),
        holding(store(100), account),
        pytest.raises(LeaseLost, match=r"^img: lost"),
    ):
        by_http(service, tmp_path)


def store(after: int) -> LeaseStore:
    return cast("LeaseStore", LostLeaseStore(after))
