"""Answers that end: each is read whole within a time and up to a size, or not at all.

What lexicon and Apprise send with `requests` is held to what certferry holds itself to: one host,
by https or to this machine, a certificate that is looked at, and an answer that comes to an end. By
themselves they follow redirects to other hosts with keys in their headers, take plain http where
an address says so, and read for as long as a server sends (dns-lexicon 3.25, Apprise 2.3).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from certferry.core.network import is_loopback
from certferry.ports.state import must_still_hold
from certferry.text import Text

WHOLE = timedelta(seconds=60)  # for a whole exchange; what certferry asks for takes a second or two
LONGEST_ANSWER = 16 * 2**20  # bytes; a page of a thousand domains is about one mebibyte
FRAMES = 2  # times that: what may come in all, with headers and the frames of chunks
CHUNK = 64 * 2**10  # bytes read at once
POOL_SIZE = 16  # connections kept per host: two for each lineage that is worked on by default

Place = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""An address of a host, as `socket.getaddrinfo` returns it."""


class TooSlow(requests.exceptions.Timeout):
    """An answer that was not complete in time."""


class TooLong(requests.exceptions.RequestException):
    """An answer that did not end."""


class UnknownProxy(requests.exceptions.ProxyError):
    """The environment names a proxy of a kind that certferry does not speak to: of this scheme."""


class BoundedAdapter(HTTPAdapter):
    """Reads each answer whole before it returns it, within the time `whole` from the first address
    that is tried to the last byte, and up to the `longest` body in bytes.
    """

    def __init__(self, whole: timedelta = WHOLE, longest: int = LONGEST_ANSWER) -> None:
        self._whole = whole
        self._longest = longest
        super().__init__(pool_maxsize=POOL_SIZE)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return a pool whose connections read within the limits of their exchange."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _CONNECTIONS[pool.scheme]
        return pool

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Raise `UnknownProxy` for SOCKS: its connections would not end with the exchange."""
        if (scheme := proxy.partition("://")[0].lower()) not in _CONNECTIONS:
            raise UnknownProxy(scheme)
        return super().proxy_manager_for(proxy, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request. Raises requests' exceptions, `TooSlow` and `TooLong` among them."""
        must_still_hold()  # before it connects; `_PlainConnection.send` asks again
        deadline = time.monotonic() + self._whole.total_seconds()
        limits = _Limits(deadline, FRAMES * self._longest)
        before = _CURRENT.set(limits)
        try:
            response = super().send(*args, **kwargs)
            with contextlib.closing(response):  # which ends the connection, unless all was read
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
        response._content = bytes(body)  # noqa: SLF001 - as `Response.content` keeps it
        return response


@dataclass
class _Limits:
    """What one exchange may still take: seconds, and bytes."""

    deadline: float
    bytes_left: int

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()


_CURRENT: ContextVar[_Limits] = ContextVar("limits")


def _within_limits(sock: socket.socket, read: Callable[..., Any], *args: Any) -> Any:
    """Read once. Raises `TimeoutError` where the time is over, or the answer does not end."""
    limits, usual = _CURRENT.get(), sock.gettimeout()
    if limits.seconds_left <= 0 or limits.bytes_left < 0:
        raise TimeoutError
    sock.settimeout(min(limits.seconds_left, usual or limits.seconds_left))
    try:
        got = read(*args)
    finally:
        # The connection may be used again, by an exchange with all its time before it.
        sock.settimeout(usual)
    limits.bytes_left -= got if isinstance(got, int) else len(got)
    return got


class _Socket(socket.socket):
    """A connection that reads within the limits of the exchange in progress."""

    def recv_into(self, *args: Any) -> int:
        return int(_within_limits(self, super().recv_into, *args))


class _TlsSocket(ssl.SSLSocket):
    """The same with TLS. From a proxy, `recv` reads the host's TLS within the proxy's."""

    def recv_into(self, *args: Any) -> int:
        return int(_within_limits(self, super().recv_into, *args))

    def recv(self, *args: Any) -> bytes:
        return bytes(_within_limits(self, super().recv, *args))


def first_connection(
    places: Iterable[Place], timeout: float, latest: float, options: Iterable[Any] = ()
) -> socket.socket:
    """Connect to the first of a host's addresses that accepts, with so many seconds for each, and
    for all together until the moment `latest` (`time.monotonic`). Raises the last `OSError`.
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
    """HTTP. By itself, urllib3 gives each address the whole time-out."""

    def send(self, data: Any) -> None:
        """Send what a run may send that still holds its lease: connecting may have taken long."""
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
    """HTTPS."""

    def connect(self) -> None:
        super().connect()
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.__class__ = _TlsSocket  # urllib3 has made it

    def _connect_tls_proxy(self, hostname: str, sock: socket.socket) -> ssl.SSLSocket:
        secured = super()._connect_tls_proxy(hostname, sock)
        secured.__class__ = _TlsSocket
        return secured


_CONNECTIONS = {"http": _PlainConnection, "https": _TlsConnection}


TIMEOUT = (5.0, 15.0)
"""Seconds for a connection and for each next byte, where a library asks for none."""

Refusals = list[Text]

_REFUSED: ContextVar[Refusals | None] = ContextVar("refused", default=None)
"""What was refused of the work in progress; `None` where nothing is held."""

_usual = requests.Session.get_adapter


class NotHeld(requests.RequestException):
    """A request, or an answer, that certferry lets no library have."""


@contextmanager
def held() -> Iterator[Refusals]:
    """Hold the requests of libraries in a `with` block and its context; yield what was refused."""
    refused: Refusals = []
    before = _REFUSED.set(refused)
    try:
        yield refused
    finally:
        _REFUSED.reset(before)


class _HeldAdapter(BoundedAdapter):
    def __init__(self, refused: Refusals) -> None:
        super().__init__()
        self._refused = refused

    def send(self, request: requests.PreparedRequest, *_: Any, **how: Any) -> requests.Response:
        """Send it, with a certificate that is verified, whatever the library says."""
        parts = urlsplit(request.url or "")
        host = parts.hostname or ""
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
            raise self._not_held(
                Text("it would send to {host} without https, which certferry refuses", host=host)
            )
        how |= {"timeout": how.get("timeout") or TIMEOUT, "verify": how.get("verify") or True}
        try:
            response = super().send(request, **how)
        except TooLong as endless:
            said = Text("the answer of {host} is longer than any should be", host=host)
            raise self._not_held(said) from endless
        finally:
            self.close()
        if response.is_redirect:
            said = Text("{host} redirects elsewhere, and certferry does not follow", host=host)
            raise self._not_held(said)
        return response

    def _not_held(self, said: Text) -> NotHeld:
        self._refused.append(said)
        return NotHeld(str(said))


def _adapter_of(session: requests.Session, url: str | bytes) -> BaseAdapter:
    refused = _REFUSED.get()
    return _usual(session, url) if refused is None else _HeldAdapter(refused)  # type: ignore[arg-type]  # bytes pass through


# Neither library takes a session from its caller: each service makes its own where it sends.
requests.Session.get_adapter = _adapter_of  # type: ignore[assignment,method-assign]  # see above
