"""Calls to a DNS service that answers in JSON, and what its codes mean."""

from __future__ import annotations

import itertools
import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from certferry import errors
from certferry.adapters.dns import records
from certferry.adapters.http import client
from certferry.ports.adapter import Answer, CodeMeaning, Context
from certferry.text import Quoted, Text

MOST_PAGES = 200  # of a list: ten thousand zones and more

EXCLUDED = Text(
    "another record at this name excludes it: remove that record, or let a CNAME there lead to a"
    " zone in which the challenge can be written"
)
TOO_MANY_CALLS = Text("the account has made too many calls: let it rest for some minutes")
LATER = Text("try again in some minutes")

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answered; `code` is empty for a success. `pauses`: before each repetition."""

    action: str
    code: str
    words: Quoted
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    request_id: str = ""
    is_in_doubt: bool = False
    pauses: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """A call without a usable answer, and the seconds before each repetition of a read."""

    problem: Text
    maybe_done: bool
    pauses: tuple[float, ...] = ()


@dataclass(frozen=True)
class Codes:
    """What the codes of a service mean, with the hint for each; `otherwise` is that for the others.
    `A` stands for `A.B` as well, and the longest that is known decides. `sentence`, and what
    `sentences` has in its place, has the places about, action, code, words, status and request.
    """

    sentence: Text
    otherwise: Text
    denied: Mapping[str, Text]
    rejected: Mapping[str, Text]
    unavailable: Mapping[str, Text] = field(default_factory=dict)
    no_zone: Mapping[str, Text] = field(default_factory=dict)
    sentences: Mapping[str, Text] = field(default_factory=dict)

    @property
    def _kinds(self) -> dict[str, tuple[type[errors.DnsError], Text]]:
        tables: tuple[tuple[type[errors.DnsError], Mapping[str, Text]], ...] = (
            (errors.ZoneNotFound, self.no_zone),
            (errors.DnsAccessDenied, self.denied),
            (errors.DnsRejected, self.rejected),
            (errors.DnsUnavailable, self.unavailable),
        )
        return {code: (kind, hint) for kind, table in tables for code, hint in table.items()}

    @property
    def meanings(self) -> Mapping[str, CodeMeaning]:
        """Return the advice for each code."""
        return {code: CodeMeaning(hint) for code, (_, hint) in self._kinds.items()}

    def knows(self, code: str) -> bool:
        """Return whether there is advice for a code, or for its family."""
        return any(family in self._kinds for family in _families(code))

    def error(self, reply: Reply, about: str | Text) -> errors.DnsError:
        """Return the error that a code stands for; `about` is the name that was worked on."""
        found = (self._kinds[one] for one in _families(reply.code) if one in self._kinds)
        kind, hint = next(found, (errors.DnsRejected, self.otherwise))
        said = {"about": about, "action": reply.action, "code": reply.code, "words": reply.words}
        sentence = self.sentences.get(reply.code, self.sentence)
        message = sentence.filled(**said, status=reply.status, request=reply.request_id or "-")
        return kind(message, hint=hint)


def _families(code: str) -> Iterator[str]:
    """Return a code, and each family that it is of, the longest first."""
    while code:
        yield code
        code = code.rpartition(".")[0]


class JsonTxtService(records.TxtService):
    """One account at a service whose API answers in JSON. Safe to share between threads.

    Keys that were refused are not sent again, unless the call is not one of `decisive`. `gone` are
    the codes for a missing record, `pauses_in_doubt` the seconds before each repetition of a read.
    """

    decisive: Collection[str] = ()
    gone: Collection[str] = ()
    pauses_in_doubt: tuple[float, ...] = ()

    def __init__(
        self,
        service: str,
        codes: Codes,
        http: client.HttpClient,
        clock: client.Request,
        context: Context,
    ) -> None:
        self._service = service
        self._codes = codes
        self._http = http
        self._clock = clock
        self._pause = context.pause
        self._now = context.now
        self._denied: errors.DnsError | None = None
        self._listing = threading.Lock()
        self._zones: list[records.Zone] | None = None

    @abstractmethod
    def request(self, action: str, **params: Any) -> client.Request:
        """Write a call down, anew for each attempt: a signature may be good for one."""

    @abstractmethod
    def reply(self, action: str, answer: Answer) -> Reply | None:
        """Read an answer; `None` where it is not one of the service's."""

    @abstractmethod
    def list_zones(self, about: str | Text) -> Iterable[records.Zone]:
        """Read every zone of the account from the service."""

    def error(self, reply: Reply, about: str | Text) -> errors.DnsError:
        """Return the error that an answer stands for."""
        return self._codes.error(reply, about)

    def zones(self, about: str | Text = records.ALL_ZONES) -> list[records.Zone]:
        """See `TxtService.zones`. What cannot be a zone's name is shown to no person."""
        with self._listing:
            if self._zones is None:
                self._zones = [
                    one for one in self.list_zones(about) if records.is_zone_name(one.name)
                ]
            return self._zones

    def zones_above(self, name: str) -> Iterable[records.Zone]:
        """See `TxtService.zones_above`."""
        return records.zones_holding(name, self.zones(about=name))

    def clock_ahead(self) -> timedelta | None:
        """See `TxtService.clock_ahead`: by a request without keys, whose answer has a Date."""
        try:
            return client.ask_the_time(self._http, self._clock, self._now)
        except client.HttpFailure as failure:
            raise self._lost(Text("the time of the service"), failure.problem) from None

    def read(self, action: str, about: str | Text, **params: Any) -> Reply:
        """Ask until there is an answer, within reason."""
        for attempt in itertools.count():
            came = self._call(action, about, params, is_write=False)
            if attempt >= len(came.pauses):
                break
            self._pause(came.pauses[attempt])
        if isinstance(came, Lost):
            raise self._lost(about, came.problem)
        return came

    def write(self, action: str, about: str | Text, **params: Any) -> Reply:
        """Ask once. Raises `OutcomeUnknown` when it may have been done or not."""
        came = self._call(action, about, params, is_write=True)
        if isinstance(came, Reply):
            if came.is_in_doubt:
                raise records.OutcomeUnknown(self.error(came, about).message)
            return came
        if came.maybe_done:
            raise records.OutcomeUnknown(came.problem)
        raise self._lost(about, came.problem)

    def settled(self, reply: Reply, about: str | Text) -> Mapping[str, Any]:
        """Return what a call brought. Raises the error that its code stands for."""
        if reply.code:
            raise self.error(reply, about)
        return reply.body

    def unless_gone(self, reply: Reply, about: str) -> Mapping[str, Any] | None:
        """Return what a call about one record brought, `None` where that is gone."""
        return None if reply.code in self.gone else self.settled(reply, about)

    def pages(
        self,
        page: Callable[[int, int], tuple[list[Item], bool]],
        about: str | Text,
        key: Callable[[Item], str] = repr,
    ) -> list[Item]:
        """Read a list to its end. `page` returns a page's items, by its number and how many came
        before, and whether it is the last. Raises `DnsUnavailable` for a list without an end.
        """
        found: dict[str, Item] = {}
        for number in range(1, MOST_PAGES + 1):
            before = len(found)
            items, is_last = page(number, before)
            found.update((key(item), item) for item in items)
            if is_last:
                return list(found.values())
            if len(found) == before:
                break
        sentence = Text("{about}: a list at {service} does not come to an end")
        raise errors.DnsUnavailable(sentence.filled(about=about, service=self._service))

    def _call(
        self, action: str, about: str | Text, params: Mapping[str, Any], *, is_write: bool
    ) -> Reply | Lost:
        if self._denied is not None:
            raise not_again(self._service, self._denied)
        try:
            answer = self._http.exchange(
                lambda: self.request(action, **params), repeatable=not is_write
            )
        except client.HttpFailure as failure:
            return Lost(failure.problem, maybe_done=failure.maybe_done)
        reply = self.reply(action, answer)
        if reply is None:
            said = Text("{service}'s answer to {action} cannot be read (HTTP status {status})")
            problem = said.filled(service=self._service, action=action, status=answer.status)
            pauses = self.pauses_in_doubt if answer.status == HTTPStatus.OK else ()
            return Lost(problem, maybe_done=not client.surely_undone(answer.status), pauses=pauses)
        if reply.code:
            error = self.error(reply, about)
            if isinstance(error, errors.DnsAccessDenied):
                self._denied = error if not self.decisive or action in self.decisive else None
                raise error
        return reply

    def _lost(self, about: str | Text, problem: Text) -> errors.DnsUnavailable:
        said = Text("{about}: {problem}", about=about, problem=problem)
        hint = Text("try again in some minutes, and check the way from this host to {service}")
        return errors.DnsUnavailable(said, hint=hint.filled(service=self._service))


def must_be_positive(key: str, value: float, service: str, advice: Text) -> None:
    """Raise `ConfigError` for a rate that allows nothing."""
    if not value > 0:  # nor is NaN
        sentence = Text("`{key}` of the {service} account is not above zero")
        raise errors.ConfigError(sentence.filled(key=key, service=service), hint=advice)


def not_again(service: str, denied: errors.DnsError) -> errors.DnsAccessDenied:
    """Return what is raised in place of a call with keys that were refused before."""
    return errors.DnsAccessDenied(
        Text("{service} is not asked again: {earlier}", service=service, earlier=denied.message),
        hint=denied.hint,
    )


def object_in(outer: object, key: str) -> dict[str, Any]:
    """Return the object under a key, or an empty one."""
    value = outer.get(key) if isinstance(outer, Mapping) else None
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Item]:
    """Return the objects of a list; nothing if the value is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Read a scalar: strings and whole numbers stand for one another."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
