"""A small HTTP/1.1 service for stand-ins, with raw requests, a journal, and faults on demand."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.faults import Fault, FaultKind, Faults

END_DEADLINE = 5.0  # seconds that end() gives the threads in charge to notice


class Connections:
    """The open connections of a server, which reports each beginning and end. Thread-safe."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()

    def opened(self, connection: socket.socket) -> None:
        """Note a connection."""
        with self._changed:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection, after it was closed."""
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()

    def end(self) -> None:
        """Hang up on every client and wait until the connections are closed."""
        with self._changed:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the client may have hung up first
                    # The TLS socket's own shutdown would destroy the state that a reader is using.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, END_DEADLINE)


class Headers(Mapping[str, str]):
    """Header fields in the order and spelling of the wire; lookups ignore the case."""

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self.fields = tuple(fields)
        self._by_name = {name.lower(): value for name, value in self.fields}

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(name for name, _ in self.fields)

    def __len__(self) -> int:
        return len(self.fields)


@dataclass(frozen=True)
class Request:
    """A request as sent: `path` and `query` are neither decoded nor normalized.

    The repr leaves out the body and the headers, which carry keys and tokens.
    """

    method: str
    path: str
    query: str = ""
    headers: Headers = field(default_factory=Headers, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def label(self) -> str:
        """The text "METHOD /path", compared with the patterns of faults and of the journal."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Call:
    """A journal entry. `status` is None without an answer, so far or because of a fault."""

    at: datetime
    request: Request
    status: int | None = None


class Journal:
    """Every exchange of one service, in the order of arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    def arrived(self, request: Request) -> int:
        """Note a request; the number is its entry."""
        with self._lock:
            self._calls.append(Call(datetime.now(UTC), request))
            return len(self._calls) - 1

    def answered(self, entry: int, status: int) -> None:
        """Complete an entry, before the answer leaves."""
        with self._lock:
            self._calls[entry] = replace(self._calls[entry], status=int(status))

    def calls(self) -> list[Call]:
        """A copy of the entries."""
        with self._lock:
            return list(self._calls)


log = logging.getLogger(__name__)

WRITING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
LINGER_ZERO = struct.pack("ii", 1, 0)  # closing then sends RST in place of FIN (socket(7))


def utc_now() -> datetime:
    """Return the real time."""
    return datetime.now(UTC)


def label_of(request: Request) -> str:
    """Return "METHOD /path"."""
    return request.label


@dataclass(frozen=True)
class Response:
    """An answer; Content-Length is added on the wire."""

    status: int = HTTPStatus.OK
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, obj: object, status: int = HTTPStatus.OK, **headers: str) -> Self:
        """An answer in JSON. Header names are written with underscores: `Retry_After="3"`."""
        body = json.dumps(obj, ensure_ascii=False, separators=(",", ":")).encode()
        fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        return cls(status, body, headers=fields)

    def with_header(self, name: str, value: str) -> Self:
        """The same answer with one more header field."""
        return replace(self, headers=(*self.headers, (name, value)))


class HttpService:
    """An HTTP service on loopback that runs `handler` in a thread per connection.

    With `tls`, a server's TLS context, the service speaks HTTPS. HEAD is answered by the handler,
    without the body.

    Each answer's Date is `clock`. `handler` must be thread-safe. A journal entry is complete
    before the client can read the answer. An exception of the handler is logged, and answered
    with 500. `label` returns the text that the patterns of faults are compared with.
    """

    def __init__(
        self,
        handler: Callable[[Request], Response],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], datetime] = utc_now,
        label: Callable[[Request], str] = label_of,
    ) -> None:
        self.faults = Faults()
        self._label = label
        self._clock = clock
        self._tls = tls
        self._handler = handler
        self._address = (host, port)
        self._journal = Journal()
        self._server: _Server | None = None

    def start(self) -> Self:
        """Listen. Raises OSError when the port is taken."""
        self._server = _Server(
            self._address,
            self._handler,
            self._journal,
            self.faults,
            self._tls,
            self._clock,
            self._label,
        )
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop listening and close every connection; a second call does nothing."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base URL without a trailing slash. Raises RuntimeError while the service is stopped."""
        if self._server is None:
            raise RuntimeError("the service is not running")
        host, port = self._server.bound
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @property
    def journal(self) -> list[Call]:
        """Every exchange so far, in the order of arrival."""
        return self._journal.calls()

    def requests(self, pattern: str = "*") -> list[Request]:
        """The requests so far whose "METHOD /path" matches the shell pattern."""
        return [c.request for c in self.journal if fnmatchcase(c.request.label, pattern)]

    def writes(self) -> list[Request]:
        """The requests so far that ask for a change: POST, PUT, PATCH and DELETE."""
        return [c.request for c in self.journal if c.request.method in WRITING_METHODS]


