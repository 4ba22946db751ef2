"""The sessions of `requests` that send certferry's requests, and a sentence for each failure.

`http_client` imports this module for the first request only, because importing `requests` takes a
tenth of a second.
"""

from __future__ import annotations

import http.client
import logging
import ssl
from collections.abc import Iterator
from datetime import timedelta
from http.cookiejar import DefaultCookiePolicy

import requests
import urllib3.exceptions
from urllib3.exceptions import HTTPError

from certferry import __version__
from certferry.adapters.http import bounds
from certferry.adapters.http.exchange import (
    LONGEST_ANSWER,
    Contact,
    Exchange,
    HttpFailure,
    Request,
    Timeouts,
    note,
)
from certferry.errors import system_words
from certferry.ports.adapter import Answer
from certferry.text import Text

log = logging.getLogger(__name__)

_NOT_HTTP = Text("{host} did not answer with HTTP")
_UNCONNECTED = (
    ssl.SSLCertVerificationError,
    bounds.UnknownProxy,
    urllib3.exceptions.NameResolutionError,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
)
_UNREACHED = (*_UNCONNECTED, requests.exceptions.ProxyError, ssl.SSLError)
_SILENT = (bounds.TooSlow, urllib3.exceptions.ReadTimeoutError)
_LASTING = (
    ssl.SSLCertVerificationError,
    bounds.UnknownProxy,
    bounds.TooSlow,
    bounds.TooLong,
    ValueError,
)

# The first match counts, so the order matters: a failed proxy is also a failed connection, and
# urllib3's error for a failed connection is also an error for a time-out.
_SENTENCES: tuple[tuple[type[BaseException], Text], ...] = (
    (ssl.SSLCertVerificationError, Text("the certificate of {host} is not trusted: {reason}")),
    (
        bounds.UnknownProxy,
        Text(
            "cannot connect to {host}: certferry does not support the proxy set in the "
            "environment (for example socks5://); set HTTPS_PROXY to the proxy's http:// "
            "address, or add the host to NO_PROXY"
        ),
    ),
    (requests.exceptions.ProxyError, Text("cannot reach {host} through the proxy: {reason}")),
    (ssl.SSLError, Text("no secure connection to {host}: {reason}")),
    (urllib3.exceptions.NameResolutionError, Text("{host} is not in DNS")),
    (urllib3.exceptions.NewConnectionError, Text("cannot connect to {host}: {reason}")),
    (
        urllib3.exceptions.ConnectTimeoutError,
        Text("{host} accepted no connection within {connect}"),
    ),
    (bounds.TooSlow, Text("the answer of {host} was not complete within {whole}")),
    (bounds.TooLong, Text("the answer of {host} is too long")),
    (urllib3.exceptions.ReadTimeoutError, Text("{host} did not answer within {read}")),
    (requests.exceptions.ChunkedEncodingError, Text("the answer of {host} ended early")),
    (ConnectionError, Text("{host} closed the connection without an answer")),
    (http.client.HTTPException, _NOT_HTTP),
    (requests.exceptions.ContentDecodingError, _NOT_HTTP),
    (ValueError, Text("the request to {host} cannot be written")),
    (BaseException, Text("no response from {host}: {reason}")),
)


def explain(failure: Exception, host: str, timeouts: Timeouts) -> HttpFailure:
    """Return the failure for an exception of requests or urllib3."""
    causes = tuple(_causes(failure))
    kind, sentence = next(
        entry for entry in _SENTENCES if any(isinstance(cause, entry[0]) for cause in causes)
    )
    is_unsent = any(isinstance(c, urllib3.exceptions.NewConnectionError) for c in causes)
    contact = Contact.SILENCE if kind in _SILENT else Contact.WORDS
    limits = {"connect": timeouts.connect, "read": timeouts.read, "whole": timeouts.whole}
    return HttpFailure(
        sentence.filled(host=host, reason=_reason(causes), **limits),
        maybe_done=not is_unsent and kind not in {*_UNCONNECTED, ValueError},
        passing=kind not in _LASTING,
        contact=Contact.NONE if kind in _UNREACHED else contact,
    )


def _causes(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__


def _reason(causes: tuple[BaseException, ...]) -> Text | str:
    """Return the words of the system or of the TLS library for the innermost cause that has words.
    If no cause has words, return the type of the innermost cause.
    """
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or "TLS"
        if isinstance(cause, OSError) and cause.strerror:
            return system_words(cause)
    return type(causes[-1]).__name__


class PlainSession(requests.Session):
    """A `requests` session without redirects, cookies and ~/.netrc, with a `BoundedAdapter`."""

    def __init__(self, whole: timedelta, longest: int = LONGEST_ANSWER) -> None:
        super().__init__()
        self.headers.clear()
        self.headers["User-Agent"] = f"certferry/{__version__}"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.auth = _as_signed
        for scheme in ("http://", "https://"):
            self.mount(scheme, bounds.BoundedAdapter(whole, longest))

    def attempt(self, request: Request, host: str, timeouts: Timeouts) -> Answer | HttpFailure:
        """Send a request once; return the answer, or the failure in a sentence about `host`. Raises
        `LeaseLost`.
        """
        within = timeouts.connect.total_seconds(), timeouts.read.total_seconds()
        try:
            response = self.request(
                request.method, request.url, None, request.body, request.headers, timeout=within
            )
        except (OSError, HTTPError, ValueError) as failed:
            log.debug("%s %s: %s", request.method, host, type(failed).__name__)
            note(Exchange(request, type(failed).__name__))
            return explain(failed, host, timeouts)
        log.debug("%s %s: %s", request.method, host, response.status_code)
        answer = Answer(response.status_code, response.headers, response.content)
        note(Exchange(request, answer))
        return answer

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return `None`: no redirect is followed."""
        del resp
        return None


def _as_signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Return the request unchanged. Without this function, requests would replace Authorization
    by a line of ~/.netrc.
    """
    return request
