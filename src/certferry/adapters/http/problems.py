"""Why an HTTP request got no answer: one plain sentence for each way in which that happens.

The libraries' own messages are not passed on: they quote addresses and headers, and with those
perhaps a secret.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

import requests
import urllib3.exceptions

from certferry.adapters.http.bounds import WHOLE, TooLong, TooSlow, UnknownProxy
from certferry.system_words import system_words
from certferry.text import Text


class Contact(Enum):
    """How far a request went that got no usable answer."""

    NONE = "there was no connection"
    SILENCE = "nothing came within the time"
    WORDS = "something came that is no answer, or the connection was closed"


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt without a usable answer. `maybe_done`: the server may have carried the request
    out; `passing`: the next attempt may fare better. `status` and `headers` are those of a web page
    that came in place of an answer.
    """

    sentence: Text
    maybe_done: bool
    passing: bool = True
    contact: Contact = Contact.WORDS
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for a connection, for each next byte of an answer, and for the whole."""

    connect: timedelta
    read: timedelta
    whole: timedelta = WHOLE


@dataclass(frozen=True)
class _Rule:
    """What it means when one of these exceptions is among the causes."""

    exceptions: tuple[type[BaseException], ...]
    sentence: Text
    maybe_done: bool = True
    passing: bool = True
    contact: Contact = Contact.WORDS


# The first that fits counts: a proxy that is not there is also a refused connection, and to
# urllib3 a refused connection is a kind of timeout.
_RULES = (
    _Rule(
        (ssl.SSLCertVerificationError,),
        Text("the certificate of {host} is not trusted: {reason}"),
        maybe_done=False,
        passing=False,
        contact=Contact.NONE,
    ),
    _Rule(
        (UnknownProxy,),
        Text(
            "cannot connect to {host}: certferry does not support the proxy that the"
            " environment names (such as socks5://); set HTTPS_PROXY to its http://"
            " address, or add the host to NO_PROXY"
        ),
        maybe_done=False,
        passing=False,
        contact=Contact.NONE,
    ),
    _Rule(
        (requests.exceptions.ProxyError,),
        Text("cannot reach {host} through the proxy: {reason}"),
        contact=Contact.NONE,
    ),
    _Rule((ssl.SSLError,), Text("no secure connection to {host}: {reason}"), contact=Contact.NONE),
    _Rule(
        (urllib3.exceptions.NameResolutionError,),
        Text("{host} is not found in DNS"),
        maybe_done=False,
        contact=Contact.NONE,
    ),
    _Rule(
        (urllib3.exceptions.NewConnectionError,),
        Text("no connection to {host}: {reason}"),
        maybe_done=False,
        contact=Contact.NONE,
    ),
    _Rule(
        (urllib3.exceptions.ConnectTimeoutError,),
        Text("{host} accepted no connection within {connect}"),
        maybe_done=False,
        contact=Contact.NONE,
    ),
    _Rule(
        (TooSlow,),
        Text("the answer of {host} was not complete within {whole}"),
        passing=False,
        contact=Contact.SILENCE,
    ),
    _Rule((TooLong,), Text("the answer of {host} is longer than any should be"), passing=False),
    _Rule(
        (urllib3.exceptions.ReadTimeoutError,),
        Text("{host} did not answer within {read}"),
        contact=Contact.SILENCE,
    ),
    _Rule((requests.exceptions.ChunkedEncodingError,), Text("the answer of {host} ended early")),
    _Rule((ConnectionError,), Text("{host} closed the connection without an answer")),
    _Rule(
        (http.client.HTTPException, requests.exceptions.ContentDecodingError),
        Text("{host} answered with something that is not HTTP"),
    ),
    _Rule(
        (ValueError,),
        Text("the request to {host} cannot be written"),
        maybe_done=False,
        passing=False,
    ),
)
_ANYTHING_ELSE = _Rule((BaseException,), Text("no answer of {host}: {reason}"))


def explain(exc: Exception, host: str, timeouts: Timeouts) -> FailedAttempt:
    """Say what an exception of requests or urllib3 means."""
    causes = tuple(_causes(exc))
    rule = next((r for r in _RULES if _any_of(causes, r.exceptions)), _ANYTHING_ELSE)
    unconnected = _any_of(causes, (urllib3.exceptions.NewConnectionError,))
    return FailedAttempt(
        rule.sentence.filled(
            host=host,
            reason=_reason(causes),
            connect=timeouts.connect,
            read=timeouts.read,
            whole=timeouts.whole,
        ),
        maybe_done=rule.maybe_done and not unconnected,
        passing=rule.passing,
        contact=rule.contact,
    )


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _any_of(causes: tuple[BaseException, ...], types: tuple[type[BaseException], ...]) -> bool:
    return any(isinstance(cause, types) for cause in causes)


def _reason(causes: tuple[BaseException, ...]) -> Text | str:
    """Give the system's or the TLS library's word for what lies at the bottom."""
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or "TLS"
        if isinstance(cause, OSError) and cause.strerror:
            return system_words(cause)
    return type(causes[-1]).__name__
