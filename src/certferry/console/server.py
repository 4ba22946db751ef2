"""The HTTP server of the console: uvicorn's protocol over h11, in an event loop with a thread of
its own. Limits on size, time and number keep a client without a login from using up the server.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from email.utils import formatdate
from http import HTTPStatus
from socket import socket
from typing import Any

import h11
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from certferry.console.guard import preferred
from certferry.console.refusals import PageRefused
from certferry.present.language import LANGUAGES, voice_in
from certferry.text import Text

LARGEST_BODY = 1_000_000  # bytes; the guard's own limit (`guard.LARGEST_BODY`) is lower
MOST_HEADERS = 100
LARGEST_HEADERS = 16 * 1024  # bytes, including the request's line
MOST_CONNECTIONS = 300
FOR_HEADERS, FOR_BODY = 10.0, 15.0  # seconds for all headers, and for the whole body
KEEP_ALIVE = 75  # seconds; longer than proxies keep connections, so a proxy never uses a closed one
LINGERING = 2.0
"""The seconds for which the rest of a refused request is read and discarded. If the server closed
the socket at once, the client would get a reset in place of the answer.
"""
GOODBYE = 3.0  # seconds for answers in progress when the server ends

_ABSOLUTE = re.compile(rb"https?://([^/?#]+)([^#]*)", re.IGNORECASE)
"""Matches a request's target that is a whole URL, as sent to a proxy."""

_log = logging.getLogger(__name__)


class _Requests(h11.Connection):
    """Parses requests, and refuses requests that are malformed or too large."""

    #: The status with which the request is refused.
    refused = HTTPStatus.BAD_REQUEST
    #: The client's `Accept-Language`; empty before the headers were read.
    accepted = ""
    _body = 0

    def next_event(self) -> Any:
        """See `h11.Connection.next_event`. Raises `RemoteProtocolError`."""
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.refused = HTTPStatus(error.error_status_hint)
            raise
        if isinstance(event, h11.Request):
            self._body = 0
            event = self._in_origin_form(event)
            languages = (
                header_value
                for header, header_value in event.headers
                if header == b"accept-language"
            )
            self.accepted = next(languages, b"").decode("latin-1")
            size = len(event.target) + sum(len(name) + len(value) for name, value in event.headers)
            if len(event.headers) > MOST_HEADERS or size > LARGEST_HEADERS:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            names = {name for name, _ in event.headers}
            if {b"content-length", b"transfer-encoding"} <= names:
                # With both headers, a proxy in front may take another byte for the end of the
                # request (RFC 9112 §6.1).
                self._refuse(HTTPStatus.BAD_REQUEST)
            length = next(
                (
                    header_value
                    for header, header_value in event.headers
                    if header == b"content-length"
                ),
                b"0",
            )
            if len(length) > len(str(LARGEST_BODY)) or int(length) > LARGEST_BODY:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif isinstance(event, h11.Data):
            self._body += len(event.data)
            if self._body > LARGEST_BODY:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return event

    def _in_origin_form(self, request: h11.Request) -> h11.Request:
        """Return a request with a path as the target. If the target is a whole URL, the URL's host
        replaces the `Host` header (RFC 9112 §3.2.2).
        """
        absolute = _ABSOLUTE.fullmatch(request.target)
        if absolute is None:
            return request
        host, path = absolute.groups()
        headers = [(name, value) for name, value in request.headers if name != b"host"]
        return h11.Request(
            method=request.method,
            target=path if path.startswith(b"/") else b"/" + path,
            headers=[(b"host", host), *headers],
            http_version=request.http_version,
        )

    def _refuse(self, status: HTTPStatus) -> None:
        self.refused = status
        raise h11.RemoteProtocolError(status.phrase, status)


