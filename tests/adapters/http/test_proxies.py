"""Ways through a company's proxy, over real sockets: which work, and that each of them ends."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from certferry.adapters.http.client import HttpClient, Pacer, Request
from certferry.adapters.http.problems import HttpFailure, Timeouts
from certferry_sandbox import httpd
from tests.adapters.http.peers import CONNECTED, Treat, peer, read_request, tunnel
from tests.adapters.waits import Waits

LATEST = 5.0  # seconds, with room for a busy machine; the drips themselves have no end


@pytest.fixture
def waits() -> Waits:
    """Give pauses that return at once."""
    return Waits()


@pytest.fixture
def server_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Give the TLS of a server on this machine that the environment's bundle trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def service(server_side: ssl.SSLContext) -> Iterator[httpd.HttpService]:
    """Start an HTTPS service."""
    with httpd.HttpService(
        lambda request: httpd.Response.json({"path": request.path}), tls=server_side
    ) as running:
        yield running


def client(waits: Waits, whole: timedelta = timedelta(seconds=30)) -> HttpClient:
    """Give a client whose reads might last longer than the exchange."""
    five = timedelta(seconds=5)
    timeouts = Timeouts(connect=five, read=five, whole=whole)
    return HttpClient(pace=Pacer(1000, pause=waits), pause=waits, timeouts=timeouts)


def within_tls(context: ssl.SSLContext, treat: Treat) -> Treat:
    """Treat what comes by TLS."""

    def secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inside:
            treat(inside)

    return secured


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_is_usual_in_companies(
    scheme: str,
    service: httpd.HttpService,
    server_side: ssl.SSLContext,
    waits: Waits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What goes through it is the service's answer, by TLS to the service."""
    ways: dict[str, Callable[[], Treat]] = {
        "http": lambda: tunnel,
        "https": lambda: within_tls(server_side, tunnel),
    }
    with peer(ways[scheme]()) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{host}")
        request = Request("GET", f"{service.url}/x", {"Connection": "close"})
        answer = client(waits).exchange(lambda: request, repeatable=False)

    assert b'{"path":"/x"}' == answer.body


def test_proxy_with_tls_that_drips(
    server_side: ssl.SSLContext, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake with the host, which goes through it, belongs to the exchange."""
    tap = threading.Event()  # never set: waiting for it is the time between two drops

    def drip(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(CONNECTED)
        connection.recv(1)  # the client's hello
        # A record of a handshake that would be 16383 bytes long (RFC 8446 §5.1).
        connection.sendall(b"\x16\x03\x03\x3f\xff")
        while not tap.wait(0.02):
            connection.sendall(b"x")

    begun = time.monotonic()
    with peer(within_tls(server_side, drip)) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"https://{host}")
        with pytest.raises(HttpFailure, match="not complete within"):
            client(waits, timedelta(seconds=0.5)).exchange(
                lambda: Request("GET", "https://api.example.com/"), repeatable=True
            )

    assert time.monotonic() - begun < LATEST
    assert [] == waits.seconds


@pytest.mark.parametrize("proxy", ["socks5h://127.0.0.1:9", "SOCKS5://127.0.0.1:9", "ftp://p"])
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_proxy_that_speaks_something_else(
    variable: str, proxy: str, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as that, once, with what to write in its place; nothing was sent."""
    monkeypatch.setenv(variable, proxy)

    with pytest.raises(HttpFailure, match=r"cannot connect to api\.example\.com") as failure:
        client(waits).exchange(lambda: Request("GET", "https://api.example.com/"), repeatable=True)

    assert "set HTTPS_PROXY to its http:// address" in str(failure.value)
    assert not failure.value.maybe_done
    assert [] == waits.seconds
