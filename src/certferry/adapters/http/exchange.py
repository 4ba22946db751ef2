"""An HTTP exchange: the request, the answer or the failure, and the limits in time and size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from http import HTTPStatus

from msgspec import Struct

from certferry.ports.adapter import NO_HEADERS, Answer, NoAnswer
from certferry.text import Text

WHOLE = timedelta(seconds=60)  # for a whole exchange; certferry's requests take a second or two
LONGEST_ANSWER = 16 * 2**20  # bytes; a page of a thousand domains is about one mebibyte


class Contact(Enum):
    """How far a request without a usable answer came."""

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
        #: How far the request came.
        self.contact = contact
        #: Status and headers of a web page that came as the answer; `None` and empty otherwise.
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Timeouts:
    """The time limits of an exchange."""

    #: For making the connection.
    connect: timedelta
    #: For the wait until the next bytes of the answer.
    read: timedelta
    #: For the whole exchange.
    whole: timedelta = WHOLE


TIMEOUTS = Timeouts(connect=timedelta(seconds=5), read=timedelta(seconds=15))


@dataclass(frozen=True)
class Request:
    """A request. The repr leaves out headers and body, because both carry secrets."""

    #: The HTTP method.
    method: str
    #: The whole address.
    url: str
    #: The headers, credentials included.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The body; `None` without a body.
    body: bytes | None = field(default=None, repr=False)


class Exchange(Struct, frozen=True):
    """A sent request with the outcome, for `journal`."""

    #: The request as sent.
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


def note(exchange: Exchange) -> None:
    """Add an exchange to the journal of this thread, if a `with` block keeps one."""
    _JOURNAL.get([]).append(exchange)


def answers_too_many(answer: Answer) -> bool:
    """Return whether the server refused a request because of too many requests (status 429). The
    server then has not carried out the request.
    """
    return answer.status == HTTPStatus.TOO_MANY_REQUESTS


def surely_undone(status: int) -> bool:
    """Return whether a status proves that the server has not carried out the request: any 4xx
    except 408. A gateway may send 408 while the service is at work (RFC 9110 §15.5.9).
    """
    is_refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return is_refused and status != HTTPStatus.REQUEST_TIMEOUT


def seconds_asked_for(answer: Answer) -> float | None:
    """Return how many seconds the answer asks to wait (Retry-After, RFC 9110 §10.2.3), at most six
    hours (urllib3's limit). Return `None` if Retry-After is absent or malformed.
    """
    from urllib3.exceptions import InvalidHeader  # urllib3 is slow to import
    from urllib3.util import Retry

    value = answer.headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds: float = Retry().parse_retry_after(value)
    except (InvalidHeader, ValueError, OverflowError):
        return None
    return seconds
