"""Limits for strangers: large, many and slow requests over raw sockets, while a person is served
beside them.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from certferry.console.server import LARGEST_BODY, MOST_CONNECTIONS, HttpServer
from tests.support.ports import HOST
from tests.support.tiers import long

Address = tuple[str, int]


async def _count(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _host(request: Request) -> Response:
    return PlainTextResponse(f"{request.headers['host']} {request.url.query}")


async def _stream(_: Request) -> Response:
    async def goes_on() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(1)

    return StreamingResponse(goes_on())


@contextmanager
def _serving() -> Iterator[Address]:
    with closing(socket.create_server((HOST, 0), backlog=512)) as listening:
        server = HttpServer(
            Starlette(
                routes=[
                    Route("/", _count, methods=["GET", "POST"]),
                    Route("/host", _host),
                    Route("/stream", _stream),
                ]
            ),
            [listening],
        )
        server.start()
        yield listening.getsockname()
        server.stop(timedelta(seconds=10))
        assert not server.is_alive


@pytest.fixture
def address() -> Iterator[Address]:
    with _serving() as served:
        yield served


@pytest.mark.parametrize(
    ("accepted", "has_english", "has_chinese"),
    [(b"zh-CN,en;q=0.5", False, True), (b"en", True, False), (None, True, True)],
)
def test_refusal_is_in_the_language_of_the_browser(
    address: Address, accepted: bytes | None, *, has_english: bool, has_chinese: bool
) -> None:
    """The refusal has the fix, and both languages if the browser names none."""
    named = [] if accepted is None else [b"Accept-Language: " + accepted]
    refusal = _answer(address, _get(*named, *[b"A: b"] * 200)).decode()

    assert refusal.startswith("HTTP/1.1 431")
    assert has_english is ("delete this site's cookies" in refusal)
    assert has_chinese is ("请删除本站的 Cookie" in refusal)


def _a_person_is_served(address: Address) -> None:
    answer = requests.post(f"http://{address[0]}:{address[1]}/", data=b"12345", timeout=5)
    assert (answer.status_code, answer.text) == (200, "5")


def _answer(address: Address, *parts: bytes) -> bytes:
    """Send all parts, then read to the end."""
    with socket.create_connection(address, 10) as client:
        for part in parts:
            client.sendall(part)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def _get(*headers: bytes) -> bytes:
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: x", *headers, b"Connection: close", b"\r\n"])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (_get(*[b"A: b"] * 98), b"200"),
        (_get(*[b"A: b"] * 99), b"431"),
        (_get(*[b"A: b"] * 10_000), b"431"),
        (_get(b"A: " + b"b" * 16_000), b"200"),
        (_get(b"A: " + b"b" * 17_000), b"431"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 200_000, b"431"),
        (b"GET /" + b"b" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
        (b"no HTTP at all\r\n\r\n", b"400"),
        (_get(b"Content-Length: " + b"9" * 5000), b"4"),
    ],
)
def test_too_many_headers_are_refused_with_the_reason(
    address: Address, request_: bytes, status: bytes
) -> None:
    """The client reads the status, even after sending far too much. Another client is served."""
    assert _answer(address, request_).startswith(b"HTTP/1.1 " + status)
    _a_person_is_served(address)


@pytest.mark.parametrize("size", [LARGEST_BODY + 1, 100_000_000])
def test_large_body_is_refused_by_its_length(address: Address, size: int) -> None:
    """The declared length is enough for the refusal."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size

    with socket.create_connection(address, 10) as client:
        client.sendall(head + b"x" * 100_000)
        assert client.recv(65536).startswith(b"HTTP/1.1 413")
    _a_person_is_served(address)


def test_large_body_of_unknown_length_is_refused(address: Address) -> None:
    """The client reads the refusal, even while sending."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

    assert _answer(address, head, *[chunk] * 64, b"0\r\n\r\n").startswith(b"HTTP/1.1 413")
    _a_person_is_served(address)


def test_body_of_the_largest_size_is_accepted(address: Address) -> None:
    """A body of exactly the limit is accepted."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"

    answer = _answer(address, head % LARGEST_BODY, b"x" * LARGEST_BODY)

    assert answer.endswith(b"\r\n%d" % LARGEST_BODY)


def test_body_with_two_lengths_is_refused(address: Address) -> None:
    """A proxy before the console could read the same bytes as other requests (RFC 9112 §6.1)."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = _answer(address, head + b"0\r\n\r\nGET /host HTTP/1.1\r\nHost: smuggled\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"connection: close" in answer
    assert b"smuggled" not in answer


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        (b"http://ops.example.com:8080/host?a=1", b"ops.example.com:8080 a=1"),
        (b"HTTPS://ops.example.com/host", b"ops.example.com "),
        (b"/host?a=http://x/y", b"x a=http://x/y"),
    ],
)
def test_target_with_a_host(address: Address, target: bytes, seen: bytes) -> None:
    """The host in the target takes the place of the header (RFC 9112 §3.2.2)."""
    answer = _answer(
        address, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n" + seen)


@pytest.mark.parametrize("query", [b"", b"?a=1"])
def test_target_without_a_path(address: Address, query: bytes) -> None:
    """A target with an empty path leads to the first page."""
    head = b"GET http://x" + query + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    assert _answer(address, head).startswith(b"HTTP/1.1 200")


@long
def test_slow_request_is_closed(address: Address) -> None:
    """A connection is closed after 10 to 15 seconds in the headers, in the body, before the first
    byte, and in the next request, despite single bytes meanwhile. An idle connection after an
    answer stays open.
    """
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
    served = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    starts = [b"", b"GET / HTTP/1.1\r\nX", body, served + b"G"]
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, 10)) for _ in starts]
        kept = stack.enter_context(socket.create_connection(address, 10))
        kept.sendall(served)
        for client, start in zip(clients, starts, strict=True):
            client.sendall(start)
        ended: dict[int, float] = {}
        begun = time.monotonic()
        while len(ended) < len(clients) and time.monotonic() - begun < 20:
            time.sleep(0.2)
            for number, client in enumerate(clients):
                if number not in ended and not _is_open(client, drips=bool(starts[number])):
                    ended[number] = time.monotonic() - begun

        assert sorted(ended) == [0, 1, 2, 3]
        assert all(9 < after < 16 for after in ended.values()), ended
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        kept.sendall(served)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")


def _is_open(client: socket.socket, *, drips: bool) -> bool:
    """Read all answers so far, send a byte if `drips`, and return whether the connection is
    open.
    """
    client.settimeout(0.001)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        pass
    except OSError:
        return False
    else:
        return False
    try:
        if drips:
            client.sendall(b"x")
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET / HTTP/1.1\r\nX",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_person_is_served_beside_500_connections(address: Address, start: bytes) -> None:
    """The server closes the connections with the longest wait, and keeps at most 300."""
    with ExitStack() as stack:
        clients = []
        for _ in range(500):
            client = stack.enter_context(socket.create_connection(address, 10))
            client.sendall(start)
            clients.append(client)
        _a_person_is_served(address)

        held = sum(_is_open(client, drips=False) for client in clients)
        assert held <= MOST_CONNECTIONS
        _a_person_is_served(address)


def test_person_is_served_beside_endless_streams(address: Address) -> None:
    """If every connection is a stream, the server closes the oldest stream."""
    with ExitStack() as stack:
        streams = []
        for _ in range(MOST_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(address, 10))
            client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            streams.append(client)
        _a_person_is_served(address)
        _a_person_is_served(address)

        assert not _is_open(streams[0], drips=False)
        assert _is_open(streams[-1], drips=False)
