"""Exchanges over HTTP that fail, never end, or go through a proxy."""

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

# --- Requests of the HTTP client that fail, and what is reported about them


# --- what is said ---------------------------------------------------------------------------


def _failure(client: HttpClient, url: str, *, repeatable: bool = True) -> HttpFailure:
    with pytest.raises(HttpFailure) as caught:
        client.exchange(post(url), repeatable=repeatable)
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.problem!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


def test_a_refused_connection(client: HttpClient, waits: RecordedPauses) -> None:
    """Nothing was done, so even an upload is tried again before it is given up."""
    host = f"127.0.0.1:{unused_port()}"

    failure = _failure(client, f"http://{host}/", repeatable=False)

    assert f"cannot connect to {host}: Connection refused" == str(failure.problem)
    assert not failure.maybe_done
    assert 3 == len(waits.seconds)


def test_a_name_that_does_not_exist(client: HttpClient) -> None:
    """The sentence names the name."""
    failure = _failure(client, "http://qiniu.invalid/", repeatable=False)

    assert "qiniu.invalid is not in DNS" == str(failure.problem)
    assert not failure.maybe_done


def test_an_answer_that_does_not_come(impatient: HttpClient, service: httpd.HttpService) -> None:
    """The read timeout is bounded and reported, and the request not repeated: it may be done."""
    service.faults.add(Fault.delay(10), times=None)

    failure = _failure(impatient, service.url, repeatable=False)

    host = service.url.removeprefix("http://")
    assert f"{host} did not answer within 0 seconds" == str(failure.problem)
    assert failure.maybe_done
    assert 1 == len(service.requests())


def test_a_connection_that_is_reset(client: HttpClient, service: httpd.HttpService) -> None:
    """The sentence says who closed."""
    service.faults.add(Fault.reset_before(), times=None)

    failure = _failure(client, service.url)

    assert str(failure.problem).endswith("closed the connection without an answer")


def test_half_an_answer(client: HttpClient, service: httpd.HttpService) -> None:
    """A body shorter than announced is no answer."""
    service.faults.add(Fault.truncated(), times=None)

    failure = _failure(client, service.url)

    assert str(failure.problem).endswith("ended early")


