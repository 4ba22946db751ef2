"""The heartbeat of a run, in healthchecks.io's protocol (docs/facts/receivers.md §2).

A run sends `URL/start`, then `URL` or `URL/fail`, with the run's id as `rid` and the run's last
lines as the body. The service answers 200 also for an unknown check, or for too many pings, and
names the problem in the body. The header `Ping-Body-Limit` says how many bytes of a body the
service keeps.
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
MISSED = "heartbeat_missed"  # the code of a problem with a ping

USUAL_LIMIT = 10_000
"""How many bytes of a body every version of the service keeps; `Ping-Body-Limit` may allow more."""
MOST = 100_000  # bytes sent at most, whatever limit a service names

_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
_UNKNOWN, _TOO_OFTEN = b"(not found)", b"(rate limited)"


class Heartbeat:
    """Sends the pings of the run `rid` to one check at the service. Raises `ConfigError` for a
    wrong address.
    """

    def __init__(self, address: Secret, http: Http, rid: str) -> None:
        self._address = secret_address(address)
        self._http = http
        self._rid = rid
        self._limit = USUAL_LIMIT

    def start(self) -> Problem | None:
        """Report that the run begins; return the problem, if any."""
        return self._ping("/start", "")

    def end(self, lines: str, *, succeeded: bool) -> Problem | None:
        """Report the end of the run, with the run's last `lines`. Return the problem, if any."""
        return self._ping("" if succeeded else "/fail", lines)

    def _ping(self, suffix: str, lines: str) -> Problem | None:
        """Send one ping, in one attempt; return the problem, if any."""
        # The outcome is at the end of the lines, so the beginning is cut. `ignore` drops the rest
        # of a character that the cut divided.
        body = lines.encode()[-self._limit :].decode(errors="ignore").encode()
        try:
            answer = self._http.send("POST", self._url(suffix), _PLAIN, body)
        except NoAnswer as nothing:
            hint = Text("check whether this host reaches the service; the next run pings again")
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
        message = Text(
            "the service answered with a redirect (status {status}), and certferry does not "
            "follow redirects"
        )
        return Problem(MISSED, message.filled(status=status), check_url)
    if status == HTTPStatus.TOO_MANY_REQUESTS or _TOO_OFTEN in answer.body:
        message = Text("the service received too many pings, and did not count this run")
        return Problem(MISSED, message, Text("use a separate check for each host"))
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE} or _UNKNOWN in answer.body:
        return Problem(MISSED, Text("the service does not know the check"), check_url)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        message = Text("the service answered with status {status}", status=status)
        return Problem(
            MISSED,
            message,
            Text("the next run pings again; check the service if the error persists"),
        )
    if status >= HTTPStatus.BAD_REQUEST:
        return Problem(
            MISSED,
            Text("the service refused the ping with status {status}", status=status),
            check_url,
        )
    return None
