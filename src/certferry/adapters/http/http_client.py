"""HTTP exchanges of adapters. An exchange ends in an answer, or in an `HttpFailure` with a sentence
for operators. A failed request is repeated if a repetition is safe.

The sentences replace the libraries' own messages, because a library quotes addresses and headers,
which may hold secrets.
"""

from __future__ import annotations

import copy
import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from certferry.adapters.http.exchange import (
    LONGEST_ANSWER,
    TIMEOUTS,
    HttpFailure,
    Request,
    Timeouts,
    answers_too_many,
    seconds_asked_for,
    surely_undone,
)
from certferry.ports.adapter import NO_HEADERS, Answer, Context, OpenPace, Pace
from certferry.ports.progress import Pause
from certferry.text import Text

log = logging.getLogger(__name__)

FIRST_BACK_OFF = 0.2  # seconds
FIRST_BACK_OFF_OF_TOO_MANY = 1.0  # seconds: rates are counted by the second
LONGEST_BACK_OFF = 5.0  # seconds
LONGEST_RETRY_AFTER = 30.0  # seconds; a longer Retry-After is left to a later run


@dataclass(eq=False, kw_only=True)
class HttpClient:
    """One service's connections. Safe to share between threads.

    Redirects stay unfollowed and cookies are dropped, because a signed request is meant for exactly
    one address. The environment's proxies and certificate bundles are used.
    """

    #: The pace of the account's requests.
    pace: Pace
    #: Waits before a repeated attempt, and ends when the run is stopped.
    pause: Pause
    #: Maximum number of attempts per exchange.
    attempts: int = 4
    #: The time limits of each attempt.
    timeouts: Timeouts = TIMEOUTS
    #: Returns whether an answer refuses the request because of too many requests.
    too_many: Callable[[Answer], bool] = answers_too_many
    #: Returns a number from 0 to 1, to spread the attempts of several clients.
    jitter: Callable[[], float] = random.random
    #: The longest body of an answer, in bytes.
    longest: int = LONGEST_ANSWER
    #: The service's name in sentences, if the host is secret; empty: sentences name the host.
    called: str = ""

    def __post_init__(self) -> None:
        from certferry.adapters.http.session import PlainSession  # imports requests

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
        repeated if the server cannot have carried out the request: after a failed connection, and
        after too many requests. Raises the exceptions of `pause`.
        """
        maybe_done = False
        for attempt in itertools.count(1):
            self.pace.wait()
            request = prepare()
            host = self.called or request.url.partition("://")[2].partition("/")[0]
            came = self._session.attempt(request, host, self.timeouts)
            if isinstance(came, Answer) and not self.too_many(came):
                came = _web_page(came, host) or came
            if isinstance(came, HttpFailure):
                maybe_done = came.maybe_done = maybe_done or came.maybe_done
            wait = self._wait_before_repeating(came, attempt, repeatable=repeatable)
            if wait is None:
                break
            self.pause(wait)
        return came

    def _wait_before_repeating(
        self, outcome: Answer | HttpFailure, attempt: int, *, repeatable: bool
    ) -> float | None:
        """Return the seconds to wait before the next attempt; `None` if no attempt follows."""
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
    """Return whether the status is 5xx, which leaves the outcome of the request unknown. A status
    from 600 on, such as a CDN's 612, is not 5xx.
    """
    return HTTPStatus.INTERNAL_SERVER_ERROR <= answer.status < 600  # noqa: PLR2004 - RFC 9110 §15


def _web_page(answer: Answer, host: str) -> HttpFailure | None:
    """Return a failure if a gateway or a hotel's login page answered in place of the service.

    A DNS service declares its JSON as a web page (docs/facts/dnspod.md §1.1), so a body that begins
    with `{` does not count as a web page.
    """
    declared = "text/html" in answer.headers.get("Content-Type", "").lower()
    if not declared or answer.body.lstrip()[:1] == b"{":
        return None
    refused, status = surely_undone(answer.status), answer.status
    sentence = Text("{host} answered with a web page (status {status})", host=host, status=status)
    return HttpFailure(
        sentence, maybe_done=not refused, passing=not refused, status=status, headers=answer.headers
    )


Reserve = Callable[[int], timedelta | None]
"""Reserve a number of an account's turns among all processes with the same pace.

Return the time until the first turn; `None` if only this process keeps the pace. Raises
`StateError`.
"""

LATE = 1.0  # seconds after which a turn is lost


class Pacer:
    """Spaces requests evenly, at most `per_second` in a second.

    With `reserve`, the limit holds for all processes that use the account, taken together.
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
        """Return a pacer for another run, with the run's `pause`. The two share one limit."""
        joined = copy.copy(self)
        joined.pause = pause
        return joined

    def wait(self) -> None:
        """See `ports.adapter.Pace.wait`."""
        # Wait without holding a lock, so that a stopped run does not wait for another run. If the
        # process was frozen during the wait, the turn is lost: others have sent meanwhile.
        while True:
            moment = self._turns.take()
            if (delay := moment - self._clock()) > 0:
                self.pause(delay)
            if self._clock() - moment < LATE:
                return


class _Turns:
    """Assigns each waiting thread the moment at which the thread may send its request.

    With a `reserve`, the moments come from the state, which all processes share. A thread that
    finds no moment reserves a moment for each thread that waits by then, in a single statement to
    the state. Eight simultaneous threads usually cost two statements, and a request costs at most
    one statement. A CDN's account therefore costs at most about 15 statements a second, and a DNS
    account 2. PostgreSQL carries thousands a second (benchmarks/claims.py).
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
        now = self._clock()  # read after the answer, so no turn begins too early
        first = max(self._next, now) if ahead is None else now + ahead.total_seconds()
        self._next = first + count * self._interval
        self._ready.extend(first + number * self._interval for number in range(count))


def client_in(
    context: Context,
    service: str,
    per_second: float,
    too_many: Callable[[Answer], bool] = answers_too_many,
) -> HttpClient:
    """Return the HTTP client for an account's requests to a service. All users of the account share
    the pace.
    """
    pace = pace_in(context, service, per_second)
    return HttpClient(pace=pace, pause=context.pause, too_many=too_many)


def pace_in(context: Context, service: str, per_second: float) -> Pace:
    """Return the pace of an account's requests to a service, shared by all users of the account."""
    return shared_pace(context.pace, service, per_second, pause=context.pause)


def shared_pace(
    open_pace: OpenPace | None,
    service: str,
    per_second: float,
    *,
    pause: Pause,
    clock: Callable[[], float] = time.monotonic,
) -> Pace:
    """Return the account's pace at a service, from `open_pace`. If `open_pace` is `None`, return a
    pace that only the caller uses.
    """
    if open_pace is None:
        return Pacer(per_second, clock=clock, pause=pause)
    return open_pace(service, per_second)


def ahead_of(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return how far an answer's Date is ahead of `now` (RFC 9110 §6.6.1); `None` for a missing or
    malformed date, and for a date without a zone.
    """
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, OverflowError):  # a malformed date; a zone of too many digits
        return None
    return None if date.tzinfo is None else date - now


def ask_the_time(
    http: HttpClient, request: Request, now: Callable[[], datetime]
) -> timedelta | None:
    """Return how far a service's clock is ahead of `now`, from the Date of an answer with any
    status; `None` without a readable Date.

    Raises `HttpFailure` if the service does not answer.
    """
    try:
        headers = http.exchange(lambda: request, repeatable=True).headers
    except HttpFailure as failure:
        if failure.status is None:
            raise
        headers = failure.headers
    return ahead_of(headers, now())
