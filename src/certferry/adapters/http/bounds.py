"""Limits for HTTP exchanges. An answer that exceeds the limit of time or size is an error."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from certferry.adapters.http.exchange import LONGEST_ANSWER, WHOLE
from certferry.ports.state import must_still_hold

FRAMES = 2  # an answer with headers and chunk frames may have this many times the longest body
CHUNK = 64 * 2**10  # bytes read at once
POOL_SIZE = 16  # connections kept per host: two for each lineage in parallel, by default

Place = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""An address of a host, as `socket.getaddrinfo` returns it."""


class TooSlow(requests.exceptions.Timeout):
    """The answer was incomplete at the deadline."""


class TooLong(requests.exceptions.RequestException):
    """The answer exceeded the limit of bytes."""


class UnknownProxy(requests.exceptions.ProxyError):
    """The environment names a proxy of an unsupported scheme. The message is the scheme."""


class BoundedAdapter(HTTPAdapter):
    """A `requests` adapter that returns only complete answers.

    `whole` limits the time from the first attempt to connect to the last byte; `longest` limits
    the body, in bytes.
    """

    def __init__(self, whole: timedelta = WHOLE, longest: int = LONGEST_ANSWER) -> None:
        self._whole = whole
        self._longest = longest
        super().__init__(pool_maxsize=POOL_SIZE)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return a pool of connections bound to the limits of the exchange."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _CONNECTIONS[pool.scheme]
        return pool

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the manager of an HTTP proxy. Raises `UnknownProxy` for any other kind of proxy:
        connections through SOCKS would not keep to the limits.
        """
        if (scheme := proxy.partition("://")[0].lower()) not in _CONNECTIONS:
            raise UnknownProxy(scheme)
        return super().proxy_manager_for(proxy, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, and return the complete answer. Raises `TooSlow`, `TooLong` and
        `LeaseLost`, and the exceptions of requests and urllib3.
        """
        must_still_hold()  # before connecting; `_PlainConnection.send` checks again
        deadline = time.monotonic() + self._whole.total_seconds()
        limits = _Limits(deadline, FRAMES * self._longest)
        before = _CURRENT.set(limits)
        try:
            response = super().send(*args, **kwargs)
            with contextlib.closing(response):  # ends the connection of an unread answer
                body = bytearray()
                for piece in response.iter_content(CHUNK):
                    body += piece
                    if len(body) > self._longest:
                        raise TooLong(f"the answer is longer than {self._longest} bytes")
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as failed:
            if limits.bytes_left < 0:
                raise TooLong("the answer does not end") from failed
            if limits.seconds_left <= 0:
                late = f"the answer was not complete within {self._whole.total_seconds():g} seconds"
                raise TooSlow(late, request=args[0]) from failed
            raise
        finally:
            _CURRENT.reset(before)
        response._content = bytes(body)  # noqa: SLF001 - where `Response.content` keeps the body
        return response


@dataclass
class _Limits:
    """The remaining limits of an exchange."""

    #: When the exchange must be over, in the seconds of `time.monotonic`.
    deadline: float
    #: How many bytes may still come; negative once the answer exceeded the limit.
    bytes_left: int

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()


_CURRENT: ContextVar[_Limits] = ContextVar("limits")


def _within_limits(sock: socket.socket, receive: Callable[..., Any], *args: Any) -> Any:
    """Return the result of `receive`. Raises `TimeoutError` if time or bytes are used up."""
    limits, usual = _CURRENT.get(), sock.gettimeout()
    if limits.seconds_left <= 0 or limits.bytes_left < 0:
        raise TimeoutError
    sock.settimeout(min(limits.seconds_left, usual or limits.seconds_left))
    try:
        piece = receive(*args)
    finally:
        # Restore the time-out, because a later exchange may reuse the connection.
        sock.settimeout(usual)
    limits.bytes_left -= piece if isinstance(piece, int) else len(piece)
    return piece


class _Socket(socket.socket):
    """A connection bound to the limits of the exchange in progress."""

    def recv_into(self, *args: Any) -> int:
        return int(_within_limits(self, super().recv_into, *args))


class _TlsSocket(ssl.SSLSocket):
    """A TLS connection bound to the limits of the exchange in progress.

    urllib3 reads with `recv_into`; behind an https proxy, urllib3 reads with `recv`.
    """

    def recv_into(self, *args: Any) -> int:
        return int(_within_limits(self, super().recv_into, *args))

    def recv(self, *args: Any) -> bytes:
        return bytes(_within_limits(self, super().recv, *args))


def first_connection(
    places: Iterable[Place], timeout: float, latest: float, options: Iterable[Any] = ()
) -> socket.socket:
    """Return a connection to the first address that accepts.

    Each address has `timeout` seconds. All addresses together have until `latest`, in the seconds
    of `time.monotonic`. Raises the `OSError` of the last tried address, or `TimeoutError` if no
    address was tried.
    """
    failure: OSError = TimeoutError()
    for family, kind, protocol, _, place in places:
        within = min(timeout, latest - time.monotonic())
        if within <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(within)
            sock.connect(place)
        except OSError as problem:
            sock.close()
            failure = problem
        else:
            sock.settimeout(timeout)
            return sock
    raise failure


class _PlainConnection(HTTPConnection):
    """An HTTP connection that keeps to the limit of the exchange while connecting. urllib3 itself
    would give each address of the host the whole time-out.
    """

    def send(self, data: Any) -> None:
        """Connect if needed, and send data. Raises `LeaseLost` if the lease ended while
        connecting.
        """
        if self.sock is None and self.auto_open:
            self.connect()
        must_still_hold()
        super().send(data)

    def _new_conn(self) -> socket.socket:
        latest = time.monotonic() + _CURRENT.get().seconds_left
        options: Any = self.socket_options or ()
        timeout: Any = self.timeout
        try:
            family = allowed_gai_family()
            host = self.host.strip("[]")
            places = socket.getaddrinfo(host, self.port, family, socket.SOCK_STREAM)
            made = first_connection(places, timeout, latest, options)
        except socket.gaierror as unknown:
            raise NameResolutionError(self.host, self, unknown) from unknown
        except TimeoutError as late:
            raise ConnectTimeoutError(self, "no connection in time") from late
        except OSError as failure:
            raise NewConnectionError(self, "no connection") from failure
        limited = _Socket(made.family, made.type, made.proto, made.detach())
        limited.settimeout(timeout)
        return limited


class _TlsConnection(_PlainConnection, HTTPSConnection):
    """An HTTPS connection with the limits of `_PlainConnection`."""

    def connect(self) -> None:
        super().connect()
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.__class__ = _TlsSocket  # made by urllib3

    def _connect_tls_proxy(self, hostname: str, sock: socket.socket) -> ssl.SSLSocket:
        secured = super()._connect_tls_proxy(hostname, sock)
        secured.__class__ = _TlsSocket
        return secured


_CONNECTIONS = {"http": _PlainConnection, "https": _TlsConnection}
