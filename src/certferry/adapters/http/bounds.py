"""Answers that come to an end: read whole within a time and up to a size, or not at all."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
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
            with exchange.in_progress():
                return self._whole_answer(*args, **kwargs)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as failed:
            if exchange.bytes_left < 0:
                raise self._too_long() from failed
            if not exchange.seconds_left:
                seconds = self._whole.total_seconds()
                words = f"the answer was not complete within {seconds:g} seconds"
                raise TooSlow(words, request=args[0]) from failed
            raise

    def _whole_answer(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **kwargs)
        with contextlib.closing(response):  # which ends the connection, unless all has been read
            body = bytearray()
            for piece in response.iter_content(CHUNK):
                body += piece
                if len(body) > self._longest:
                    raise self._too_long()
        response._content = bytes(body)  # noqa: SLF001 - as `Response.content` keeps it
        return response

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
    def in_progress(self) -> Iterator[None]:
        """Let the connections of this thread end with it."""
        before = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(before)


_CURRENT: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


Place = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""An address of a host, as `socket.getaddrinfo` gives it."""


class _InTime:
    """Reads of a socket that end with the exchange under way: `TimeoutError` when that is over."""

    def recv(self, *args: Any) -> Any:
        return self._within(super().recv, *args)  # type: ignore[misc]  # a socket's

    def recv_into(self, *args: Any) -> Any:
        return self._within(super().recv_into, *args)  # type: ignore[misc]  # a socket's

    def _within(self: Any, read: Callable[..., Any], *args: Any) -> Any:
        exchange, usual = _CURRENT.get(), self.gettimeout()
        if exchange is None:
            return read(*args)
        left = exchange.seconds_left
        if not left:
            raise TimeoutError("the time for the answer is over")
        self.settimeout(left if usual is None else min(left, usual))
        try:
            got = read(*args)
        finally:
            # The connection may be used again, by an exchange with all its time before it.
            self.settimeout(usual)
        exchange.bytes_left -= got if isinstance(got, int) else len(got)
        if exchange.bytes_left < 0:
            raise TimeoutError("the answer does not end")
        return got


class _Socket(_InTime, socket.socket):
    """TCP."""


class _TlsSocket(_InTime, ssl.SSLSocket):
    """TLS."""


class _Bounded:
    """A connection of urllib3's whose sockets are read in time."""

    def _new_conn(self) -> socket.socket:
        """Try the host's addresses in turn. urllib3 gives each the whole timeout, and asks for no
        time when there are many.
        """
        connection, exchange = cast("HTTPConnection", self), cast("Exchange", _CURRENT.get())
        timeout = cast("float", connection.timeout)
        try:
            host, family = connection.host.strip("[]"), allowed_gai_family()
            places = socket.getaddrinfo(host, connection.port, family, socket.SOCK_STREAM)
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
        sock = _Socket(family, kind, protocol)
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


class _PlainConnection(_Bounded, HTTPConnection):
    """HTTP."""


class _TlsConnection(_Bounded, HTTPSConnection):
    """HTTPS."""

    def connect(self) -> None:
        super().connect()
        # Within the TLS of a proxy, that to the host is no socket: it reads the proxy's.
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.__class__ = _TlsSocket  # which urllib3 has made

    def _connect_tls_proxy(self, hostname: str, sock: socket.socket) -> ssl.SSLSocket:
        secured = super()._connect_tls_proxy(hostname, sock)
        secured.__class__ = _TlsSocket
        return secured


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS = {"http": _PlainPool, "https": _TlsPool}
"""What a `PoolManager` makes its connections with."""
