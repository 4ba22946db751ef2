"""Answers that come to an end: read whole within a time and up to a size, or not at all.

A read timeout bounds the wait for each next byte only: a server that drips, or never stops, would
hold a run for ever.
"""

from __future__ import annotations

import io
import time
from datetime import timedelta
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import DecodeError, ProtocolError

WHOLE = timedelta(seconds=60)  # for a whole answer; what certferry asks for takes a second or two
LONGEST_ANSWER = 16 * 2**20  # bytes; a page of a thousand domains is about one mebibyte
CHUNK = 64 * 2**10  # bytes read at once


class TooSlow(requests.exceptions.Timeout):
    """An answer that was not complete in time."""


class TooLong(requests.exceptions.RequestException):
    """An answer that did not end."""


class BoundedAdapter(HTTPAdapter):
    """Reads each answer's body before it is handed out. `whole` is the time for one request.

    Head and status line are bounded by the read timeout and by `http.client` (64 KiB a line).
    """

    def __init__(self, whole: timedelta = WHOLE, **options: Any) -> None:
        super().__init__(**options)
        self._whole = whole

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request. Raises requests' exceptions, `TooSlow` and `TooLong` among them."""
        deadline = time.monotonic() + self._whole.total_seconds()
        response = super().send(*args, **kwargs)
        raw: urllib3.HTTPResponse = response.raw
        try:
            response.raw = io.BytesIO(self._read(raw, deadline))
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

    def _read(self, raw: urllib3.HTTPResponse, deadline: float) -> bytes:
        body = bytearray()
        # Not `read`, which waits until so many bytes are there.
        while chunk := raw.read1(CHUNK, decode_content=True):
            body += chunk
            if len(body) > LONGEST_ANSWER:
                raise TooLong(f"the answer is longer than {LONGEST_ANSWER} bytes")
            if time.monotonic() > deadline:
                seconds = self._whole.total_seconds()
                raise TooSlow(f"the answer was not complete within {seconds:g} seconds")
        return bytes(body)
