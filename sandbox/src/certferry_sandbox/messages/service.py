"""What the stand-ins of services that take messages have in common."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from certferry_sandbox.httpd import HttpService, Request, Response, utc_now

MINUTE = timedelta(minutes=1)


class Mistake(Exception):
    """The service refuses the request with this answer."""

    def __init__(self, answer: Mapping[str, object], status: int = 200) -> None:
        super().__init__(str(answer))
        self.answer = answer
        self.status = status


class MessageService(HttpService):
    """An HTTP service that takes messages; `taken` are their words, in order. Thread-safe.

    A subclass gives the answer to a request, or raises `Mistake` with a refusal.
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
        """Take a message, and give the answer. Raises `Mistake`."""
        raise NotImplementedError


class Window:
    """Counts what came within a time."""

    def __init__(self, length: timedelta = MINUTE) -> None:
        self._length = length
        self._moments: list[datetime] = []

    def count(self, now: datetime) -> int:
        """Count one more, and return how many there were within the time."""
        self._moments = [one for one in self._moments if now - one < self._length] + [now]
        return len(self._moments)


def posted(request: Request, refusal: Mistake) -> dict[str, Any]:
    """Return the object that was posted as JSON. Raises the refusal where it is none: services
    are lenient in different ways, and none of that is documented.
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
    """Return a text that is there and not too long. Raises the refusal."""
    if not isinstance(value, str) or not value.strip() or size(value) > longest:
        raise refusal
    return value


def utf8(value: str) -> int:
    """Return how many bytes words have."""
    return len(value.encode())
