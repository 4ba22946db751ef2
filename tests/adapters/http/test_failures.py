"""Exchanges over HTTP that fail, never end, or pass through a proxy."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from certferry.adapters.http.bounds import CHUNK, Place, first_connection
from certferry.adapters.http.exchange import LONGEST_ANSWER, Contact, HttpFailure, Request, Timeouts
from certferry.adapters.http.http_client import HttpClient, Pacer
from certferry.ports.adapter import Answer
from certferry_sandbox import httpd
from certferry_sandbox.faults import Fault
from tests.adapters.http.calls import SECRET, get, post, unused_port
from tests.adapters.http.peers import CONNECTED, Treat, endless, peer, read_request, tunnel
from tests.adapters.recorded_pauses import RecordedPauses

# --- Failed requests and their reports


def _failure(client: HttpClient, url: str, *, repeatable: bool = True) -> HttpFailure:
    with pytest.raises(HttpFailure) as caught:
        client.exchange(post(url), repeatable=repeatable)
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.problem!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


def test_refused_connection(client: HttpClient, waits: RecordedPauses) -> None:
    """The server did nothing, so even an upload is repeated before the client gives up."""
    host = f"127.0.0.1:{unused_port()}"

    failure = _failure(client, f"http://{host}/", repeatable=False)

    assert f"cannot connect to {host}: Connection refused" == str(failure.problem)
    assert not failure.maybe_done
    assert 3 == len(waits.seconds)


def test_unknown_host_name(client: HttpClient) -> None:
    """The message names the host."""
    failure = _failure(client, "http://qiniu.invalid/", repeatable=False)

    assert "qiniu.invalid is not in DNS" == str(failure.problem)
    assert not failure.maybe_done


def test_missing_answer(short_timeout_client: HttpClient, service: httpd.HttpService) -> None:
    """The server may have done the work, so the request is sent once."""
    service.faults.add(Fault.delay(10), times=None)

    failure = _failure(short_timeout_client, service.url, repeatable=False)

    host = service.url.removeprefix("http://")
    assert f"{host} did not answer within 0 seconds" == str(failure.problem)
    assert failure.maybe_done
    assert 1 == len(service.requests())


def test_reset_connection(client: HttpClient, service: httpd.HttpService) -> None:
    """The message says which side closed the connection."""
    service.faults.add(Fault.reset_before(), times=None)

    failure = _failure(client, service.url)

    assert str(failure.problem).endswith("closed the connection without an answer")


def test_truncated_answer(client: HttpClient, service: httpd.HttpService) -> None:
    """A body shorter than announced is an error."""
    service.faults.add(Fault.truncated(), times=None)

    failure = _failure(client, service.url)

    assert str(failure.problem).endswith("ended early")


def test_endless_answer(client: HttpClient, waits: RecordedPauses) -> None:
    """The client reads up to the longest allowed answer, and sends the request once."""

    def flood(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            connection.sendall(bytes(CHUNK))

    with peer(flood) as host, pytest.raises(HttpFailure, match="is too long") as caught:
        client.exchange(get(f"http://{host}/"), repeatable=True)

    assert caught.value.maybe_done
    assert [] == waits.seconds


def test_answer_of_the_greatest_size(client: HttpClient) -> None:
    """Every byte of an answer of the greatest allowed size is returned."""
    body = bytes(range(256)) * (LONGEST_ANSWER // 256)
    with httpd.HttpService(lambda _: httpd.Response(body=body)) as service:
        answer = client.exchange(get(service.url + "/"), repeatable=True)

    assert body == answer.body


@pytest.mark.parametrize(
    ("status", "temporary"), [(200, True), (404, False), (408, True), (502, True)]
)
def test_web_page_instead_of_an_answer(
    status: int, temporary: object, client: HttpClient, service: httpd.HttpService
) -> None:
    """A gateway's page is reported with its status, and a refusing page ends the attempts."""
    service.faults.add(Fault.html(status), times=None)

    failure = _failure(client, service.url)

    assert str(failure.problem).endswith(f"answered with a web page (status {status})")
    assert temporary is failure.maybe_done
    assert temporary is (len(service.requests()) > 1)


