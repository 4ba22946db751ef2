"""The shared parts of the stand-ins that take messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from certferry_sandbox.httpd import HttpService, Request, Response, utc_now

MINUTE = timedelta(minutes=1)


class Mistake(Exception):
    """The service refuses a request: `answer` is the JSON body, `status` the HTTP status."""

    def __init__(self, answer: Mapping[str, object], status: int = 200) -> None:
        super().__init__(str(answer))
        self.answer = answer
        self.status = status


class MessageService(HttpService):
    """An HTTP service that takes messages. `taken` has the text of each accepted message, oldest
    first. The service answers requests in turn, so `take` needs no lock.

    A subclass implements `take`.
    """

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(self._respond, clock=clock)
        self.clock = clock
        self.taken: list[str] = []
        self._one_at_a_time = threading.Lock()

    def _respond(self, request: Request) -> Response:
        with self._one_at_a_time:
            try:
                return Response.json(self.take(request))
            except Mistake as refused:
                return Response.json(refused.answer, refused.status)

    def take(self, request: Request) -> Mapping[str, object]:
        """Take a message and return the body of the answer. Raises `Mistake` for a refusal."""
        raise NotImplementedError


class Window:
    """Counts the events within the last `length`."""

    def __init__(self, length: timedelta = MINUTE) -> None:
        self._length = length
        self._moments: list[datetime] = []

    def count(self, now: datetime) -> int:
        """Count an event at `now`. Return the number of events in the window, `now` included."""
        self._moments = [past for past in self._moments if now - past < self._length] + [now]
        return len(self._moments)


def posted(request: Request, refusal: Mistake) -> dict[str, Any]:
    """Return the JSON object in the body of a POST. Raises `refusal` for another method, content
    type or body. Real services are lenient in different, undocumented ways; all stand-ins are
    strict.
    """
    declared = request.headers.get("Content-Type", "").lower()
    if request.method != "POST" or not declared.startswith("application/json"):
        raise refusal
    try:
        fields = json.loads(request.body.decode())
    except ValueError:
        raise refusal from None
    if not isinstance(fields, dict):
        raise refusal
    return fields


def words(value: object, refusal: Mistake, longest: int, size: Callable[[str], int] = len) -> str:
    """Return `value`, if a text with a `size` up to `longest` and not blank, or raise `refusal`."""
    if not isinstance(value, str) or not value.strip() or size(value) > longest:
        raise refusal
    return value


def utf8(value: str) -> int:
    """Return the number of bytes of a text in UTF-8."""
    return len(value.encode())
