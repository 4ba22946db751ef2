"""Channels that post messages as JSON to a secret address, and read success or refusal from the
body of the answer.

A service is declared as a `PostedService`, which takes the place of an adapter's module:

BARK = PostedService("Bark", BarkSettings, address_of, fields_of, success=("code", 200), …)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct
from msgspec import field as struct_field

from certferry.adapters.http.exchange import seconds_asked_for
from certferry.core.assessment.notices import Message
from certferry.core.network import is_loopback
from certferry.core.redaction import Secret, quoted
from certferry.errors import ConfigError
from certferry.ports.adapter import (
    NO_HEADERS,
    Answer,
    CodeMeaning,
    Context,
    NoAnswer,
    Variable,
    json_object,
)
from certferry.ports.notifier import AgainAt, Answered, Notifier, RefusedForGood, Sent
from certferry.text import Text

SOON = timedelta(minutes=1)  # until the next attempt after silence or a server error

REQUESTS_PER_SECOND = 5.0  # the lowest limit of the services; a run sends a single message

API_HELP = Text("the address of the service; change it for tests and mirrors only")

_AS_JSON = {"Content-Type": "application/json; charset=utf-8"}


Wait = Callable[[Mapping[str, Any], datetime], datetime]
"""Returns when to send the message again, from the fields of the answer and the present time."""


class Posting:
    """Posts to one service. The secrets in `hidden` are masked in the words of the service."""

    def __init__(self, service: str, context: Context, hidden: Iterable[Secret]) -> None:
        self.service = service
        self.now = context.now
        self._http = context.http(REQUESTS_PER_SECOND)
        self._hidden = tuple(hidden)

    def exchange(
        self, address: Secret, body: bytes, headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer | AgainAt | RefusedForGood:
        """Post JSON; return the answer.

        Return `AgainAt` for a missing answer or a status 5xx, and `RefusedForGood` for a redirect.
        """
        try:
            answer = self._http.send("POST", address.reveal(), {**_AS_JSON, **headers}, body)
        except NoAnswer as failed:
            return AgainAt(self.now() + SOON, failed.problem)
        if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
            redirects = Text("{service} redirects the message", service=self.service)
            return RefusedForGood(
                redirects, Text("write the address to which the service redirects")
            )
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            failed_itself = Text(
                "{service} failed (status {status})", service=self.service, status=answer.status
            )
            return self.later(failed_itself, answer.headers)
        return answer

    def refused(self, code: object, words: object, hint: Text | None = None) -> RefusedForGood:
        """Return the refusal of a message for good, with the service's code and words."""
        return RefusedForGood(self.in_its_words(code, words), hint)

    def in_its_words(self, code: object, words: object) -> Text:
        """Return a sentence on a refusal, with the service's words and code if present."""
        sentence = Text("{service} refused the message: {words} ({code})")
        if not words:
            sentence = Text("{service} refused the message ({code})")
            if code is None:
                sentence = Text("{service} refused the message without a reason")
        shown = {"words": quoted(words, self._hidden), "code": quoted(code, self._hidden)}
        return sentence.filled(service=self.service, **shown)

    def later(self, problem: Text, headers: Mapping[str, str]) -> AgainAt:
        """Return `AgainAt` with the problem: after Retry-After, or after `SOON`."""
        asked = seconds_asked_for(Answer(0, headers, b""))
        return AgainAt(self.now() + (SOON if asked is None else timedelta(seconds=asked)), problem)


