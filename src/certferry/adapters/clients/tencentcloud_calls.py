"""How DNSPod is called through Tencent Cloud's API 3.0 (docs/facts/dnspod.md §2.1).

Every call is signed anew for each attempt; a key that was refused is not sent again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from certferry import __version__
from certferry.adapters.clients.http import (
    HttpClient,
    HttpFailure,
    Request,
    answers_too_many,
    is_server_error,
)
from certferry.adapters.clients.json_answers import Call as Called
from certferry.adapters.clients.json_answers import Lost, as_text, clock_ahead, not_again, parsed
from certferry.adapters.clients.tencentcloud_errors import BROKEN, TOO_MANY, Reply, error_of
from certferry.adapters.clients.tencentcloud_signing import (
    Call,
    Keys,
    authorization,
    timestamp,
)
from certferry.adapters.clients.txt_records import OutcomeUnknown
from certferry.core.foreign_words import quoted, quoted_code, quoted_id
from certferry.errors import DnsError
from certferry.ports.http import Answer
from certferry.ports.progress import Pause
from certferry.text import Text

NAME, SERVICE = "Tencent Cloud", "dnspod"
VERSION = "2021-03-23"
CONTENT_TYPE = "application/json"
LANGUAGES = {"zh": "zh-CN"}  # of the error's words; English otherwise
PAUSES_IN_DOUBT = (1.0, 3.0)  # seconds before each repetition of a read that brought no answer

Params = Mapping[str, str | int]


class TencentCloudCalls:
    """Calls with one key. Safe to share between threads.

    Its methods raise `DnsUnavailable`, `DnsAccessDenied` without sending anything when the key was
    refused before, and what `pause` raises. `about` is the name to mention in errors.
    """

    def __init__(
        self,
        *,
        api: str,
        keys: Keys,
        language: str,
        http: HttpClient,
        pause: Pause,
        now: Callable[[], datetime],
    ) -> None:
        parts = urlsplit(api)
        self._url = f"{parts.scheme}://{parts.netloc}/"
        self._host = parts.netloc
        self._keys = keys
        self._language = LANGUAGES.get(language, "en-US")
        self._http = http
        self._pause = pause
        self._now = now
        self._denied: DnsError | None = None

    def read(self, action: str, about: str | Text, **params: str | int) -> Reply:
        """Ask until there is an answer, within reason."""
        for attempt in itertools.count():
            outcome = self._call(action, params, about, repeatable=True)
            pauses = _pauses(outcome)
            if attempt >= len(pauses):
                break
            self._pause(pauses[attempt])
        if isinstance(outcome, Lost):
            raise Called(NAME, action, about).lost(outcome.problem, maybe_done=False)
        return outcome

    def write(self, action: str, about: str | Text, **params: str | int) -> Reply:
        """Ask once. Raises `OutcomeUnknown` when it may have been done or not."""
        outcome = self._call(action, params, about, repeatable=False)
        if isinstance(outcome, Lost):
            call = Called(NAME, action, about, is_write=True)
            raise call.lost(outcome.problem, maybe_done=outcome.maybe_done)
        if outcome.is_in_doubt:
            raise OutcomeUnknown(error_of(outcome, about).message)
        return outcome

    def clock_ahead(self) -> timedelta | None:
        """Return how far the service's clock is ahead, by `GET /`, which wants no key."""
        return clock_ahead(self._http, self._url, NAME, self._now)

    def _call(
        self, action: str, params: Params, about: str | Text, *, repeatable: bool
    ) -> Reply | Lost:
        if self._denied is not None:
            raise not_again(NAME, self._denied)
        body = json.dumps(dict(params)).encode()
        try:
            answer = self._http.exchange(lambda: self._request(action, body), repeatable=repeatable)
        except HttpFailure as exc:
            return Lost(exc.problem, maybe_done=exc.maybe_done)
        outcome = self._parse(action, answer)
        if isinstance(outcome, Reply) and outcome.is_denied:
            self._denied = error_of(outcome, about)
        return outcome

    def _request(self, action: str, body: bytes) -> Request:
        moment = self._now()
        call = Call(SERVICE, self._host, "/", CONTENT_TYPE, body)
        headers = {
            "Host": self._host,
            "Content-Type": CONTENT_TYPE,
            "User-Agent": f"certferry/{__version__}",
            "X-TC-Action": action,
            "X-TC-Version": VERSION,
            "X-TC-Timestamp": timestamp(moment),
            "X-TC-Language": self._language,
            "Authorization": authorization(self._keys, call, moment),
        }
        return Request("POST", self._url, headers, body)

    def _parse(self, action: str, answer: Answer) -> Reply | Lost:
        """Read an answer: success and failure have status 200 (§2.1)."""
        body = _response_of(answer)
        if body is None:
            problem = Text(
                "Tencent Cloud's answer to {action} cannot be read (HTTP status {status})",
                action=action,
                status=answer.status,
            )
            is_refused = answers_too_many(answer)
            return Lost(problem, maybe_done=not is_refused, pauses=PAUSES_IN_DOUBT)
        error = body.get("Error")
        if not isinstance(error, dict):
            return Reply(action, "", quoted(""), as_text(body.get("RequestId")), body)
        hidden = [self._keys.secret_key]
        code = quoted_code(as_text(error.get("Code")), hidden) or BROKEN
        words = quoted(as_text(error.get("Message")), hidden)
        return Reply(action, code, words, quoted_id(as_text(body.get("RequestId")), hidden))


def says_too_many(answer: Answer) -> bool:
    """Tell whether a call was turned down, undone, because there were too many in a second."""
    if answers_too_many(answer):
        return True
    error = (_response_of(answer) or {}).get("Error")
    return isinstance(error, dict) and as_text(error.get("Code")).startswith(TOO_MANY)


def _response_of(answer: Answer) -> dict[str, Any] | None:
    body = None if is_server_error(answer) else parsed(answer.body)
    response = body.get("Response") if body else None
    return response if isinstance(response, dict) else None


def _pauses(outcome: Reply | Lost) -> tuple[float, ...]:
    if isinstance(outcome, Lost):
        return outcome.pauses
    return PAUSES_IN_DOUBT if outcome.is_in_doubt else ()
