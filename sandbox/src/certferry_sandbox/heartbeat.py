"""A service that waits for heartbeats, in the protocol of healthchecks.io (its docs, "HTTP API").

One check. Each ping is a POST to its address, `/start`, `/fail` or `/<exit status>`, with the run's
UUID as `rid`. For an unknown check, and for more than five pings a minute, the answer is 200 with
the refusal in the body, as at the real service for addresses with a UUID.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl

from certferry_sandbox.httpd import HttpService, Request, Response, utc_now
from certferry_sandbox.messages.service import Window

CHECK = "4d1f0a52-7b3e-4c8a-9d26-0f5e1c7ab934"
MOST_A_MINUTE = 5
LIMIT = 10_000
MOST_STATUS = 255  # what a process can exit with


@dataclass(frozen=True)
class Ping:
    """A ping: `start`, `success`, `fail` or an exit status; the run's id; the body."""

    kind: str
    rid: str
    said: str


class HeartbeatService(HttpService):
    """One check. `pings` are what it counted, in order. `limit` is how many bytes of a body it
    keeps; a longer one is the sender's mistake: the page names the limit.
    """

    def __init__(self, *, limit: int = LIMIT, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(self._respond, clock=clock)
        self.limit = limit
        self.pings: list[Ping] = []
        self.mistakes: list[str] = []
        self._window = Window()
        self._now = clock
        self._one_at_a_time = threading.Lock()

    @property
    def address(self) -> str:
        """The address for pings of the check."""
        return f"{self.url}/{CHECK}"

    def _respond(self, request: Request) -> Response:
        with self._one_at_a_time:
            return self._answer(request)

    def _answer(self, request: Request) -> Response:
        path = request.path.strip("/").split("/")
        kind = _kind(path)
        rid = dict(parse_qsl(request.query)).get("rid", "")
        if kind is None or not _is_uuid(path[0]):
            return self._mistaken(f"no address of a check: {request.path}", 404)
        if request.method not in {"GET", "HEAD", "POST"}:
            return self._mistaken(f"no ping: {request.method}", 405)
        if rid and not _is_uuid(rid):
            return self._mistaken(f"no run: {rid}", 400)
        if path[0] != CHECK:
            return _said("OK (not found)", self.limit)
        if self._window.count(self._now()) > MOST_A_MINUTE:
            return _said("OK (rate limited)", self.limit)
        if len(request.body) > self.limit:
            self.mistakes.append(f"{len(request.body)} bytes, of which {self.limit} are kept")
        self.pings.append(Ping(kind, rid, request.body[: self.limit].decode()))
        return _said("OK", self.limit)

    def _mistaken(self, what: str, status: int) -> Response:
        self.mistakes.append(what)
        return Response(status, what.encode(), "text/plain")


def _kind(path: list[str]) -> str | None:
    match path:
        case [_]:
            return "success"
        case [_, "start" | "fail" as kind]:
            return kind
        case [_, status] if status.isdigit() and int(status) <= MOST_STATUS:
            return status
    return None


def _is_uuid(written: str) -> bool:
    try:
        return str(uuid.UUID(written)) == written
    except ValueError:
        return False


def _said(words: str, limit: int) -> Response:
    return Response(200, words.encode(), "text/plain").with_header("Ping-Body-Limit", str(limit))