def test_answer_in_another_protocol(client: HttpClient) -> None:
    """Another protocol uses the port."""

    def greet(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"220 mail.example.com ESMTP\r\n")

    with peer(greet) as host:
        failure = _failure(client, f"http://{host}/")

    assert f"{host} did not answer with HTTP" == str(failure.problem)


def test_body_that_contradicts_its_encoding(client: HttpClient) -> None:
    """The body claims gzip and contains other bytes."""

    def claim_gzip(connection: socket.socket) -> None:
        read_request(connection)
        # The peer hangs up afterwards and says so, so that the next attempt opens a new connection.
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
            b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
        )

    with peer(claim_gzip) as host:
        failure = _failure(client, f"http://{host}/")

    assert str(failure.problem).endswith("not answer with HTTP")


def test_untrusted_certificate(client: HttpClient, waits: RecordedPauses) -> None:
    """A repetition would meet the same certificate, so the request is sent once."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def shake_hands(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with peer(shake_hands) as host:
        failure = _failure(client, f"https://{host}/")

    assert str(failure.problem).startswith(f"the certificate of {host} is not trusted: unable to")
    assert not failure.maybe_done
    assert [] == waits.seconds


def test_port_without_tls(client: HttpClient) -> None:
    """The URL says HTTPS, and the port speaks plain HTTP."""

    def answer_plainly(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with peer(answer_plainly) as host:
        failure = _failure(client, f"https://{host}/")

    assert str(failure.problem).startswith(f"no secure connection to {host}: ")


def test_unreachable_proxy(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy is used, and the error names the proxy."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")

    failure = _failure(client, "http://api.example.com/")

    assert "cannot reach api.example.com through the proxy: Connection refused" == str(
        failure.problem
    )
    assert not failure.maybe_done


@pytest.mark.parametrize("url", ["http://[::1/", "no-scheme"])
def test_malformed_url(url: str, client: HttpClient, waits: RecordedPauses) -> None:
    """A malformed URL is tried once."""
    failure = _failure(client, url)

    assert not failure.maybe_done
    assert [] == waits.seconds


def test_errors_hide_a_malformed_secret(client: HttpClient) -> None:
    """The library quotes the value of a malformed header; certferry hides the value."""
    request = Request("GET", "http://127.0.0.1:1/", {"Authorization": f"{SECRET}\nX: y"})

    with pytest.raises(HttpFailure) as caught:
        client.exchange(lambda: request, repeatable=True)

    assert "the request to 127.0.0.1:1 cannot be written" == str(caught.value)


def test_requests_and_answers_hide_headers_and_bodies() -> None:
    """A repr contains neither headers nor bodies."""
    request = Request("POST", "https://example.com/", {"Authorization": SECRET}, SECRET.encode())
    answer = Answer(200, {"Set-Cookie": SECRET}, SECRET.encode())

    assert SECRET not in f"{request!r} {answer!r}"


# --- Servers that never stop sending, over real sockets: each exchange ends


WHOLE = timedelta(seconds=0.5)
LATEST = 5.0  # seconds, with room for a busy machine; the answers themselves are endless
TIMEOUTS = Timeouts(connect=timedelta(seconds=5), read=timedelta(seconds=5), whole=WHOLE)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
NOTHING = gzip.compress(b"")
"""At least ten bytes that decompress to nothing, repeated forever."""

ENDLESS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "a header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunk extension": (CHUNKED + b"\r\n1;", b"x"),
    "trailers": (CHUNKED + b"\r\n0\r\n", b"X-A: b\r\n"),
    "compressed nothing": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", NOTHING),
}


@pytest.fixture
def short_client(waits: RecordedPauses) -> HttpClient:
    """Return a client with half a second for each exchange, and a longer read timeout."""
    return HttpClient(pace=Pacer(1000, pause=waits), pause=waits, timeouts=TIMEOUTS)


def _given_up(client: HttpClient, url: str) -> HttpFailure:
    started = time.monotonic()
    with pytest.raises(HttpFailure) as caught:
        client.exchange(lambda: Request("GET", url), repeatable=True)
    assert time.monotonic() - started < LATEST
    return caught.value


@pytest.mark.parametrize("part", ENDLESS)
def test_answer_byte_by_byte(part: str, short_client: HttpClient, waits: RecordedPauses) -> None:
    """Every byte arrives in time and the answer never ends: the client gives up once."""
    with peer(endless(*ENDLESS[part])) as host:
        failure = _given_up(short_client, f"http://{host}/")

    assert f"the answer of {host} was not complete within 0 seconds" == str(failure)
    assert (True, Contact.SILENCE) == (failure.maybe_done, failure.contact)
    assert [] == waits.seconds


def test_answer_byte_by_byte_within_tls(
    short_client: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline belongs to the connection, with or without TLS."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    answer = endless(*ENDLESS["a header"])

    def within_tls(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            answer(secured)

    with peer(within_tls) as host:
        failure = _given_up(short_client, f"https://{host}/")

    assert "not complete within" in str(failure)


def test_proxy_that_answers_byte_by_byte(
    short_client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to CONNECT is part of the exchange."""
    with peer(endless(*ENDLESS["headers"])) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{host}")
        failure = _given_up(short_client, "https://api.example.com/")

    assert "not complete within" in str(failure)


