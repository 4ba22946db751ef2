"""One HTTP exchange that ends in an answer or in a plain sentence, repeated where that is safe.

The libraries' own messages are not passed on: they quote addresses and headers, maybe secret.
"""

from __future__ import annotations

import copy
import http.client
import itertools
import logging
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3.exceptions
from msgspec import Struct
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from certferry import __version__
from certferry.adapters.http import bounds
from certferry.errors import system_words
from certferry.ports.adapter import NO_HEADERS, Answer, Context, NoAnswer, Pace
from certferry.ports.progress import Pause
from certferry.text import Text


class Contact(Enum):
    """How far a request went that got no usable answer."""

    NONE = "there was no connection"
    SILENCE = "nothing came within the time"
    WORDS = "something came that is no answer, or the connection was closed"


class HttpFailure(NoAnswer):
    """No usable answer came. `maybe_done`: the server may have carried the request out; `passing`:
    the next attempt may fare better. `status` and `headers` are those of a web page in its place.
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
    whole: timedelta = bounds.WHOLE


_NOT_HTTP = Text("{host} answered with something that is not HTTP")
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

# The first that fits counts: a proxy that is not there is also a refused connection, and to
# urllib3 a refused connection is a kind of timeout.
_SENTENCES: tuple[tuple[type[BaseException], Text], ...] = (
    (ssl.SSLCertVerificationError, Text("the certificate of {host} is not trusted: {reason}")),
    (
        bounds.UnknownProxy,
        Text(
            "cannot connect to {host}: certferry does not support the proxy that the"
            " environment names (such as socks5://); set HTTPS_PROXY to its http://"
            " address, or add the host to NO_PROXY"
        ),
    ),
    (requests.exceptions.ProxyError, Text("cannot reach {host} through the proxy: {reason}")),
    (ssl.SSLError, Text("no secure connection to {host}: {reason}")),
    (urllib3.exceptions.NameResolutionError, Text("{host} is not found in DNS")),
    (urllib3.exceptions.NewConnectionError, Text("no connection to {host}: {reason}")),
    (
        urllib3.exceptions.ConnectTimeoutError,
        Text("{host} accepted no connection within {connect}"),
    ),
    (bounds.TooSlow, Text("the answer of {host} was not complete within {whole}")),
    (bounds.TooLong, Text("the answer of {host} is longer than any should be")),
    (urllib3.exceptions.ReadTimeoutError, Text("{host} did not answer within {read}")),
    (requests.exceptions.ChunkedEncodingError, Text("the answer of {host} ended early")),
    (ConnectionError, Text("{host} closed the connection without an answer")),
    (http.client.HTTPException, _NOT_HTTP),
    (requests.exceptions.ContentDecodingError, _NOT_HTTP),
    (ValueError, Text("the request to {host} cannot be written")),
    (BaseException, Text("no response from {host}: {reason}")),
)


def explain(failure: Exception, host: str, timeouts: Timeouts) -> HttpFailure:
    """Return what an exception of requests or urllib3 means."""
    causes = tuple(_causes(failure))
    kind, sentence = next(
        one for one in _SENTENCES if any(isinstance(cause, one[0]) for cause in causes)
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
    """Return the system's or the TLS library's words for the innermost cause."""
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or "TLS"
        if isinstance(cause, OSError) and cause.strerror:
            return system_words(cause)
    return type(causes[-1]).__name__


log = logging.getLogger(__name__)

TIMEOUTS = Timeouts(connect=timedelta(seconds=5), read=timedelta(seconds=15))

FIRST_BACK_OFF = 0.2  # seconds
FIRST_BACK_OFF_OF_TOO_MANY = 1.0  # seconds: rates are counted by the second
LONGEST_BACK_OFF = 5.0  # seconds
LONGEST_RETRY_AFTER = 30.0  # seconds; a service that asks for more is left to a later run


@dataclass(frozen=True)
class Request:
    """A request as it is sent. Headers and body carry secrets, so they stay out of its repr."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


class Exchange(Struct, frozen=True):
    """A request as it was sent, and the answer, or the kind of error that came in its place."""

    request: Request
    came: Answer | str


_JOURNAL: ContextVar[list[Exchange]] = ContextVar("journal")


@contextmanager
def journal() -> Iterator[list[Exchange]]:
    """Collect what this thread exchanges inside the `with` block."""
    token = _JOURNAL.set([])
    try:
        yield _JOURNAL.get()
    finally:
        _JOURNAL.reset(token)


def answers_too_many(answer: Answer) -> bool:
    """Return whether the server refused a request, undone, because there were too many."""
    return answer.status == HTTPStatus.TOO_MANY_REQUESTS


