"""A message posted to a service, once, at a secret address. The body of the answer decides."""

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

SOON = timedelta(minutes=1)  # after which a service that did not answer, or broke, is tried again

REQUESTS_PER_SECOND = 5.0  # what Feishu takes; a run sends one message

API_HELP = Text("the address of the service; change it for tests and mirrors only")

_AS_JSON = {"Content-Type": "application/json; charset=utf-8"}


@dataclass(frozen=True)
class PostReply:
    """What a service said: its status, and the fields of its JSON."""

    status: int
    fields: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    def number(self, name: str) -> int | None:
        """Return a field that should be a number; `None` if it is not."""
        value = self.fields.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


Judge = Callable[[PostReply], Answered]


class Posting:
    """The way to one service. `hidden` is not shown of its words."""

    def __init__(self, service: str, context: Context, hidden: Iterable[Secret]) -> None:
        self.service = service
        self.now = context.now
        self._http = context.http(REQUESTS_PER_SECOND)
        self._hidden = tuple(hidden)

    def send(self, address: Secret, fields: Mapping[str, object], judge: Judge) -> Answered:
        """Post fields as JSON, and judge the JSON that comes back."""
        body = json.dumps(fields, ensure_ascii=False).encode()
        answer = self.exchange(address, body)
        if not isinstance(answer, Answer):
            return answer
        found = json_object(answer.body)
        if found is None:
            bad = Text("{service} answered with something else than its API does (status {status})")
            problem = bad.filled(service=self.service, status=answer.status)
            return RefusedForGood(problem, Text("check the address of the channel"))
        return judge(PostReply(answer.status, found, answer.headers))

    def exchange(
        self, address: Secret, body: bytes, headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer | AgainAt | RefusedForGood:
        """Post JSON; return the answer, or what no answer, a redirect and a status 5xx mean."""
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

    def refused(self, code: object, said: object, hint: Text | None = None) -> RefusedForGood:
        """Return that the service refused the message, with its code and its words."""
        return RefusedForGood(self.in_its_words(code, said), hint)

    def in_its_words(self, code: object, said: object) -> Text:
        """Return the service's words, where it said anything."""
        sentence = Text("{service} refused the message: {words} ({code})")
        if not said:
            sentence = Text("{service} refused the message ({code})")
            if code is None:
                sentence = Text("{service} refused the message and did not say why")
        shown = {"words": quoted(said, self._hidden), "code": quoted(code, self._hidden)}
        return sentence.filled(service=self.service, **shown)

    def later(
        self, problem: Text, headers: Mapping[str, str] = NO_HEADERS, usual: timedelta = SOON
    ) -> AgainAt:
        """Return when the message may be sent again: as the service says, or after a usual time."""
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
    """A `ports.adapter.Adapter` as a value, where one module has several."""

    SERVICE: str
    Settings: type[Any]
    connect: Callable[[Any, Context], Notifier]
    CODES: Mapping[str, CodeMeaning] = struct_field(default_factory=dict)
    ENVIRONMENT: tuple[Variable, ...] = ()


def next_day(now: datetime) -> datetime:
    """Return when the day ends in China, where these services count their days."""
    china = now + timedelta(hours=8)
    midnight = china.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return midnight - timedelta(hours=8)


def secret_address(written: Secret, api: str = "", usual: str = "") -> Secret:
    """Return the address, moved to `api` if that is not `usual`. Raises `ConfigError`."""
    parts = must_be_address("url", written.reveal())
    if api == usual:
        return written
    query = f"?{parts.query}" if parts.query else ""
    return Secret(f"{api.rstrip('/')}{parts.path}{query}")


def must_be_address(key: str, address: str) -> SplitResult:
    """Return an address's parts. Raises `ConfigError` for a wrong one, or http to elsewhere."""
    try:
        parts = urlsplit(address)
        complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        said = Text("`{key}` must be the whole address, such as https://host/path", key=key)
        raise ConfigError(said)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(Text("`{key}` must not hold a user name or password", key=key))
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        said = Text(
            "`{key}` must begin with https://; http:// is for addresses of this machine only"
        )
        raise ConfigError(said.filled(key=key))
    return parts
