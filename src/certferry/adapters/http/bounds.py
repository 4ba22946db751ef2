"""Answers that end: each is read whole within a time and up to a size, or not at all."""

from __future__ import annotations

import contextlib
import io
import time
from contextvars import ContextVar
from datetime import timedelta
from http.client import HTTPResponse
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

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
    """Reads each answer whole before it returns it. `whole` is the time for one exchange, `longest`
    the bytes of a body. Each address of a host has the connection's time-out.
    """

    def __init__(
        self, whole: timedelta = WHOLE, longest: int = LONGEST_ANSWER, **options: Any
    ) -> None:
        self._whole = whole
        self._longest = longest
        super().__init__(**options)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return a pool whose connections read within the limits of their exchange."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _CONNECTIONS[pool.scheme]
        return pool

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Raise `UnknownProxy` for SOCKS: its connections would not end with the exchange."""
        scheme = proxy.partition("://")[0].lower()
        if scheme not in _CONNECTIONS:
            raise UnknownProxy(scheme)
        return super().proxy_manager_for(proxy, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request. Raises requests' exceptions, `TooSlow` and `TooLong` among them."""
        limits = _Limits(self._whole, FRAMES * self._longest)
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
                raise TooSlow("the answer was not complete", request=args[0]) from failed
            raise
        finally:
            _CURRENT.reset(before)
        response._content = bytes(body)  # noqa: SLF001 - as `Response.content` keeps it
        return response


class _Limits:
    """What one exchange may still take: seconds, and bytes."""

    def __init__(self, whole: timedelta, size: int) -> None:
        self._deadline = time.monotonic() + whole.total_seconds()
        self.bytes_left = size

    @property
    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()


_CURRENT: ContextVar[_Limits] = ContextVar("limits")


class _LimitedReads(io.RawIOBase):
    """Reads of a socket within the limits of the exchange in progress."""

    def __init__(self, sock: Any, raw: Any) -> None:
        self._sock, self._raw = sock, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read once. Raises `TimeoutError` where the time is over, or the answer does not end."""
        limits, usual = _CURRENT.get(), self._sock.gettimeout()
        if limits.seconds_left <= 0 or limits.bytes_left < 0:
            raise TimeoutError
        self._sock.settimeout(min(limits.seconds_left, usual or limits.seconds_left))
        try:
            size = cast("int | None", self._raw.readinto(buffer))
        finally:
            # The connection may be used again, by an exchange with all its time before it.
            self._sock.settimeout(usual)
        limits.bytes_left -= size or 0
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_LimitedReads(sock, self.fp.detach()))


class _PlainConnection(HTTPConnection):
    response_class = _Answer


class _TlsConnection(HTTPSConnection):
    response_class = _Answer


_CONNECTIONS = {"http": _PlainConnection, "https": _TlsConnection}
