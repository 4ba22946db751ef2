"""Calls to a DNS service with a JSON API, and the meanings of the service's codes."""

from __future__ import annotations

import itertools
import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from msgspec import Struct

from certferry import errors
from certferry.adapters.dns import txt_records
from certferry.adapters.http import exchange, http_client
from certferry.ports.adapter import Answer, CodeMeaning, Context
from certferry.text import Quoted, Text

MOST_PAGES = 200  # pages of one list: ten thousand zones and more

EXCLUDED = Text(
    "another record with the same name conflicts: remove the other record, or point a CNAME "
    "there to a zone where the challenge can be written"
)
TOO_MANY_CALLS = Text("the account has made too many calls: wait a few minutes")
LATER = Text("try again in a few minutes")

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A service's answer to a call."""

    #: The call's name.
    action: str
    #: The service's error code; empty for a success.
    code: str
    #: The service's own words.
    words: Quoted
    #: The fields of the answer.
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: The HTTP status.
    status: int = HTTPStatus.OK
    #: The HTTP headers.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The service's id of the request, for its support.
    request_id: str = ""
    #: Whether the service may have carried out the write although the code reports an error.
    is_in_doubt: bool = False
    #: How a read with this answer is repeated: the seconds to wait before the first repetition, the
    #: second, and so on. Empty for an answer that decides.
    pauses: tuple[float, ...] = ()


class Lost(Struct, frozen=True):
    """A call without a usable answer."""

    #: Why no usable answer came.
    problem: Text
    #: Whether the service may have carried out the call.
    maybe_done: bool
    #: How a read is repeated; see `Reply.pauses`.
    pauses: tuple[float, ...] = ()


@dataclass(frozen=True)
class Codes:
    """The meanings of a service's error codes. Each kind of error has a table with the hint for
    each code.

    The key `A` of a table also covers the code `A.B`, and the longest matching key decides.
    Messages may contain the placeholders about, action, code, words, status and request.
    """

    #: The message for every code outside `sentences`.
    sentence: Text
    #: The hint for unknown codes, which become `DnsRejected`.
    otherwise: Text
    #: Hints for `DnsAccessDenied`.
    denied: Mapping[str, Text]
    #: Hints for `DnsRejected`.
    rejected: Mapping[str, Text]
    #: Hints for `DnsUnavailable`.
    unavailable: Mapping[str, Text] = field(default_factory=dict)
    #: Hints for `ZoneNotFound`.
    no_zone: Mapping[str, Text] = field(default_factory=dict)
    #: Messages by exact code, in place of `sentence`.
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
        """The hint for each code."""
        return {code: CodeMeaning(hint) for code, (_, hint) in self._kinds.items()}

    def knows(self, code: str) -> bool:
        """Return whether a table has a key for the code."""
        return any(family in self._kinds for family in families(code))

    def error(self, reply: Reply, about: str | Text) -> errors.DnsError:
        """Return the error for a code; `about` is the name or task of the call."""
        matches = (self._kinds[family] for family in families(reply.code) if family in self._kinds)
        kind, hint = next(matches, (errors.DnsRejected, self.otherwise))
        places = {"about": about, "action": reply.action, "code": reply.code, "words": reply.words}
        sentence = self.sentences.get(reply.code, self.sentence)
        message = sentence.filled(**places, status=reply.status, request=reply.request_id or "-")
        return kind(message, hint=hint)


def families(code: str) -> Iterator[str]:
    """Yield a code such as `A.B.C`, then the families `A.B` and `A`."""
    while code:
        yield code
        code = code.rpartition(".")[0]


