"""The heartbeat of a run, in healthchecks.io's protocol (docs/facts/receivers.md §2):
`URL/start`, `URL`, `URL/fail`, with `rid` for the run, and the run's last lines as the body.

The service answers 200 to a check that it does not know, or that is pinged too often, and says so
in the body; `Ping-Body-Limit` is how many bytes of ours it keeps.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode, urlsplit, urlunsplit

from certferry.adapters.http.posting import secret_address
from certferry.core.redaction import Secret
from certferry.errors import Problem
from certferry.ports.adapter import Answer, Http, NoAnswer
from certferry.text import Text

SERVICE = "heartbeat"
MISSED = "heartbeat_missed"  # the code of what went wrong with a ping

USUAL_LIMIT = 10_000
"""Bytes of a body that every version of the service keeps; more where it says so."""
MOST = 100_000  # bytes that are sent at most, whatever a service says

_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
_UNKNOWN, _TOO_OFTEN = b"(not found)", b"(rate limited)"


class Heartbeat:
    """One check; `rid` is the run's in all its pings. Raises `ConfigError` for a wrong address."""

    def __init__(self, address: Secret, http: Http, rid: str) -> None:
        self._address = secret_address(address)
        self._http = http
        self._rid = rid
        self._limit = USUAL_LIMIT

    def start(self) -> Problem | None:
        """Send that a run begins."""
        return self._ping("/start", "")

    def end(self, said: str, *, succeeded: bool) -> Problem | None:
        """Send that it has ended, with the last of its words."""
        return self._ping("" if succeeded else "/fail", said)

    def _ping(self, suffix: str, said: str) -> Problem | None:
        """Send one ping, once. Follows no redirect; returns what went wrong."""
        body = said.encode()[-self._limit :].decode(errors="ignore").encode()
        try:
            answer = self._http.send("POST", self._url(suffix), _PLAIN, body)
        except NoAnswer as nothing:
            hint = Text("see whether this machine reaches the service; the next run pings again")
            return Problem(MISSED, nothing.problem, hint)
        self._note_limit(answer)
        return _judged(answer)

    def _url(self, suffix: str) -> str:
        parts = urlsplit(self._address.reveal())
        rid = urlencode({"rid": self._rid})
        query = f"{parts.query}&{rid}" if parts.query else rid
        return urlunsplit(parts._replace(path=parts.path.rstrip("/") + suffix, query=query))

    def _note_limit(self, answer: Answer) -> None:
        limit = answer.headers.get("Ping-Body-Limit", "")
        if limit.isascii() and limit.isdigit():
            self._limit = max(1, min(int(limit[:9]), MOST))


def _judged(answer: Answer) -> Problem | None:
    status, check_url = answer.status, Text("check `url` under [heartbeat]")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        said = Text("it answered with a redirect (status {status}), which is not followed")
        return Problem(MISSED, said.filled(status=status), check_url)
    if status == HTTPStatus.TOO_MANY_REQUESTS or _TOO_OFTEN in answer.body:
        said = Text("it was pinged too often, and has not counted this run")
        return Problem(MISSED, said, Text("use another check for each machine"))
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE} or _UNKNOWN in answer.body:
        return Problem(MISSED, Text("it knows no such check"), check_url)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        said = Text("it answered with status {status}", status=status)
        return Problem(
            MISSED, said, Text("the next run pings again; look at the service if this stays")
        )
    if status >= HTTPStatus.BAD_REQUEST:
        return Problem(
            MISSED, Text("it refused the ping with status {status}", status=status), check_url
        )
    return None
