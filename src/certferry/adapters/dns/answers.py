"""A call to a DNS service that answers in JSON: an answer, or a sentence on what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from certferry.adapters.dns.records import OutcomeUnknown
from certferry.adapters.http.client import (
    HttpClient,
    HttpFailure,
    Request,
    ask_the_time,
    is_server_error,
)
from certferry.errors import DnsAccessDenied, DnsError, DnsUnavailable
from certferry.ports.http import Answer
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Call:
    """What is called, for sentences: at which service, which call, and the name it is about. A
    `write` is never made again by itself when it may have been carried out.
    """

    service: str
    action: str
    about: str | Text
    is_write: bool = False

    def lost(self, problem: Text, *, maybe_done: bool) -> Exception:
        """Give what is raised for a call without a usable answer."""
        if self.is_write and maybe_done:
            return OutcomeUnknown(problem)
        return DnsUnavailable(
            Text("{about}: {problem}", about=self.about, problem=problem),
            hint=Text(
                "try again in some minutes, and check the way from this host to {service}",
                service=self.service,
            ),
        )


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """An object that came back, and how."""

    http: Answer
    body: dict[str, Any] = field(repr=False)

    @property
    def is_in_doubt(self) -> bool:
        """Whether the server failed, maybe after it had made the change."""
        return is_server_error(self.http)


@dataclass(frozen=True, slots=True)
class Lost:
    """A call without a usable answer, and how long to wait before each repetition of a read."""

    problem: Text
    maybe_done: bool
    pauses: tuple[float, ...] = ()


def ask(http: HttpClient, prepare: Callable[[], Request], call: Call) -> JsonAnswer:
    """Make a call; reads are repeated within reason. Raises `DnsUnavailable`, and of a write
    `OutcomeUnknown`.
    """
    try:
        answer = http.exchange(prepare, repeatable=not call.is_write)
    except HttpFailure as exc:
        raise call.lost(exc.problem, maybe_done=exc.maybe_done) from exc
    body = parsed(answer.body)
    if body is None:
        problem = Text(
            "{service}'s answer to {action} cannot be read (status {status})",
            service=call.service,
            action=call.action,
            status=answer.status,
        )
        raise call.lost(problem, maybe_done=True)
    return JsonAnswer(answer, body)


def clock_ahead(
    http: HttpClient, url: str, service: str, now: Callable[[], datetime]
) -> timedelta | None:
    """Return how far a service's clock is ahead, by a call without keys: whatever it is answered
    with has a Date. Raises `DnsUnavailable`.
    """
    try:
        return ask_the_time(http, Request("GET", url), now)
    except HttpFailure as failure:
        call = Call(service, "GET", Text("the time of the service"))
        raise call.lost(failure.problem, maybe_done=False) from None


def not_again(service: str, denied: DnsError) -> DnsAccessDenied:
    """Give what is raised in place of a call with keys that were refused before."""
    return DnsAccessDenied(
        Text("{service} is not asked again: {earlier}", service=service, earlier=denied.message),
        hint=denied.hint,
    )


def parsed(raw: bytes) -> dict[str, Any] | None:
    """Read an object, `None` where it is none."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def objects(value: object) -> list[dict[str, Any]]:
    """Give the objects of a list, and none of what is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Read a scalar: strings and whole numbers stand for one another."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