class JsonTxtService(txt_records.TxtService):
    """An account at a DNS service with a JSON API. Thread-safe.

    Once the keys are refused at a `decisive` call, every later call raises `DnsAccessDenied`,
    without sending the keys again.
    """

    #: The calls at which a refusal of access condemns the keys; empty: all calls.
    decisive: Collection[str] = ()
    #: Codes for a missing record.
    gone: Collection[str] = ()
    #: Seconds before each repetition of a read with an unreadable answer.
    pauses_in_doubt: tuple[float, ...] = ()

    def __init__(
        self,
        service: str,
        codes: Codes,
        http: http_client.HttpClient,
        clock: exchange.Request,
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
        self._zones: list[txt_records.Zone] | None = None

    @abstractmethod
    def request(self, action: str, **params: Any) -> exchange.Request:
        """Return the HTTP request of a call.

        Each attempt asks for a new request, because a signature may be valid only once.
        """

    @abstractmethod
    def reply(self, action: str, answer: Answer) -> Reply | None:
        """Read an answer; `None` for an answer that does not come from the service."""

    @abstractmethod
    def list_zones(self, about: str | Text) -> Iterable[txt_records.Zone]:
        """Read every zone of the account from the service."""

    def error(self, reply: Reply, about: str | Text) -> errors.DnsError:
        """Return the error for an answer with an error code."""
        return self._codes.error(reply, about)

    def zones(self, about: str | Text = txt_records.ALL_ZONES) -> list[txt_records.Zone]:
        """See `TxtService.zones`. Malformed names are dropped, because messages show names."""
        with self._listing:
            if self._zones is None:
                self._zones = [
                    zone for zone in self.list_zones(about) if txt_records.is_zone_name(zone.name)
                ]
            return self._zones

    def zones_above(self, name: str) -> Iterable[txt_records.Zone]:
        """See `TxtService.zones_above`."""
        return txt_records.zones_holding(name, self.zones(about=name))

    def clock_ahead(self) -> timedelta | None:
        """See `TxtService.clock_ahead`. A request without keys is sent, for its Date header."""
        try:
            return http_client.ask_the_time(self._http, self._clock, self._now)
        except exchange.HttpFailure as failure:
            raise self._lost(Text("the time of the service"), failure.problem) from None

    def read(self, action: str, about: str | Text, **params: Any) -> Reply:
        """Make a call that reads, and return the answer, perhaps with an error code. If the answer
        has `pauses`, the call is repeated. Raises `DnsError` for refused keys and without a usable
        answer.
        """
        for attempt in itertools.count():
            outcome = self._call(action, about, params, is_write=False)
            if attempt >= len(outcome.pauses):
                break
            self._pause(outcome.pauses[attempt])
        if isinstance(outcome, Lost):
            raise self._lost(about, outcome.problem)
        return outcome

    def write(self, action: str, about: str | Text, **params: Any) -> Reply:
        """Make a call that writes, and return the answer, perhaps with an error code.

        Raises `OutcomeUnknown` if the service may have carried out the write although no success
        was reported; the caller then searches for the record. Raises `DnsError` if nothing was
        written.
        """
        outcome = self._call(action, about, params, is_write=True)
        if isinstance(outcome, Reply):
            if outcome.is_in_doubt:
                raise txt_records.OutcomeUnknown(self.error(outcome, about).message)
            return outcome
        if outcome.maybe_done:
            raise txt_records.OutcomeUnknown(outcome.problem)
        raise self._lost(about, outcome.problem)

    def settled(self, reply: Reply, about: str | Text) -> Mapping[str, Any]:
        """Return the body of a successful answer, or raise the error for the code."""
        if reply.code:
            raise self.error(reply, about)
        return reply.body

    def unless_gone(self, reply: Reply, about: str) -> Mapping[str, Any] | None:
        """Return the body of an answer about one record; `None` if the record is gone."""
        return None if reply.code in self.gone else self.settled(reply, about)

    def pages(
        self,
        page: Callable[[int, int], tuple[list[Item], bool]],
        about: str | Text,
        key: Callable[[Item], str] = repr,
    ) -> list[Item]:
        """Read all pages of a list. Raises `DnsUnavailable` for an endless list.

        `page(number, before)` takes the page's number, from 1, and the count of items so far, and
        returns the page's items and whether the page is the last. `key` identifies an item, so that
        an item on two pages counts once.
        """
        listed: dict[str, Item] = {}
        for number in range(1, MOST_PAGES + 1):
            before = len(listed)
            items, is_last = page(number, before)
            listed.update((key(item), item) for item in items)
            if is_last:
                return list(listed.values())
            if len(listed) == before:
                break
        sentence = Text("{about}: a list at {service} never ends")
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
        except exchange.HttpFailure as failure:
            return Lost(failure.problem, maybe_done=failure.maybe_done)
        reply = self.reply(action, answer)
        if reply is None:
            sentence = Text("{service}'s answer to {action} cannot be read (HTTP status {status})")
            problem = sentence.filled(service=self._service, action=action, status=answer.status)
            pauses = self.pauses_in_doubt if answer.status == HTTPStatus.OK else ()
            return Lost(
                problem, maybe_done=not exchange.surely_undone(answer.status), pauses=pauses
            )
        if reply.code:
            error = self.error(reply, about)
            if isinstance(error, errors.DnsAccessDenied):
                self._denied = error if not self.decisive or action in self.decisive else None
                raise error
        return reply

    def _lost(self, about: str | Text, problem: Text) -> errors.DnsUnavailable:
        message = Text("{about}: {problem}", about=about, problem=problem)
        hint = Text(
            "try again in a few minutes, and check the network between this host and {service}"
        )
        return errors.DnsUnavailable(message, hint=hint.filled(service=self._service))


def must_be_positive(key: str, value: float, service: str, advice: Text) -> None:
    """Raise `ConfigError` for a rate of zero or less."""
    if not value > 0:  # also catches NaN
        sentence = Text("`{key}` of the {service} account must be above zero")
        raise errors.ConfigError(sentence.filled(key=key, service=service), hint=advice)


def not_again(service: str, denied: errors.DnsError) -> errors.DnsAccessDenied:
    """Return the error to raise in place of a call with refused keys."""
    return errors.DnsAccessDenied(
        Text(
            "certferry does not ask {service} again: {earlier}",
            service=service,
            earlier=denied.message,
        ),
        hint=denied.hint,
    )


def object_in(outer: object, key: str) -> dict[str, Any]:
    """Return the object under a key; empty if the value is not an object."""
    value = outer.get(key) if isinstance(outer, Mapping) else None
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Item]:
    """Return the objects in a list; empty if the value is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return a string or a whole number as text; empty for any other value."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