@dataclass(eq=False, kw_only=True)
class HttpClient:
    """One service's connections. Safe to share between threads.

    No redirect is followed and no cookie is kept: a signed request means exactly one address.
    The environment's proxies and certificate bundles are used. `too_many` recognises a rate limit;
    `jitter` returns 0 to 1; a host that is secret is `called` otherwise.
    """

    pace: Pace
    pause: Pause
    attempts: int = 4
    timeouts: Timeouts = TIMEOUTS
    too_many: Callable[[Answer], bool] = answers_too_many
    jitter: Callable[[], float] = random.random
    longest: int = bounds.LONGEST_ANSWER
    called: str = ""

    def __post_init__(self) -> None:
        self._session = PlainSession(self.timeouts.whole, self.longest)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        *,
        repeatable: bool = False,
    ) -> Answer:
        """See `ports.adapter.Http.send`."""
        request = Request(method, url, headers, body)
        return self.exchange(lambda: request, repeatable=repeatable)

    def exchange(self, prepare: Callable[[], Request], *, repeatable: bool) -> Answer:
        """Send what `prepare` returns, called anew for each attempt; return the last answer.

        A repeatable request is repeated after transport errors and statuses 5xx, any request
        when surely nothing was done: without a connection, or after too many requests. Raises
        `HttpFailure`, and what `pause` raises.
        """
        maybe_done = False
        for attempt in itertools.count(1):
            self.pace.wait()
            came = self._attempt(prepare())
            if isinstance(came, HttpFailure):
                maybe_done = came.maybe_done = maybe_done or came.maybe_done
            wait = self._wait_before_repeating(came, attempt, repeatable=repeatable)
            if wait is None:
                break
            self.pause(wait)
        if isinstance(came, HttpFailure):
            raise came
        return came

    def _attempt(self, request: Request) -> Answer | HttpFailure:
        host = self.called or request.url.partition("://")[2].partition("/")[0]
        within = self.timeouts.connect.total_seconds(), self.timeouts.read.total_seconds()
        try:
            response = self._session.request(
                request.method, request.url, None, request.body, request.headers, timeout=within
            )
        except (OSError, HTTPError, ValueError) as failed:
            log.debug("%s %s: %s", request.method, host, type(failed).__name__)
            _JOURNAL.get([]).append(Exchange(request, type(failed).__name__))
            return explain(failed, host, self.timeouts)
        log.debug("%s %s: %s", request.method, host, response.status_code)
        answer = Answer(response.status_code, response.headers, response.content)
        _JOURNAL.get([]).append(Exchange(request, answer))
        return answer if self.too_many(answer) else _web_page(answer, host) or answer

    def _wait_before_repeating(
        self, outcome: Answer | HttpFailure, attempt: int, *, repeatable: bool
    ) -> float | None:
        """Return the seconds to wait before the next attempt; `None` if there is no other."""
        first = FIRST_BACK_OFF
        if isinstance(outcome, HttpFailure):
            is_worth_it = outcome.passing and (repeatable or not outcome.maybe_done)
            asked = None
        else:
            too_many = self.too_many(outcome)
            is_worth_it = too_many or (repeatable and is_server_error(outcome))
            first = FIRST_BACK_OFF_OF_TOO_MANY if too_many else first
            asked = seconds_asked_for(outcome)
        if attempt >= self.attempts or not is_worth_it:
            return None
        if asked is not None:
            return asked if asked <= LONGEST_RETRY_AFTER else None
        longest = min(first * 2.0 ** (attempt - 1), LONGEST_BACK_OFF)
        return longest * (1 + self.jitter()) / 2


def is_server_error(answer: Answer) -> bool:
    """Return whether the server failed, the outcome unknown. Qiniu's 612 is a plain refusal."""
    return HTTPStatus.INTERNAL_SERVER_ERROR <= answer.status < 600  # noqa: PLR2004 - RFC 9110 §15


def surely_undone(status: int) -> bool:
    """Return whether such an answer means that nothing was done. 408 does not: a gateway sends it
    while the service may be at work (RFC 9110 §15.5.9).
    """
    is_refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return is_refused and status != HTTPStatus.REQUEST_TIMEOUT


def seconds_asked_for(answer: Answer) -> float | None:
    """Return the seconds of Retry-After (RFC 9110 §10.2.3), six hours at most (urllib3's limit)."""
    written = answer.headers.get("Retry-After")
    if written is None:
        return None
    try:
        seconds: float = Retry().parse_retry_after(written)
    except (InvalidHeader, ValueError, OverflowError):
        return None
    return seconds


def _web_page(answer: Answer, host: str) -> HttpFailure | None:
    """Recognise a gateway, or a hotel's login page, that answers in the service's place.

    DNSPod declares its JSON as a web page (docs/facts/dnspod.md §1.1), so the body decides too.
    """
    declared = "text/html" in answer.headers.get("Content-Type", "").lower()
    if not declared or answer.body.lstrip()[:1] == b"{":
        return None
    refused, status = surely_undone(answer.status), answer.status
    said = Text("{host} answered with a web page (status {status})", host=host, status=status)
    return HttpFailure(
        said, maybe_done=not refused, passing=not refused, status=status, headers=answer.headers
    )