class PostedService(Struct, frozen=True):
    """A service as a `ports.adapter.Adapter`."""

    #: The service's name in sentences.
    SERVICE: str
    #: The class of the channel's settings.
    Settings: type[Any]
    #: Returns the address to post to, from the settings and the time.
    address: Callable[[Any, datetime], Secret]
    #: Returns the fields to post, from the settings, the message and the time.
    fields: Callable[[Any, Message, datetime], Mapping[str, object]]
    #: A field of the answer, and the value that means success.
    success: tuple[str, object]
    #: The field with the code of a refusal.
    code_field: str
    #: Fields with the service's own words; the first present field counts.
    words: tuple[str, ...]
    #: When to send the message again after a temporary refusal, by the refusal's code.
    waits: Mapping[int, Wait] = struct_field(default_factory=dict)
    #: Text that the service writes if the messages of the day are used up.
    spent: str | None = None
    #: Advice for the operator, by the refusal's code.
    hints: Mapping[int, Text] = struct_field(default_factory=dict)
    #: Advice for the operator, by a part of the service's own words, where a code has several
    #: reasons. The words count before the code.
    hints_by_words: Mapping[str, Text] = struct_field(default_factory=dict)
    #: Advice for the operator, for other codes.
    hint: Text | None = None
    ENVIRONMENT: tuple[Variable, ...] = ()
    CALLED: Text | None = None
    RANK: int | None = None
    ONLY_SENDS: bool = False

    @property
    def CODES(self) -> Mapping[str, CodeMeaning]:  # noqa: N802 - as in a module
        """The meanings of the service's codes, by code."""
        return {str(int(code)): CodeMeaning(advice) for code, advice in self.hints.items()}

    def connect(self, settings: Any, context: Context, /) -> Notifier:
        """See `ports.adapter.Adapter.connect`."""
        self.address(settings, context.now())  # raises for a wrong address
        keys = (getattr(settings, key.name) for key in dataclasses.fields(settings))
        hidden = [value for value in keys if isinstance(value, Secret)]
        return _PostedChannel(self, settings, Posting(self.SERVICE, context, hidden))


class _PostedChannel(Struct, frozen=True):
    service: PostedService
    settings: Any
    posting: Posting

    def send(self, message: Message, /) -> Answered:
        """See `ports.notifier.Notifier.send`."""
        service, now = self.service, self.posting.now()
        body = json.dumps(service.fields(self.settings, message, now), ensure_ascii=False)
        answer = self.posting.exchange(service.address(self.settings, now), body.encode())
        if not isinstance(answer, Answer):
            return answer
        reply = json_object(answer.body)
        if reply is None:
            bad = Text("{service} gave an unexpected answer (status {status})")
            problem = bad.filled(service=service.SERVICE, status=answer.status)
            return RefusedForGood(problem, Text("check the channel's address"))
        return self._judged(reply)

    def _judged(self, reply: Mapping[str, Any]) -> Answered:
        service = self.service
        name, value = service.success
        if _same(reply.get(name), value):
            return Sent()
        code = reply.get(service.code_field)
        code = code if type(code) is int else None
        words = next((reply[word] for word in service.words if reply.get(word)), None)
        wait = service.waits.get(code or 0)
        if service.spent is not None and service.spent in str(words):
            wait = next_day
        if wait is not None:
            now = self.posting.now()
            return AgainAt(wait(reply, now), self.posting.in_its_words(code, words))
        by_words = (hint for part, hint in service.hints_by_words.items() if part in str(words))
        hint = next(by_words, service.hints.get(code or 0, service.hint))
        return self.posting.refused(code, words, hint)


def _same(found: object, wanted: object) -> bool:
    """Return whether two JSON values are equal. In JSON, 0 is not false."""
    return type(found) is type(wanted) and found == wanted


def after(duration: timedelta) -> Wait:
    """Make a `Wait` of a fixed duration."""
    return lambda _, now: now + duration


def next_day(_: Mapping[str, Any], now: datetime) -> datetime:
    """Return the next midnight in China: the services count messages by days in China."""
    china = now + timedelta(hours=8)
    midnight = china.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return midnight - timedelta(hours=8)


def secret_address(url: Secret, api: str = "", usual: str = "") -> Secret:
    """Return the address to post to. If `api` differs from the `usual` base URL, return the path
    and query of `url` below `api`.

    Raises `ConfigError` for a wrong address.
    """
    parts = must_be_address("url", url.reveal())
    if api == usual:
        return url
    query = f"?{parts.query}" if parts.query else ""
    return Secret(f"{api.rstrip('/')}{parts.path}{query}")


def must_be_address(key: str, address: str) -> SplitResult:
    """Return an address's parts.

    Raises `ConfigError` for an incomplete address, for a user name or password in the address, and
    for plain http to another machine.
    """
    try:
        parts = urlsplit(address)
        complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        sentence = Text(
            "`{key}` must be a complete address, for example https://host/path", key=key
        )
        raise ConfigError(sentence)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(Text("`{key}` must not hold a user name or password", key=key))
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        sentence = Text("`{key}` must begin with https://; http:// is only for loopback addresses")
        raise ConfigError(sentence.filled(key=key))
    return parts
