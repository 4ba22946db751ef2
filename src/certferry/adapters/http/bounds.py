"""Answers that come to an end: read whole within a time and up to a size, or not at all."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)
from urllib3.util.connection import allowed_gai_family

WHOLE = timedelta(seconds=60)  # for a whole exchange; what certferry asks for takes a second or two
LONGEST_ANSWER = 16 * 2**20  # bytes; a page of a thousand domains is about one mebibyte
FRAMES = 2  # times that: what may come in all, with headers and the frames of chunks
CHUNK = 64 * 2**10  # bytes read at once


class TooSlow(requests.exceptions.Timeout):
    """An answer that was not complete in time."""


class TooLong(requests.exceptions.RequestException):
    """An answer that did not end."""


class UnknownProxy(requests.exceptions.ProxyError):
    """The environment names a proxy of a kind that certferry does not speak to: of this scheme."""


class BoundedAdapter(HTTPAdapter):
    """Reads each answer's body before it is handed out. `whole` is the time for one exchange, from
    the first address that is tried to the last byte; `longest` the bytes of a body.
    """

    def __init__(
        self, whole: timedelta = WHOLE, longest: int = LONGEST_ANSWER, **options: Any
    ) -> None:
        self._whole = whole
        self._longest = longest
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make connections that end with the exchange."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make those by way of a proxy. Raises `UnknownProxy`: SOCKS would need one more library,
        whose connections do not end with the exchange.
        """
        scheme = proxy.partition("://")[0].lower()
        if scheme not in POOLS:
            raise UnknownProxy(scheme)
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request. Raises requests' exceptions, `TooSlow` and `TooLong` among them."""
        exchange = Exchange.of(self._whole, FRAMES * self._longest)
        try:
            with exchange.under_way():
                return self._exchange(*args, **kwargs)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as failed:
            if exchange.bytes_left < 0:
                raise self._too_long() from failed
            if not exchange.seconds_left:
                seconds = self._whole.total_seconds()
                words = f"the answer was not complete within {seconds:g} seconds"
                raise TooSlow(words, request=args[0]) from failed
            raise

    def _exchange(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **kwargs)
        raw: urllib3.HTTPResponse = response.raw
        try:
            response.raw = io.BytesIO(self._read(raw))
        except ProtocolError as broken:
            raise requests.exceptions.ChunkedEncodingError(broken) from broken
        except DecodeError as garbled:
            raise requests.exceptions.ContentDecodingError(garbled) from garbled
        except urllib3.exceptions.HTTPError as failed:
            raise requests.exceptions.ConnectionError(failed) from failed
        finally:
            raw.close()  # which ends the connection, unless it has gone back to the pool by now
            raw.release_conn()
        return response

    def _read(self, raw: urllib3.HTTPResponse) -> bytes:
        body = bytearray()
        # Not `read`, which waits until so many bytes are there.
        while chunk := raw.read1(CHUNK, decode_content=True):
            body += chunk
            if len(body) > self._longest:
                raise self._too_long()
        return bytes(body)

    def _too_long(self) -> TooLong:
        return TooLong(f"the answer is longer than {self._longest} bytes")


@dataclass(slots=True)
class Exchange:
    """The rest of one request and its answer: seconds until `deadline`, and bytes."""

    deadline: float
    bytes_left: int

    @classmethod
    def of(cls, whole: timedelta, size: int) -> Exchange:
        """Begin an exchange."""
        return cls(time.monotonic() + whole.total_seconds(), size)

    @property
    def seconds_left(self) -> float:
        """Until it must have ended; 0 when it must have by now."""
        return max(self.deadline - time.monotonic(), 0)

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Let the connections of this thread end with it."""
        before = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(before)


_CURRENT: ContextVar[Exchange] = ContextVar("exchange")


Place = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""An address of a host, as `socket.getaddrinfo` gives it."""


class _Readable(Protocol):
    """What a plain socket, one with TLS, and TLS within TLS have in common."""

    def makefile(self, mode: str, buffering: int) -> io.RawIOBase: ...
    def gettimeout(self) -> float | None: ...
    def settimeout(self, value: float | None) -> None: ...