def test_endless_handshake(waits: RecordedPauses) -> None:
    """A server that accepts a connection and stays silent is limited by the connect timeout."""
    ended = threading.Event()
    timeouts = Timeouts(connect=WHOLE, read=timedelta(seconds=60))
    client = HttpClient(pace=Pacer(1000, pause=waits), pause=waits, timeouts=timeouts, attempts=1)

    def say_nothing(_: socket.socket) -> None:
        ended.wait(60)

    with peer(say_nothing) as host:
        failure = _given_up(client, f"https://{host}/")
        ended.set()

    assert host in str(failure)


def test_endless_trailers(waits: RecordedPauses) -> None:
    """The limit on the size counts trailers too."""
    trailer = b"X-A: " + b"b" * (CHUNK - 100) + b"\r\n"

    def flood(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(CHUNKED + b"\r\n0\r\n")
        while True:
            connection.sendall(trailer)

    client = HttpClient(pace=Pacer(1000, pause=waits), pause=waits)
    with peer(flood) as host, pytest.raises(HttpFailure, match="is too long"):
        client.exchange(lambda: Request("GET", f"http://{host}/"), repeatable=True)

    assert [] == waits.seconds


def test_deadline_needs_no_thread(short_client: HttpClient) -> None:
    """An exchange ends by its own reads, without a watching thread."""
    others: list[list[threading.Thread]] = []
    before = threading.enumerate()

    def look(connection: socket.socket) -> None:
        read_request(connection)
        others.append([t for t in threading.enumerate() if t not in (*before, here())])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    here = threading.current_thread  # the thread of the peer
    with peer(look) as host:
        short_client.exchange(lambda: Request("GET", f"http://{host}/"), repeatable=False)

    assert [] == others[0]


def test_reused_connection_has_a_new_deadline(short_client: HttpClient) -> None:
    """The second exchange on the same connection has its full time."""
    late = threading.Event()  # never set: a wait for this event is the delay
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    def twice(connection: socket.socket) -> None:
        for delay in (0.3, 0.3):
            read_request(connection)
            late.wait(delay)
            connection.sendall(ok)

    with peer(twice) as host:
        answers = [
            short_client.exchange(lambda: Request("GET", f"http://{host}/"), repeatable=False)
            for _ in range(2)
        ]

    assert [b"ok", b"ok"] == [answer.body for answer in answers]


def _place(listener: socket.socket) -> Place:
    return socket.AF_INET, socket.SOCK_STREAM, 0, "", listener.getsockname()


def test_host_with_many_silent_addresses() -> None:
    """All addresses together have the time of the exchange, and each address has its own limit."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as waiting:
        # Linux drops connections while the queue is full (listen(2)), and leaves the client
        # Linux drops connections while the queue is full (listen(2)): the client gets no answer.
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(listener.getsockname())
        started = time.monotonic()

        with pytest.raises(TimeoutError):
            first_connection([_place(listener)] * 400, 0.1, started + WHOLE.total_seconds())

    assert WHOLE.total_seconds() <= time.monotonic() - started < LATEST


def test_host_whose_last_address_answers() -> None:
    """The refusing addresses cost no time, and the connection has its usual timeout."""
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        refused = _place(refusing)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        places = [*[refused] * 100, _place(listener)]
        with first_connection(places, 3.0, time.monotonic() + 30) as sock:
            assert listener.getsockname() == sock.getpeername()
            assert 3.0 == sock.gettimeout()


# --- Proxies of companies, over real sockets


@pytest.fixture
def server_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return the TLS context of a local server that the environment's bundle trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def service_in_tls(server_side: ssl.SSLContext) -> Iterator[httpd.HttpService]:
    with httpd.HttpService(
        lambda request: httpd.Response.json({"path": request.path}), tls=server_side
    ) as running:
        yield running


def client(waits: RecordedPauses, whole: timedelta = timedelta(seconds=30)) -> HttpClient:
    """Return a client whose read timeout may exceed the time of the exchange."""
    five = timedelta(seconds=5)
    timeouts = Timeouts(connect=five, read=five, whole=whole)
    return HttpClient(pace=Pacer(1000, pause=waits), pause=waits, timeouts=timeouts)


def within_tls(context: ssl.SSLContext, treat: Treat) -> Treat:
    def secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inside:
            treat(inside)

    return secured


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_http_proxy_and_https_proxy(
    scheme: str,
    service_in_tls: httpd.HttpService,
    server_side: ssl.SSLContext,
    waits: RecordedPauses,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer comes from the service, over TLS between client and service."""
    treatments: dict[str, Callable[[], Treat]] = {
        "http": lambda: tunnel,
        "https": lambda: within_tls(server_side, tunnel),
    }
    with peer(treatments[scheme]()) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{host}")
        request = Request("GET", f"{service_in_tls.url}/x", {"Connection": "close"})
        answer = client(waits).exchange(lambda: request, repeatable=False)

    assert b'{"path":"/x"}' == answer.body


def test_https_proxy_that_sends_byte_by_byte(
    server_side: ssl.SSLContext, waits: RecordedPauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake with the service through the proxy is part of the exchange."""
    never = threading.Event()  # never set: a wait for this event is the time between two bytes

    def endless_record(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(CONNECTED)
        connection.recv(1)  # the client's hello
        # The header of a handshake record of 16383 bytes (RFC 8446 §5.1).
        connection.sendall(b"\x16\x03\x03\x3f\xff")
        while not never.wait(0.02):
            connection.sendall(b"x")

    started = time.monotonic()
    with peer(within_tls(server_side, endless_record)) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"https://{host}")
        with pytest.raises(HttpFailure, match="not complete within"):
            client(waits, timedelta(seconds=0.5)).exchange(
                lambda: Request("GET", "https://api.example.com/"), repeatable=True
            )

    assert time.monotonic() - started < LATEST
    assert [] == waits.seconds


@pytest.mark.parametrize("proxy", ["socks5h://127.0.0.1:9", "SOCKS5://127.0.0.1:9", "ftp://p"])
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_proxy_of_an_unsupported_kind(
    variable: str, proxy: str, waits: RecordedPauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the right form of the setting; the client makes a single attempt."""
    monkeypatch.setenv(variable, proxy)

    with pytest.raises(HttpFailure, match=r"cannot connect to api\.example\.com") as failure:
        client(waits).exchange(lambda: Request("GET", "https://api.example.com/"), repeatable=True)

    assert "set HTTPS_PROXY to the proxy's http:// address" in str(failure.value)
    assert not failure.value.maybe_done
    assert [] == waits.seconds