class PlainSession(requests.Session):
    """Follows no redirect, keeps no cookie, reads no ~/.netrc: see `BoundedAdapter`."""

    def __init__(self, whole: timedelta, longest: int = bounds.LONGEST_ANSWER) -> None:
        super().__init__()
        self.headers.clear()
        self.headers["User-Agent"] = f"certferry/{__version__}"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.auth = _as_signed
        for scheme in ("http://", "https://"):
            self.mount(scheme, bounds.BoundedAdapter(whole, longest))

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request. Raises requests' exceptions, and urllib3's for what is no address."""
        kwargs["allow_redirects"] = False
        return super().request(*args, **kwargs)


def _as_signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave the request alone: without this, a line in ~/.netrc would replace Authorization."""
    return request


Reserve = Callable[[int], timedelta | None]
"""Reserve so many turns of an account among all who share its pace, and return how long it is until
the first; `None` where this process alone keeps the pace. Raises `StateError`.
"""

LATE = 1.0  # seconds


class Pacer:
    """Spaces requests evenly, so that no second ever holds more than the limit; with `reserve`,
    together with all who share the account's pace.
    """

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Pause,
        reserve: Reserve | None = None,
    ) -> None:
        self._clock = clock
        self._turns = _Turns(per_second, clock, reserve)
        self.pause = pause

    def joined_by(self, pause: Pause) -> Pacer:
        """Return one that shares these turns, and waits with another run's pause."""
        joined = copy.copy(self)
        joined.pause = pause
        return joined

    def wait(self) -> None:
        """See `ports.adapter.Pace.wait`."""
        # The wait itself holds no lock, so that a stopped run is not held by its neighbours. A
        # process that was frozen in it has lost its turn: others have sent since.
        while True:
            moment = self._turns.take()
            if (delay := moment - self._clock()) > 0:
                self.pause(delay)
            if self._clock() - moment < LATE:
                return


class _Turns:
    """The moments at which the threads of this process may send.

    One of them reserves for all that are waiting then, so that each turn is used, a lone caller
    waits for no other, and eight that come at once cost two statements. There are never more
    statements than requests, which the pace itself bounds for all hosts together: 15 a second for
    an account of Qiniu (10 at api, 5 at fusion), 2 for one of DNSPod. PostgreSQL carries thousands
    (benchmarks/claims.py). The answer takes less time than the turns are apart.
    """

    def __init__(
        self, per_second: float, clock: Callable[[], float], reserve: Reserve | None
    ) -> None:
        self._interval = 1 / per_second
        self._most = max(1, int(per_second))  # no batch is for more than a second
        self._clock = clock
        self._reserve = reserve
        self._next = clock()
        self._ready = deque[float]()
        self._waiting = 0
        self._counting, self._taking = threading.Lock(), threading.Lock()

    def take(self) -> float:
        """Return when, by the clock, the caller may send."""
        with self._counting:
            self._waiting += 1
        with self._taking:
            try:
                if not self._ready:
                    self._fill()
                return self._ready.popleft()
            finally:
                with self._counting:
                    self._waiting -= 1

    def _fill(self) -> None:
        count = min(self._waiting, self._most)
        ahead = None if self._reserve is None else self._reserve(count)
        now = self._clock()  # after the answer: a turn is never used before its moment
        first = max(self._next, now) if ahead is None else now + ahead.total_seconds()
        self._next = first + count * self._interval
        self._ready.extend(first + number * self._interval for number in range(count))


def client_in(
    context: Context,
    service: str,
    per_second: float,
    too_many: Callable[[Answer], bool] = answers_too_many,
) -> HttpClient:
    """Return an account's client of a service, at the pace of all who use it."""
    pace = pace_in(context, service, per_second)
    return HttpClient(pace=pace, pause=context.pause, too_many=too_many)


def pace_in(context: Context, service: str, per_second: float) -> Pace:
    """Return the pace of an account's requests to a service, which all who use it share."""
    if context.pace is None:
        return Pacer(per_second, pause=context.pause)
    return context.pace(service, per_second)


def ahead_of(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return how far an answer's Date is ahead (RFC 9110 §6.6.1); `None` without a Date or zone."""
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, OverflowError):  # no date; a zone of as many digits as one likes
        return None
    return None if date.tzinfo is None else date - now


def ask_the_time(
    http: HttpClient, request: Request, now: Callable[[], datetime]
) -> timedelta | None:
    """Return how far a service's clock is ahead, by any answer at all. Raises `HttpFailure`."""
    try:
        headers = http.exchange(lambda: request, repeatable=True).headers
    except HttpFailure as failure:
        if failure.status is None:
            raise
        headers = failure.headers
    return ahead_of(headers, now())