class _Exchange(BaseHTTPRequestHandler):
    """A connection: reads requests, takes faults, writes answers."""

    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "certferry-sandbox"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one segment

    def do_GET(self) -> None:
        """Serve one request of any method."""
        body = self._read_body()
        if body is None:
            return
        # http.server collapses leading slashes in self.path; signatures cover what was sent.
        path, _, query = self.requestline.split(" ")[1].partition("?")
        request = Request(self.command, path, query, Headers(self.headers.items()), body)
        entry = self.server.journal.arrived(request)
        self._answer(request, entry, self.server.faults.take(self.server.label(request)))

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _read_body(self) -> bytes | None:
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return None
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return None
        return body

    def _answer(self, request: Request, entry: int, fault: Fault | None) -> None:
        kind = fault.kind if fault else None
        if kind is FaultKind.RESET_BEFORE:
            self._reset()
            return
        response = self._work(request, fault)
        if kind is FaultKind.RESET_AFTER:
            self._reset()
            return
        self.server.journal.answered(entry, response.status)
        self._send(response, truncated=kind is FaultKind.TRUNCATE)

    def _work(self, request: Request, fault: Fault | None) -> Response:
        if fault and fault.kind is FaultKind.ANSWER:
            body = fault.quote(request.body) if fault.quote else fault.body
            return Response(fault.code, body, fault.content_type, fault.headers)
        if fault and fault.kind is FaultKind.DELAY:
            (fault.gate or self.server.stopping).wait(fault.seconds)
        try:
            return self.server.handler(request)
        except Exception as problem:  # the client gets 500, as from any broken service
            log.exception(Text("stand-in failed on {request}", request=request.label))
            return Response.json({"error": repr(problem)}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send(self, response: Response, *, truncated: bool) -> None:
        body = b"" if self.command == "HEAD" else response.body
        # Qiniu answers 612, which http.HTTPStatus does not know and needs no phrase.
        self.send_response(response.status, self.responses.get(response.status, ("",))[0])
        self.send_header("Content-Type", response.content_type)
        for name, value in response.headers:
            self.send_header(name, value)
        if truncated:
            self.close_connection = True
            self.send_header("Content-Length", str(max(len(response.body), 1)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
        else:
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self.close_connection = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the stand-in's time for the Date header, instead of the machine's time."""
        moment = self.server.clock().timestamp() if timestamp is None else timestamp
        return super().date_time_string(int(moment))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Log nothing: the journal is the log."""


class _Server(ThreadingHTTPServer):
    """The listening socket and the connections that came through it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        handler: Callable[[Request], Response],
        journal: Journal,
        faults: Faults,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], datetime] = utc_now,
        label: Callable[[Request], str] = label_of,
    ) -> None:
        self.handler = handler
        self.label = label
        self.clock = clock
        self.journal = journal
        self.faults = faults
        self.stopping = threading.Event()
        self._connections = Connections()
        self._accepting = threading.Thread(target=self._accept_until_stopped, daemon=True)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Exchange)
        if tls is not None:
            # The connection's own thread makes the handshake.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def bound(self) -> tuple[str, int]:
        host, port = self.server_address[:2]
        return str(host), port

    def server_bind(self) -> None:
        # HTTPServer would ask the resolver for this host's name, which can take seconds.
        socketserver.TCPServer.server_bind(self)

    def start(self) -> None:
        self._accepting.start()

    def stop(self) -> None:
        self.stopping.set()
        # Accepting blocks without polling, so a connection wakes it up; under load, one did not.
        while self._accepting.is_alive():
            with socket.create_connection(self.bound):
                self._accepting.join(1)
        self.server_close()
        self._connections.end()

    def _accept_until_stopped(self) -> None:
        while not self.stopping.is_set():
            self.handle_request()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.opened(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        if _will_reset(request):
            self.close_request(request)  # shutting down first would send FIN
        else:
            super().shutdown_request(request)
        self._connections.closed(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: clients may hang up."""


def _will_reset(connection: socket.socket) -> bool:
    option = connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(LINGER_ZERO))
    return option == LINGER_ZERO


class HttpStandIn:
    """A stand-in that starts and stops together with the service `http`."""

    http: HttpService

    def start(self) -> Self:
        """Listen."""
        self.http.start()
        return self

    def stop(self) -> None:
        """Stop listening; a second call does nothing."""
        self.http.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL that stands for the real service's address."""
        return self.http.url

    @property
    def faults(self) -> Faults:
        """What goes wrong on the wire."""
        return self.http.faults