class _Stream(io.RawIOBase):
    """What comes from a socket, for one exchange. Raises `TimeoutError` when that is over."""

    def __init__(self, source: _Readable, exchange: Exchange) -> None:
        self._source = source
        self._raw = source.makefile("rb", 0)
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        with _in_time(self._source, self._exchange):
            count = cast("int | None", self._raw.readinto(buffer))
        self._exchange.bytes_left -= count or 0
        if self._exchange.bytes_left < 0:
            raise TimeoutError("the answer does not end")
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


@contextlib.contextmanager
def _in_time(source: _Readable, exchange: Exchange) -> Iterator[None]:
    """Let what is read meanwhile end with the exchange. Raises `TimeoutError` when that is over."""
    left, usual = exchange.seconds_left, source.gettimeout()
    if not left:
        raise TimeoutError("the time for the answer is over")
    if usual is not None and usual <= left:
        yield
        return
    source.settimeout(left)
    try:
        yield
    finally:
        # The connection may be used again, by an exchange with all its time before it.
        source.settimeout(usual)


@dataclass(frozen=True, slots=True)
class _Source:
    """As much of a socket as `http.client.HTTPResponse` asks for."""

    source: _Readable
    exchange: Exchange

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Stream(self.source, self.exchange))


class _InTime:
    """A connection of urllib3's that belongs to the exchange under way."""

    @property
    def response_class(self) -> Callable[..., http.client.HTTPResponse]:
        """What `http.client` reads an answer with, and a proxy's answer to CONNECT."""
        exchange = _CURRENT.get()

        def read(sock: _Readable, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
            source = cast("socket.socket", _Source(sock, exchange))
            return http.client.HTTPResponse(source, *args, **kwargs)

        return read

    def _new_conn(self) -> socket.socket:
        """Try the host's addresses in turn. urllib3 gives each the whole timeout, and asks for no
        time when there are many.
        """
        connection = cast("HTTPConnection", self)
        exchange, timeout = _CURRENT.get(), cast("float", connection.timeout)
        try:
            places = socket.getaddrinfo(
                connection.host.strip("[]"),
                connection.port,
                allowed_gai_family(),
                socket.SOCK_STREAM,
            )
        except socket.gaierror as unknown:
            raise NameResolutionError(connection.host, connection, unknown) from unknown
        try:
            return first_connection(places, timeout, exchange, connection.socket_options or ())
        except TimeoutError as late:
            raise ConnectTimeoutError(connection, "no connection in time") from late
        except OSError as failure:
            raise NewConnectionError(connection, "no connection") from failure


def first_connection(
    places: Iterable[Place], timeout: float, exchange: Exchange, options: Iterable[Any] = ()
) -> socket.socket:
    """Connect to the first of a host's addresses that takes it, with so many seconds for each, and
    for all together what is left of the exchange. Raises the last `OSError`.
    """
    failure: OSError = OSError("there is no address")
    for family, kind, protocol, _, place in places:
        sock = socket.socket(family, kind, protocol)
        try:
            for option in options:
                sock.setsockopt(*option)
            # Not 0, which would mean not to wait at all.
            sock.settimeout(max(min(timeout, exchange.seconds_left), 0.001))
            sock.connect(place)
        except OSError as problem:
            sock.close()
            failure = problem
        else:
            sock.settimeout(timeout)
            return sock
        if not exchange.seconds_left:
            break
    raise failure


class _PlainConnection(_InTime, HTTPConnection):  # type: ignore[misc]  # see _InTime
    """HTTP."""


class _TlsConnection(_InTime, HTTPSConnection):  # type: ignore[misc]  # see _InTime
    """HTTPS."""

    def _connect_tls_proxy(self, hostname: str, sock: socket.socket) -> ssl.SSLSocket:
        """Give the TLS to a proxy, within which there is TLS to the host: that reads here until it
        has what it needs, and urllib3 gives each piece the whole timeout.
        """
        secured = super()._connect_tls_proxy(hostname, sock)
        receive = secured.recv

        def recv(size: int) -> bytes:
            with _in_time(cast("_Readable", secured), _CURRENT.get()):
                return receive(size)

        secured.recv = recv  # type: ignore[method-assign,assignment]  # urllib3 makes the socket
        return secured


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS = {"http": _PlainPool, "https": _TlsPool}
"""What a `PoolManager` makes its connections with."""