def test_an_answer_without_an_end(client: HttpClient, waits: RecordedPauses) -> None:
    """Read up to a size that no answer should have, and not asked for again."""

    def flood(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            connection.sendall(bytes(CHUNK))

    with peer(flood) as host, pytest.raises(HttpFailure, match="is too long") as caught:
        client.exchange(get(f"http://{host}/"), repeatable=True)

    assert caught.value.maybe_done
    assert [] == waits.seconds


def test_a_long_answer(client: HttpClient) -> None:
    """Of the greatest size that is taken: every byte is given."""
    body = bytes(range(256)) * (LONGEST_ANSWER // 256)
    with httpd.HttpService(lambda _: httpd.Response(body=body)) as service:
        answer = client.exchange(get(service.url + "/"), repeatable=True)

    assert body == answer.body


@pytest.mark.parametrize(
    ("status", "passing"), [(200, True), (404, False), (408, True), (502, True)]
)
def test_a_web_page_is_no_answer(
    status: int, passing: object, client: HttpClient, service: httpd.HttpService
) -> None:
    """A gateway's page is reported with its status; a refusing one is not asked again."""
    service.faults.add(Fault.html(status), times=None)

    failure = _failure(client, service.url)

    assert str(failure.problem).endswith(f"answered with a web page (status {status})")
    assert passing is failure.maybe_done
    assert passing is (len(service.requests()) > 1)


def test_something_that_is_not_http(client: HttpClient) -> None:
    """Another protocol on the port."""

    def greet(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"220 mail.example.com ESMTP\r\n")

    with peer(greet) as host:
        failure = _failure(client, f"http://{host}/")

    assert f"{host} did not answer with HTTP" == str(failure.problem)


def test_a_broken_encoding(client: HttpClient) -> None:
    """A body that is not what its encoding says."""

    def claim_gzip(connection: socket.socket) -> None:
        read_request(connection)
        # It hangs up after that, and says so: who asks again must not do so on this connection.
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
            b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
        )

    with peer(claim_gzip) as host:
        failure = _failure(client, f"http://{host}/")

    assert str(failure.problem).endswith("not answer with HTTP")


def test_a_certificate_that_is_not_trusted(client: HttpClient, waits: RecordedPauses) -> None:
    """An untrusted server is not asked again: that would not make it trusted."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def shake_hands(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with peer(shake_hands) as host:
        failure = _failure(client, f"https://{host}/")

    assert str(failure.problem).startswith(f"the certificate of {host} is not trusted: unable to")
    assert not failure.maybe_done
    assert [] == waits.seconds


def test_a_port_that_speaks_no_tls(client: HttpClient) -> None:
    """HTTPS to a plain port."""

    def answer_plainly(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with peer(answer_plainly) as host:
        failure = _failure(client, f"https://{host}/")

    assert str(failure.problem).startswith(f"no secure connection to {host}: ")


def test_a_proxy_that_is_not_there(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy is used, and named as the culprit."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")

    failure = _failure(client, "http://api.example.com/")

    assert "cannot reach api.example.com through the proxy: Connection refused" == str(
        failure.problem
    )
    assert not failure.maybe_done


@pytest.mark.parametrize("url", ["http://[::1/", "no-scheme"])
def test_an_address_that_cannot_be_written(
    url: str, client: HttpClient, waits: RecordedPauses
) -> None:
    """A malformed address is not tried twice."""
    failure = _failure(client, url)

    assert not failure.maybe_done
    assert [] == waits.seconds


def test_a_secret_that_cannot_be_written_is_not_shown(client: HttpClient) -> None:
    """The library quotes a bad header's value; we do not."""
    request = Request("GET", "http://127.0.0.1:1/", {"Authorization": f"{SECRET}\nX: y"})

    with pytest.raises(HttpFailure) as caught:
        client.exchange(lambda: request, repeatable=True)

    assert "the request to 127.0.0.1:1 cannot be written" == str(caught.value)


def test_requests_and_answers_do_not_print_what_they_carry() -> None:
    """Neither headers nor bodies are in a repr."""
    request = Request("POST", "https://example.com/", {"Authorization": SECRET}, SECRET.encode())
    answer = Answer(200, {"Set-Cookie": SECRET}, SECRET.encode())

    assert SECRET not in f"{request!r} {answer!r}"


# --- Servers that never stop talking, over real sockets: each exchange ends all the same


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
def hurried(waits: RecordedPauses) -> HttpClient:
    """Return a client whose exchanges last half a second, and whose reads might last longer."""
    return HttpClient(pace=Pacer(1000, pause=waits), pause=waits, timeouts=TIMEOUTS)


def _given_up(client: HttpClient, url: str) -> HttpFailure:
    begun = time.monotonic()
    with pytest.raises(HttpFailure) as caught:
        client.exchange(lambda: Request("GET", url), repeatable=True)
    assert time.monotonic() - begun < LATEST
    return caught.value


@pytest.mark.parametrize("way", DRIPS)
def test_answer_that_drips(way: str, hurried: HttpClient, waits: RecordedPauses) -> None:
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


def test_handshake_that_does_not_end(waits: RecordedPauses) -> None:
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


def test_flood_without_a_body(waits: RecordedPauses) -> None:
    """What is no body has a size, too."""
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


# --- Ways through a company's proxy, over real sockets: which work, and that each of them ends


@pytest.fixture
def server_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return the TLS of a server on this machine that the environment's bundle trusts."""
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
    """Return a client whose reads might last longer than the exchange."""
    five = timedelta(seconds=5)
    timeouts = Timeouts(connect=five, read=five, whole=whole)
    return HttpClient(pace=Pacer(1000, pause=waits), pause=waits, timeouts=timeouts)


def within_tls(context: ssl.SSLContext, treat: Treat) -> Treat:
    def secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inside:
            treat(inside)

    return secured


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_is_usual_in_companies(
    scheme: str,
    service_in_tls: httpd.HttpService,
    server_side: ssl.SSLContext,
    waits: RecordedPauses,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What goes through it is the service's answer, by TLS to the service."""
    ways: dict[str, Callable[[], Treat]] = {
        "http": lambda: tunnel,
        "https": lambda: within_tls(server_side, tunnel),
    }
    with peer(ways[scheme]()) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{host}")
        request = Request("GET", f"{service_in_tls.url}/x", {"Connection": "close"})
        answer = client(waits).exchange(lambda: request, repeatable=False)

    assert b'{"path":"/x"}' == answer.body


def test_proxy_with_tls_that_drips(
    server_side: ssl.SSLContext, waits: RecordedPauses, monkeypatch: pytest.MonkeyPatch
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
    variable: str, proxy: str, waits: RecordedPauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported as that, once, with what to write in its place; nothing was sent."""
    monkeypatch.setenv(variable, proxy)

    with pytest.raises(HttpFailure, match=r"cannot connect to api\.example\.com") as failure:
        client(waits).exchange(lambda: Request("GET", "https://api.example.com/"), repeatable=True)

    assert "set HTTPS_PROXY to the proxy's http:// address" in str(failure.value)
    assert not failure.value.maybe_done
    assert [] == waits.seconds
