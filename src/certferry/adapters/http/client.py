"""HTTP exchanges of adapters: each ends in an answer or in an `HttpFailure` with a plain sentence,
and safe requests are repeated.

The sentences replace the libraries' own messages, because a library quotes addresses and headers,
which may hold secrets.
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
    """How far a request without a usable answer went."""

    NONE = "there was no connection"
    SILENCE = "nothing came within the time"
    WORDS = "something came that is no answer, or the connection was closed"


class HttpFailure(NoAnswer):
    """A request without a usable answer.

    `maybe_done` (see `ports.adapter.NoAnswer`) says whether the server may have carried out the
    request.
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
        #: Whether the next attempt may succeed.
        self.passing = passing
        self.contact = contact
        #: Status and headers of a web page in the answer's place; `None` and empty otherwise.
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Timeouts:
    """The limits of an exchange in time."""

    #: For a connection.
    connect: timedelta
    #: For each next byte of the answer.
    read: timedelta
    #: For the whole exchange.
    whole: timedelta = bounds.WHOLE


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

# The first match counts: an absent proxy is also a refused connection, and urllib3 treats a refused
# connection as a kind of timeout.
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
LONGEST_RETRY_AFTER = 30.0  # seconds; a longer Retry-After is left to a later run


@dataclass(frozen=True)
class Request:
    """A request. The repr leaves out headers and body, because both carry secrets."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


class Exchange(Struct, frozen=True):
    """A sent request with the outcome, for `journal`."""

    request: Request
    #: The answer, or the name of the exception.
    came: Answer | str


_JOURNAL: ContextVar[list[Exchange]] = ContextVar("journal")


@contextmanager
def journal() -> Iterator[list[Exchange]]:
    """Yield a list collecting this thread's exchanges inside a `with` block."""
    token = _JOURNAL.set([])
    try:
        yield _JOURNAL.get()
    finally:
        _JOURNAL.reset(token)


def answers_too_many(answer: Answer) -> bool:
    """Return whether the server refused a request, undone, because of too many requests."""
    return answer.status == HTTPStatus.TOO_MANY_REQUESTS


@dataclass(eq=False, kw_only=True)
class HttpClient:
    """One service's connections. Safe to share between threads.

    Redirects stay unfollowed and cookies are dropped, because a signed request is meant for exactly
    one address. The environment's proxies and certificate bundles are used.
    """

    pace: Pace
    pause: Pause
    #: Most attempts per exchange.
    attempts: int = 4
    timeouts: Timeouts = TIMEOUTS
    #: Recognises an answer of a rate limit.
    too_many: Callable[[Answer], bool] = answers_too_many
    #: Returns a number from 0 to 1, to spread the attempts of several clients.
    jitter: Callable[[], float] = random.random
    #: The longest body of an answer, in bytes.
    longest: int = bounds.LONGEST_ANSWER
    #: Replaces a secret host in sentences.
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
        """Send a request as `outcome_of` does; return the answer. Raises `HttpFailure`."""
        outcome = self.outcome_of(prepare, repeatable=repeatable)
        if isinstance(outcome, HttpFailure):
            raise outcome
        return outcome

    def outcome_of(
        self, prepare: Callable[[], Request], *, repeatable: bool
    ) -> Answer | HttpFailure:
        """Send a request; return the answer or the failure of the last attempt.

        `prepare` is called for each attempt, so each attempt has a fresh date and signature. A
        `repeatable` request is repeated after transport errors and statuses 5xx. Any request is
        repeated if surely undone: after a failed connection, and after too many requests. Raises
        the exceptions of `pause`.
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
        """Return the seconds to wait before the next attempt; `None` after the last attempt."""
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
    """Return whether the server failed with an unknown outcome. Qiniu's 612 is a refusal."""
    return HTTPStatus.INTERNAL_SERVER_ERROR <= answer.status < 600  # noqa: PLR2004 - RFC 9110 §15


def surely_undone(status: int) -> bool:
    """Return whether a status proves that the server did nothing.

    408 is no proof: a gateway may send 408 while the service is at work (RFC 9110 §15.5.9).
    """
    is_refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return is_refused and status != HTTPStatus.REQUEST_TIMEOUT


def seconds_asked_for(answer: Answer) -> float | None:
    """Return the seconds of Retry-After (RFC 9110 §10.2.3), six hours at most (urllib3's limit);
    `None` if absent or malformed.
    """
    value = answer.headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds: float = Retry().parse_retry_after(value)
    except (InvalidHeader, ValueError, OverflowError):
        return None
    return seconds


