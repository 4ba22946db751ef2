"""Answers that come to an end: read whole within a time and up to a size, or not at all."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import DecodeError, ProtocolError

from certferry.adapters.clients.http_connections import POOLS, Exchange

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