class Connection(H11Protocol):
    """A connection of a client. A request that arrives too slowly ends the connection.

    If there are more than `MOST_CONNECTIONS`, a new connection is accepted all the same, because it
    may be a person's or a monitor's. In exchange, the connection that has waited longest for a
    request is closed, or else the connection whose answer has lasted longest, such as a stream.
    """

    #: The parser of requests.
    conn: _Requests

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Requests(h11.SERVER, LARGEST_HEADERS)
        self._phase: tuple[object, ...] = ()
        self._since = 0.0
        self._late: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own annotation
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._keep_time(is_awaited=True)
        if len(self.connections) <= MOST_CONNECTIONS:
            return
        others = (other for other in self.connections if isinstance(other, Connection))
        oldest = min(
            (other for other in others if other is not self),
            key=lambda other: (not other.is_waiting, other._since),  # noqa: SLF001 - an instance of this class
        )
        self.connections.discard(oldest)
        oldest.transport.abort()

    @property
    def _request(self) -> RequestResponseCycle | None:
        """The last request, if its answer is not complete."""
        last: RequestResponseCycle | None = getattr(self, "cycle", None)
        return None if last is None or last.response_complete else last

    @property
    def is_waiting(self) -> bool:
        """Whether the connection waits for the client to send a request, or the rest of a
        request.
        """
        request = self._request
        return request is None or request.more_body

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._is_refused:
            return
        super().data_received(data)
        self._keep_time(is_awaited=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """See `H11Protocol`."""
        super().on_response_complete()
        self._keep_time(is_awaited=bool(self.conn.trailing_data[0]))

    def _keep_time(self, *, is_awaited: bool) -> None:
        """Limit the time for receiving all headers of a request, and the time for the whole body.
        A limit between two bytes alone would let a client send byte by byte for ever.
        """
        if self._is_refused:
            return
        request = self._request
        seconds = 0.0
        if request is None:
            phase = "request" if is_awaited else ""
            seconds = FOR_HEADERS if is_awaited else 0.0
        elif request.more_body:
            phase, seconds = "body", FOR_BODY
        else:
            phase = "answer"
        if (phase, self.cycle) == self._phase:
            return
        self._phase, self._since = (phase, self.cycle), self.loop.time()
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if seconds:
            self._late = self.loop.call_later(seconds, self.transport.abort)

    def shutdown(self) -> None:
        """See `H11Protocol`."""
        if self._is_refused:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Refuse the request with certferry's answer in place of uvicorn's, and end the
        connection.
        """
        del msg
        self._is_refused = True
        if self._late is not None:
            self._late.cancel()
        request = self._request
        if request is not None:
            request.disconnected = True
            request.message_event.set()
        status = self.conn.refused
        body = _refusal_text(status, self.conn.accepted).encode()
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("connection", "close"),
        ]
        answer = h11.Response(status_code=status, headers=headers, reason=status.phrase)
        with suppress(h11.LocalProtocolError):  # the answer to the request has already begun
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._late = self.loop.call_later(LINGERING, self.transport.abort)


def _refusal_text(status: HTTPStatus, accepted: str) -> str:
    """Return the problem and the hint for an HTTP status, in the language that the client prefers.
    If the client sent no `Accept-Language`, return both in every language.
    """
    problem = PageRefused(status).problem
    sentences = [problem.message] if problem.hint is None else [problem.message, problem.hint]
    voices = map(voice_in, [preferred(accepted)] if accepted else LANGUAGES)
    lines = [voice.say_on_one_line(sentence) for voice in voices for sentence in sentences]
    return "".join(f"{line}\n" for line in (f"{status.value} {status.phrase}", *lines))


class HttpServer:
    """Serves an application at listening sockets, in a thread of its own. `alive_at` is the last
    moment, by the monotonic clock, at which the event loop of the thread ran.
    """

    def __init__(
        self, app: ASGIApp, sockets: Sequence[socket], tls: ssl.SSLContext | None = None
    ) -> None:
        self._config = Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        self._sockets = sockets
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self.alive_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        # uvicorn's warnings of malformed requests are dropped: any client could fill the log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)

    def start(self) -> None:
        """Begin to serve in the background."""
        self._config.load()
        self._thread.start()

    def stop(self, within: timedelta) -> None:
        """Ask the server to finish its answers and stop, and wait at most `within` for the end."""
        with suppress(RuntimeError):  # the loop has already ended
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(within.total_seconds())

    @property
    def is_alive(self) -> bool:
        """Whether the server is running."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except Exception:  # noqa: BLE001 - logged; the process then ends with an exit code for the failure
            _log.exception(Text("unexpected error"))

    async def _serve(self) -> None:
        state = ServerState()
        servers = [
            await self._loop.create_server(
                lambda: Connection(self._config, state, {}, self._loop),
                sock=listener,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else FOR_HEADERS,
            )
            for listener in self._sockets
        ]
        while not self._ending.is_set():
            self.alive_at = time.monotonic()
            state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1)
        for server in servers:
            server.close()
        for connection in [*state.connections]:
            connection.shutdown()
        deadline = self._loop.time() + GOODBYE
        while state.connections and self._loop.time() < deadline:  # noqa: ASYNC110 - uvicorn's set
            await asyncio.sleep(0.05)
        for connection in [*state.connections]:
            connection.transport.abort()
        await asyncio.sleep(0)