def _web_page(answer: Answer, host: str) -> HttpFailure | None:
    """Return a failure if a gateway or a hotel's login page answered in the service's place.

    DNSPod declares its JSON as a web page (docs/facts/dnspod.md §1.1), so the body decides too.
    """
    declared = "text/html" in answer.headers.get("Content-Type", "").lower()
    if not declared or answer.body.lstrip()[:1] == b"{":
        return None
    refused, status = surely_undone(answer.status), answer.status
    sentence = Text("{host} answered with a web page (status {status})", host=host, status=status)
    return HttpFailure(
        sentence, maybe_done=not refused, passing=not refused, status=status, headers=answer.headers
    )


class PlainSession(requests.Session):
    """A `requests` session without redirects, cookies and ~/.netrc, with a `BoundedAdapter`."""

    def __init__(self, whole: timedelta, longest: int = bounds.LONGEST_ANSWER) -> None:
        super().__init__()
        self.headers.clear()
        self.headers["User-Agent"] = f"certferry/{__version__}"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.auth = _as_signed
        for scheme in ("http://", "https://"):
            self.mount(scheme, bounds.BoundedAdapter(whole, longest))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return `None`: no redirect is followed."""
        del resp
        return None


def _as_signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Return the request unchanged. Without this function, requests would replace Authorization
    by a line of ~/.netrc.
    """
    return request


Reserve = Callable[[int], timedelta | None]
"""Reserve a number of an account's turns among all processes with the same pace.

Return the time until the first turn; `None` if this process keeps the pace alone. Raises
`StateError`.
"""

LATE = 1.0  # seconds after which a turn is lost


class Pacer:
    """Spaces requests evenly, so every second stays within the limit.

    With `reserve`, the limit holds for all processes with the account's pace together.
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
        """Return a pacer with the same turns, and with another run's pause."""
        joined = copy.copy(self)
        joined.pause = pause
        return joined

    def wait(self) -> None:
        """See `ports.adapter.Pace.wait`."""
        # Wait outside the locks, so a stopped run ends independently of other runs. A process
        # frozen during the wait has lost the turn, because others have sent meanwhile.
        while True:
            moment = self._turns.take()
            if (delay := moment - self._clock()) > 0:
                self.pause(delay)
            if self._clock() - moment < LATE:
                return


class _Turns:
    """The moments at which the threads of this process may send.

    The first waiter reserves turns for every thread waiting at that moment, in one statement. So
    every reserved turn is used, a lone caller waits for no other caller, and eight simultaneous
    callers cost two statements. Each request costs at most one statement, so the pace also bounds
    the statements of all hosts together: 15 a second for a Qiniu account (10 at api, 5 at fusion),
    2 for a DNSPod account. PostgreSQL carries thousands a second (benchmarks/claims.py), and
    answers before the next turn is due.
    """

    def __init__(
        self, per_second: float, clock: Callable[[], float], reserve: Reserve | None
    ) -> None:
        self._interval = 1 / per_second
        self._most = max(1, int(per_second))  # a batch covers a second at most
        self._clock = clock
        self._reserve = reserve
        self._next = clock()
        self._ready = deque[float]()
        self._waiting = 0
        self._counting, self._taking = threading.Lock(), threading.Lock()

    def take(self) -> float:
        """Return the moment of the caller's turn, in the seconds of the clock."""
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
        now = self._clock()  # read after the answer, so each turn begins at its moment or later
        first = max(self._next, now) if ahead is None else now + ahead.total_seconds()
        self._next = first + count * self._interval
        self._ready.extend(first + number * self._interval for number in range(count))


def client_in(
    context: Context,
    service: str,
    per_second: float,
    too_many: Callable[[Answer], bool] = answers_too_many,
) -> HttpClient:
    """Return an account's client of a service, at the account's shared pace."""
    pace = pace_in(context, service, per_second)
    return HttpClient(pace=pace, pause=context.pause, too_many=too_many)


def pace_in(context: Context, service: str, per_second: float) -> Pace:
    """Return the pace of an account's requests to a service, shared by all users of the account."""
    if context.pace is None:
        return Pacer(per_second, pause=context.pause)
    return context.pace(service, per_second)


def ahead_of(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return how far an answer's Date is ahead (RFC 9110 §6.6.1); `None` without Date or zone."""
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, OverflowError):  # a malformed date; a zone of too many digits
        return None
    return None if date.tzinfo is None else date - now


def ask_the_time(
    http: HttpClient, request: Request, now: Callable[[], datetime]
) -> timedelta | None:
    """Return how far a service's clock is ahead, by an answer of any status.

    Raises `HttpFailure` if the service does not answer.
    """
    try:
        headers = http.exchange(lambda: request, repeatable=True).headers
    except HttpFailure as failure:
        if failure.status is None:
            raise
        headers = failure.headers
    return ahead_of(headers, now())
