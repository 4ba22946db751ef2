"""How DNSPod's token API is called, by the rules that keep an account from being banned.

One call at a time and few per second; credentials are never sent again once they were refused;
every call carries the documented User-Agent (docs/facts/dnspod.md §1.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from urllib.parse import urlencode

from certferry.adapters.clients.dnspod_errors import LIMITED, Reply, error_of
from certferry.adapters.clients.http import HttpClient, HttpFailure, Request
from certferry.adapters.clients.json_answers import Call, Lost, as_text, not_again, parsed
from certferry.adapters.clients.server_time import ask_the_time
from certferry.adapters.clients.turns import Turns
from certferry.adapters.clients.txt_records import OutcomeUnknown
from certferry.core.foreign_words import quoted, quoted_code
from certferry.core.secret import Secret
from certferry.errors import DnsError, Retry
from certferry.ports.http import Answer
from certferry.ports.progress import Pause
from certferry.text import Text

NAME = "DNSPod"
PAUSES_IN_DOUBT = (1.0, 3.0)  # seconds before each repetition of a read that cannot be parsed
RESTS = (60.0, 60.0)  # seconds of silence after too many calls (§1.4)
LONG_REST = timedelta(minutes=10)  # until the next run, when the short ones were not enough

Params = Mapping[str, str | int]


class DnspodCalls:
    """Calls with one account's token. Safe to share between threads.

    Its methods raise `DnsUnavailable`, `DnsAccessDenied` without sending anything when the token
    was refused before, and what `pause` raises. A refusal is remembered as long as the object
    lives. `about` is the name to mention in errors.
    """

    def __init__(
        self,
        *,
        api: str,
        token_id: str,
        token: Secret,
        user_agent: str,
        http: HttpClient,
        pause: Pause,
        now: Callable[[], datetime],
    ) -> None:
        self._api = api.rstrip("/")
        self._token_id = token_id
        self._token = token
        self._user_agent = user_agent
        self._http = http
        self._pause = pause
        self._now = now
        self._turns = Turns(pause)
        self._denied: DnsError | None = None

    def read(self, action: str, about: str | Text, **params: str | int) -> Reply:
        """Ask until there is an answer, within reason."""
        for attempt in itertools.count():
            outcome = self._call(action, params, about, repeatable=True)
            if attempt >= len(outcome.pauses):
                break
            self._pause(outcome.pauses[attempt])
        if isinstance(outcome, Lost):
            raise Call(NAME, action, about).lost(outcome.problem, maybe_done=False)
        return outcome

    def clock_ahead(self) -> timedelta | None:
        """Return how far DNSPod's clock is ahead, by `GET /`, which wants no token and answers 404
        (§1.1).
        """
        request = Request("GET", f"{self._api}/", {"User-Agent": self._user_agent})
        try:
            return ask_the_time(self._http, request, self._now)
        except HttpFailure as failure:
            call = Call(NAME, "GET", Text("the time of the service"))
            raise call.lost(failure.problem, maybe_done=False) from None

    def write(self, action: str, about: str | Text, **params: str | int) -> Reply:
        """Ask once. Raises `OutcomeUnknown` when it may have been done or not."""
        outcome = self._call(action, params, about, repeatable=False)
        if isinstance(outcome, Lost):
            call = Call(NAME, action, about, is_write=True)
            raise call.lost(outcome.problem, maybe_done=outcome.maybe_done)
        if outcome.is_in_doubt:
            raise OutcomeUnknown(error_of(outcome, about).message)
        return outcome

    def _call(
        self, action: str, params: Params, about: str | Text, *, repeatable: bool
    ) -> Reply | Lost:
        """Make a call when it is our turn; after too many calls rest, and the others rest too."""
        rests = iter(RESTS)
        with self._turns.ours():
            while True:
                outcome = self._exchange(action, params, about, repeatable=repeatable)
                if isinstance(outcome, Lost) or outcome.code != LIMITED:
                    return outcome
                rest = next(rests, None)
                if rest is None:
                    raise self._too_many(outcome, about)
                self._pause(rest)

    def _too_many(self, reply: Reply, about: str | Text) -> DnsError:
        error = error_of(reply, about)
        error.retry = Retry.at(self._now() + LONG_REST)
        return error

    def _exchange(
        self, action: str, params: Params, about: str | Text, *, repeatable: bool
    ) -> Reply | Lost:
        if self._denied is not None:
            raise not_again(NAME, self._denied)
        try:
            answer = self._http.exchange(
                lambda: self._request(action, params), repeatable=repeatable
            )
        except HttpFailure as exc:
            return Lost(exc.problem, maybe_done=exc.maybe_done)
        outcome = self._parse(action, answer)
        if isinstance(outcome, Reply) and outcome.is_denied:
            self._denied = error_of(outcome, about)
        return outcome

    def _request(self, action: str, params: Params) -> Request:
        form = {
            "login_token": f"{self._token_id},{self._token.reveal()}",
            "format": "json",
            "lang": "en",
            "error_on_empty": "no",
            **params,
        }
        headers = {
            "User-Agent": self._user_agent,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return Request("POST", f"{self._api}/{action}", headers, urlencode(form).encode())

    def _parse(self, action: str, answer: Answer) -> Reply | Lost:
        """Read an answer, whatever its Content-Type says (§1.1)."""
        if answer.status != HTTPStatus.OK:
            return Lost(
                Text(
                    "DNSPod answered {action} with HTTP status {status}",
                    action=action,
                    status=answer.status,
                ),
                maybe_done=answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            )
        body = parsed(answer.body) or {}
        status = body.get("status")
        code = as_text(status.get("code")) if isinstance(status, dict) else ""
        if not isinstance(status, dict) or not quoted_code(code, [self._token]):
            problem = Text("DNSPod's answer to {action} cannot be read", action=action)
            return Lost(problem, maybe_done=True, pauses=PAUSES_IN_DOUBT)
        words = quoted(as_text(status.get("message")), [self._token])
        return Reply(action, code, words, body)
