"""Why an HTTP request got no answer: one plain sentence for each way in which that happens.

The libraries' own messages are not passed on: they quote addresses and headers, and with those
perhaps a secret.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

import requests
import urllib3.exceptions

from certferry.adapters.http.bounds import WHOLE, TooLong, TooSlow, UnknownProxy
from certferry.ports.http import NO_HEADERS, NoAnswer
from certferry.system_words import system_words
from certferry.text import Text


class Contact(Enum):
    """How far a request went that got no usable answer."""

    NONE = "there was no connection"
    SILENCE = "nothing came within the time"
    WORDS = "something came that is no answer, or the connection was closed"


class HttpFailure(NoAnswer):
    """No usable answer came. `maybe_done`: the server may have carried the request out; `passing`:
    the next attempt may fare better; `contact`: how far the last attempt went. `status` and
    `headers` are those of a web page that came in place of an answer.
    """

    def __init__(
        self,
        problem: Text,
        *,
        maybe_done: bool,
        passing: bool = True,
        contact: Contact = Contact.WORDS,
        status: int | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        super().__init__(problem, maybe_done=maybe_done)
        self.passing = passing
        self.contact = contact
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for a connection, for each next byte of an answer, and for the whole."""

    connect: timedelta
    read: timedelta
    whole: timedelta = WHOLE


@dataclass(frozen=True)
class _Rule:
    """What it means when such an exception is among the causes."""

    exceptions: type[BaseException] | tuple[type[BaseException], ...]
    sentence: Text
    maybe_done: bool = True
    passing: bool = True
    contact: Contact = Contact.WORDS


def _unconnected(exception: type[BaseException], sentence: Text, *, passing: bool = True) -> _Rule:
    return _Rule(exception, sentence, maybe_done=False, passing=passing, contact=Contact.NONE)


# The first that fits counts: a proxy that is not there is also a refused connection, and to
# urllib3 a refused connection is a kind of timeout.
_RULES = (
    _unconnected(
        ssl.SSLCertVerificationError,
        Text("the certificate of {host} is not trusted: {reason}"),
        passing=False,
    ),
    _unconnected(
        UnknownProxy,
        Text(
            "cannot connect to {host}: certferry does not support the proxy that the"
            " environment names (such as socks5://); set HTTPS_PROXY to its http://"
            " address, or add the host to NO_PROXY"
        ),
        passing=False,
    ),
    _Rule(
        requests.exceptions.ProxyError,
        Text("cannot reach {host} through the proxy: {reason}"),
        contact=Contact.NONE,
    ),
    _Rule(ssl.SSLError, Text("no secure connection to {host}: {reason}"), contact=Contact.NONE),
    _unconnected(urllib3.exceptions.NameResolutionError, Text("{host} is not found in DNS")),
    _unconnected(urllib3.exceptions.NewConnectionError, Text("no connection to {host}: {reason}")),
    _unconnected(
        urllib3.exceptions.ConnectTimeoutError,
        Text("{host} accepted no connection within {connect}"),
    ),
    _Rule(
        TooSlow,
        Text("the answer of {host} was not complete within {whole}"),
        passing=False,
        contact=Contact.SILENCE,
    ),
    _Rule(TooLong, Text("the answer of {host} is longer than any should be"), passing=False),
    _Rule(
        urllib3.exceptions.ReadTimeoutError,
        Text("{host} did not answer within {read}"),
        contact=Contact.SILENCE,
    ),
    _Rule(requests.exceptions.ChunkedEncodingError, Text("the answer of {host} ended early")),
    _Rule(ConnectionError, Text("{host} closed the connection without an answer")),
    _Rule(
        (http.client.HTTPException, requests.exceptions.ContentDecodingError),
        Text("{host} answered with something that is not HTTP"),
    ),
    _Rule(
        ValueError,
        Text("the request to {host} cannot be written"),
        maybe_done=False,
        passing=False,
    ),
    _Rule(BaseException, Text("no response from {host}: {reason}")),
)


def explain(failure: Exception, host: str, timeouts: Timeouts) -> HttpFailure:
    """Return what an exception of requests or urllib3 means."""
    causes = tuple(_causes(failure))
    rule = next(r for r in _RULES if any(isinstance(c, r.exceptions) for c in causes))
    is_unsent = any(isinstance(c, urllib3.exceptions.NewConnectionError) for c in causes)
    return HttpFailure(
        rule.sentence.filled(
            host=host,
            reason=_reason(causes),
            connect=timeouts.connect,
            read=timeouts.read,
            whole=timeouts.whole,
        ),
        maybe_done=rule.maybe_done and not is_unsent,
        passing=rule.passing,
        contact=rule.contact,
    )


def _causes(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__


def _reason(causes: tuple[BaseException, ...]) -> Text | str:
    """Return the system's or the TLS library's words for the innermost cause."""
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or "TLS"
        if isinstance(cause, OSError) and cause.strerror:
            return system_words(cause)
    return type(causes[-1]).__name__
