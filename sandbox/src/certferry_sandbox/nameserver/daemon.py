"""The sockets of the name servers: DNS over UDP, TCP and HTTPS.

`DnsDaemon` listens on several loopback addresses and one port, in one background thread.
`HttpsDns` answers questions by POST (RFC 8484).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from http import HTTPStatus
from typing import Any, Self, cast

from certferry_sandbox.httpd import HttpService, Request, Response

# A burst of lookups must wait in the kernel while other threads hold the interpreter.
RECEIVE_BUFFER = 1 << 20
ATTEMPTS_AT_A_COMMON_PORT = 50
LENGTH_PREFIX = 2  # bytes before each message on TCP (RFC 1035 §4.2.2)


class Transport(Enum):
    """The transport of a query."""

    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True)
class Reply:
    """A message, and the seconds to wait before sending the message."""

    wire: bytes
    after: float = 0.0


Handler = Callable[[bytes, Transport], Reply | None]
"""Query in bytes → reply, or None for silence. The background thread calls the handler."""


@dataclass(frozen=True)
class _Running:
    port: int
    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event
    thread: threading.Thread


class DnsDaemon:
    """Listens on every address of `handlers`, over UDP and TCP, on the same port.

    With port 0, `start` chooses a port that is free on all addresses.
    """

    def __init__(self, handlers: Mapping[str, Handler], *, port: int = 0) -> None:
        self._handlers = dict(handlers)
        self._wanted = port
        self._running: _Running | None = None

    @property
    def port(self) -> int:
        """The port of all addresses. Raises RuntimeError while the daemon is stopped."""
        if self._running is None:
            raise RuntimeError("the name servers are not running")
        return self._running.port

    def start(self) -> Self:
        """Listen. Raises OSError if the wanted port is taken on an address."""
        sockets = _bind_all(list(self._handlers), self._wanted)
        loop, stopping = asyncio.new_event_loop(), asyncio.Event()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(_serve(sockets, self._handlers, stopping))

        thread = threading.Thread(target=run, name="dns", daemon=True)
        self._running = _Running(sockets[0].port, loop, stopping, thread)
        thread.start()
        return self

    def stop(self) -> None:
        """Stop listening; a second call does nothing."""
        if self._running is not None:
            self._running.loop.call_soon_threadsafe(self._running.stopping.set)
            self._running.thread.join()
            self._running = None


@dataclass(frozen=True)
class _Sockets:
    """The UDP and the TCP socket of an address."""

    address: str
    port: int
    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


def _bind_all(addresses: list[str], wanted: int) -> list[_Sockets]:
    attempts = 1 if wanted else ATTEMPTS_AT_A_COMMON_PORT
    while True:
        attempts -= 1
        bound: list[_Sockets] = []
        try:
            for address in addresses:
                bound.append(_bind(address, bound[0].port if bound else wanted))
            return bound
        except OSError as problem:
            for sockets in bound:
                sockets.close()
            if problem.errno != errno.EADDRINUSE or not attempts:
                raise


def _bind(address: str, port: int) -> _Sockets:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    tcp = socket.socket(family, socket.SOCK_STREAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        udp.bind((address, port))
        port = udp.getsockname()[1]
        # Old connections of a stopped server would otherwise block a fixed port.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((address, port))
        tcp.listen()
    except OSError:
        udp.close()
        tcp.close()
        raise
    udp.settimeout(0)
    tcp.settimeout(0)
    return _Sockets(address, port, udp, tcp)


async def _serve(
    bound: list[_Sockets], handlers: Mapping[str, Handler], stopping: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        for sockets in bound:
            handler = handlers[sockets.address]
            transport, _ = await loop.create_datagram_endpoint(
                partial(_Datagrams, handler), sock=sockets.udp
            )
            stack.callback(transport.close)
            server = await asyncio.start_server(partial(_stream, handler), sock=sockets.tcp)
            stack.callback(server.close)
        await stopping.wait()


class _Datagrams(asyncio.DatagramProtocol):
    """The UDP side of an address."""

    _transport: asyncio.DatagramTransport

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        reply = self._handler(data, Transport.UDP)
        if reply is None:
            return
        if reply.after:
            loop = asyncio.get_running_loop()
            loop.call_later(reply.after, self._transport.sendto, reply.wire, addr)
        else:
            self._transport.sendto(reply.wire, addr)


async def _stream(
    handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve a TCP connection until the client hangs up."""
    with contextlib.closing(writer), contextlib.suppress(EOFError, ConnectionError):
        while True:
            length = int.from_bytes(await reader.readexactly(LENGTH_PREFIX))
            reply = handler(await reader.readexactly(length), Transport.TCP)
            if reply is None:
                continue
            await asyncio.sleep(reply.after)
            writer.write(len(reply.wire).to_bytes(LENGTH_PREFIX) + reply.wire)
            await writer.drain()


MESSAGE = "application/dns-message"
PATH = "/dns-query"
_ID = slice(0, 2)  # bytes of a message's id (RFC 1035 §4.1.1)


class HttpsDns(HttpService):
    """A server that passes questions on to a resolver. `tls` is the server's TLS context.

    A question must have the id 0, and a client must send an Accept header for messages. RFC 8484
    §4.1 has both rules as SHOULD.
    """

    def __init__(self, resolver: Handler, tls: ssl.SSLContext, *, host: str = "127.0.0.1") -> None:
        self._resolver = resolver
        super().__init__(self._answer, host=host, tls=tls)

    @property
    def question_url(self) -> str:
        """The URL for questions."""
        return f"{self.url}{PATH}"

    def _answer(self, request: Request) -> Response:
        if request.path != PATH:
            return Response(HTTPStatus.NOT_FOUND)
        if request.method != "POST":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers=(("Allow", "POST"),))
        if request.headers.get("Content-Type") != MESSAGE:
            return Response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        if request.headers.get("Accept") != MESSAGE:
            return Response(HTTPStatus.NOT_ACCEPTABLE)
        if request.body[_ID] != bytes(2):
            return Response(HTTPStatus.BAD_REQUEST)
        reply = self._resolver(request.body, Transport.TCP)
        if reply is None:
            return Response(HTTPStatus.GATEWAY_TIMEOUT)
        return Response(HTTPStatus.OK, reply.wire, MESSAGE)
