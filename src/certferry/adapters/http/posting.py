"""Messages posted as JSON to a service at a secret address. The answer's body decides.

An adapter of such a service builds a channel from three functions:

    PostedChannel(Posting(SERVICE, context, hidden=[url]), lambda: url, fields_of, judge)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct
from msgspec import field as struct_field

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
from certferry.ports.notifier import AgainAt, Answered, Notifier, RefusedForGood
from certferry.text import Text

SOON = timedelta(minutes=1)  # until the next attempt after silence or a server error

REQUESTS_PER_SECOND = 5.0  # Feishu's limit; a run sends a single message

API_HELP = Text("the address of the service; change it for tests and mirrors only")

_AS_JSON = {"Content-Type": "application/json; charset=utf-8"}


@dataclass(frozen=True)
class PostReply:
    """A service's answer."""

    status: int
    #: The fields of the JSON object.
    fields: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    def number(self, name: str) -> int | None:
        """Return a field's integer; `None` for any other value."""
        value = self.fields.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


Judge = Callable[[PostReply], Answered]


class Posting:
    """Posts to one service. Secrets in `hidden` are masked in the service's words."""

    def __init__(self, service: str, context: Context, hidden: Iterable[Secret]) -> None:
        self.service = service
        self.now = context.now
        self._http = context.http(REQUESTS_PER_SECOND)
        self._hidden = tuple(hidden)

    def send(self, address: Secret, fields: Mapping[str, object], judge: Judge) -> Answered:
        """Post fields as JSON; return the judgement on the JSON of the answer."""
        body = json.dumps(fields, ensure_ascii=False).encode()
        answer = self.exchange(address, body)
        if not isinstance(answer, Answer):
            return answer
        reply_fields = json_object(answer.body)
        if reply_fields is None:
            bad = Text("{service} answered with something else than its API does (status {status})")
            problem = bad.filled(service=self.service, status=answer.status)
            return RefusedForGood(problem, Text("check the address of the channel"))
        return judge(PostReply(answer.status, reply_fields, answer.headers))

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
            return RefusedForGood(redirects, Text("write the address that it leads to"))
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            failed_itself = Text(
                "{service} failed (status {status})", service=self.service, status=answer.status
            )
            return self.later(failed_itself, answer.headers)
        return answer

    def refused(self, code: object, words: object, hint: Text | None = None) -> RefusedForGood:
        """Return the service's final refusal of the message, with code and words."""
        return RefusedForGood(self.in_its_words(code, words), hint)

    def in_its_words(self, code: object, words: object) -> Text:
        """Return a sentence on a refusal, with the service's words and code if present."""
        sentence = Text("{service} refused the message: {words} ({code})")
        if not words:
            sentence = Text("{service} refused the message ({code})")
            if code is None:
                sentence = Text("{service} refused the message and did not say why")
        shown = {"words": quoted(words, self._hidden), "code": quoted(code, self._hidden)}
        return sentence.filled(service=self.service, **shown)

    def later(
        self, problem: Text, headers: Mapping[str, str] = NO_HEADERS, usual: timedelta = SOON
    ) -> AgainAt:
        """Return when to send the message again: after Retry-After, or after the `usual` time."""
        from certferry.adapters.http.client import seconds_asked_for

        asked = seconds_asked_for(Answer(0, headers, b""))
        return AgainAt(self.now() + (usual if asked is None else timedelta(seconds=asked)), problem)


class PostedChannel(Struct, frozen=True):
    """A `ports.notifier.Notifier` that posts the `fields` of each message as JSON."""

    posting: Posting
    address: Callable[[], Secret]
    fields: Callable[[Message], Mapping[str, object]]
    judge: Judge

    def send(self, message: Message, /) -> Answered:
        return self.posting.send(self.address(), self.fields(message), self.judge)


class PostedAdapter(Struct, frozen=True):
    """A `ports.adapter.Adapter` as a value, for a module with several adapters."""

    SERVICE: str
    Settings: type[Any]
    connect: Callable[[Any, Context], Notifier]
    CODES: Mapping[str, CodeMeaning] = struct_field(default_factory=dict)
    ENVIRONMENT: tuple[Variable, ...] = ()
    CALLED: Text | None = None
    RANK: int | None = None
    ONLY_SENDS: bool = False


def next_day(now: datetime) -> datetime:
    """Return the end of the day in China, because these services count by China's days."""
    china = now + timedelta(hours=8)
    midnight = china.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return midnight - timedelta(hours=8)


def secret_address(url: Secret, api: str = "", usual: str = "") -> Secret:
    """Return the address, moved below the base URL `api` if `api` differs from `usual`.

    Raises `ConfigError` for a wrong address.
    """
    parts = must_be_address("url", url.reveal())
    if api == usual:
        return url
    query = f"?{parts.query}" if parts.query else ""
    return Secret(f"{api.rstrip('/')}{parts.path}{query}")


def must_be_address(key: str, address: str) -> SplitResult:
    """Return an address's parts.

    Raises `ConfigError` for an incomplete address, a user name or password in the address, and
    plain http to another machine.
    """
    try:
        parts = urlsplit(address)
        complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        sentence = Text("`{key}` must be the whole address, such as https://host/path", key=key)
        raise ConfigError(sentence)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(Text("`{key}` must not hold a user name or password", key=key))
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        sentence = Text(
            "`{key}` must begin with https://; http:// is for addresses of this machine only"
        )
        raise ConfigError(sentence.filled(key=key))
    return parts
