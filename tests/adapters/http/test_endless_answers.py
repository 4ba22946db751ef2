"""Servers that never stop talking, over real sockets: each exchange ends all the same."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from certferry.adapters.http.bounds import CHUNK, Place, first_connection
from certferry.adapters.http.client import HttpClient, Pacer, Request
from certferry.adapters.http.problems import Contact, HttpFailure, Timeouts
from tests.adapters.http.peers import endless, peer, read_request
from tests.adapters.waits import Waits

WHOLE = timedelta(seconds=0.5)
LATEST = 5.0  # seconds, with room for a busy machine; the drips themselves have no end
TIMEOUTS = Timeouts(connect=timedelta(seconds=5), read=timedelta(seconds=5), whole=WHOLE)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
NOTHING = gzip.compress(b"")
"""Ten bytes and more that say nothing, as often as one likes."""

DRIPS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "a header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunk extension": (CHUNKED + b"\r\n1;", b"x"),
    "trailers": (CHUNKED + b"\r\n0\r\n", b"X-A: b\r\n"),
    "compressed nothing": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", NOTHING),
}


@pytest.fixture
def waits() -> Waits:
    """Give pauses that return at once."""
    return Waits()


@pytest.fixture
def hurried(waits: Waits) -> HttpClient:
    """Give a client whose exchanges last half a second, and whose reads might last longer."""
    return HttpClient(pace=Pacer(1000, pause=waits), pause=waits, timeouts=TIMEOUTS)


def _given_up(client: HttpClient, url: str) -> HttpFailure:
    begun = time.monotonic()
    with pytest.raises(HttpFailure) as caught:
        client.exchange(lambda: Request("GET", url), repeatable=True)
    assert time.monotonic() - begun < LATEST
    return caught.value


@pytest.mark.parametrize("way", DRIPS)
def test_answer_that_drips(way: str, hurried: HttpClient, waits: Waits) -> None:
    """Every byte comes in time and the whole never does: given up after its time, once."""
    with peer(endless(*DRIPS[way])) as host:
        failure = _given_up(hurried, f"http://{host}/")

    assert f"the answer of {host} was not complete within 0 seconds" == str(failure)
    assert (True, Contact.SILENCE) == (failure.maybe_done, failure.contact)
    assert [] == waits.seconds


def test_answer_that_drips_within_tls(
    hurried: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is that of the connection, whatever it is made of."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    answer = endless(*DRIPS["a header"])

    def within_tls(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            answer(secured)

    with peer(within_tls) as host:
        failure = _given_up(hurried, f"https://{host}/")

    assert "not complete within" in str(failure)


def test_proxy_that_drips(hurried: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to CONNECT belongs to the exchange."""
    with peer(endless(*DRIPS["headers"])) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{host}")
        failure = _given_up(hurried, "https://api.example.com/")

    assert "not complete within" in str(failure)


def test_handshake_that_does_not_end(waits: Waits) -> None:
    """A server that accepts a connection and says nothing has the time to connect, and no more."""
    ended = threading.Event()
    timeouts = Timeouts(connect=WHOLE, read=timedelta(seconds=60))
    client = HttpClient(pace=Pacer(1000, pause=waits), pause=waits, timeouts=timeouts, attempts=1)

    def say_nothing(_: socket.socket) -> None:
        ended.wait(60)

    with peer(say_nothing) as host:
        failure = _given_up(client, f"https://{host}/")
        ended.set()

    assert host in str(failure)


def test_flood_without_a_body(waits: Waits) -> None:
    """What is no body has a size, too."""
    trailer = b"X-A: " + b"b" * (CHUNK - 100) + b"\r\n"

    def flood(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(CHUNKED + b"\r\n0\r\n")
        while True:
            connection.sendall(trailer)

    client = HttpClient(pace=Pacer(1000, pause=waits), pause=waits)
    with peer(flood) as host, pytest.raises(HttpFailure, match="longer than any"):
        client.exchange(lambda: Request("GET", f"http://{host}/"), repeatable=True)

    assert [] == waits.seconds


def test_deadline_needs_no_thread(hurried: HttpClient) -> None:
    """An exchange ends by its own reads: none is watched from beside."""
    beside: list[list[threading.Thread]] = []
    before = threading.enumerate()

    def look(connection: socket.socket) -> None:
        read_request(connection)
        beside.append([t for t in threading.enumerate() if t not in (*before, here())])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    here = threading.current_thread  # that of the peer
    with peer(look) as host:
        hurried.exchange(lambda: Request("GET", f"http://{host}/"), repeatable=False)

    assert [] == beside[0]


def test_connection_after_an_exchange_that_was_nearly_over(hurried: HttpClient) -> None:
    """The next exchange by the same connection has all its time."""
    late = threading.Event()  # never set: waiting for it is the delay
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    def twice(connection: socket.socket) -> None:
        for delay in (0.3, 0.3):
            read_request(connection)
            late.wait(delay)
            connection.sendall(ok)

    with peer(twice) as host:
        answers = [
            hurried.exchange(lambda: Request("GET", f"http://{host}/"), repeatable=False)
            for _ in range(2)
        ]

    assert [b"ok", b"ok"] == [answer.body for answer in answers]


def _place(listener: socket.socket) -> Place:
    return socket.AF_INET, socket.SOCK_STREAM, 0, "", listener.getsockname()


def test_host_with_many_addresses_that_say_nothing() -> None:
    """All of them together have the time of the exchange, and none has more than its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as waiting:
        # Linux drops what comes while the queue is full (listen(2)), and leaves it unanswered.
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(listener.getsockname())
        begun = time.monotonic()

        with pytest.raises(TimeoutError):
            first_connection([_place(listener)] * 400, 0.1, begun + WHOLE.total_seconds())

    assert WHOLE.total_seconds() <= time.monotonic() - begun < LATEST


def test_host_whose_last_address_answers() -> None:
    """The others, which refuse at once, cost it nothing; its connection waits as it should."""
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        refused = _place(refusing)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        places = [*[refused] * 100, _place(listener)]
        with first_connection(places, 3.0, time.monotonic() + 30) as sock:
            assert listener.getsockname() == sock.getpeername()
            assert 3.0 == sock.gettimeout()
