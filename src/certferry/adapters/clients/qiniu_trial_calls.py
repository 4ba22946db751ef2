"""Reading calls to Qiniu, each made once by one way, and told by status and shape alone
(docs/facts/qiniu.md §10).

What an account holds has names, and none of them gets into what is told: paths are told with
BUCKET, DOMAIN and ID, answers by their kind and number, a server's words only where they are words.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from certferry.adapters.clients.counted_pace import CountedPace
from certferry.adapters.clients.http import HttpClient, HttpFailure, Request
from certferry.adapters.clients.http_problems import Contact, Timeouts
from certferry.adapters.clients.pacing import Pacer
from certferry.adapters.clients.qiniu_errors import IAM_PREFIX
from certferry.adapters.clients.qiniu_records import decode
from certferry.adapters.clients.qiniu_reply import read_reply
from certferry.adapters.clients.qiniu_signing import Keys, sign_qbox, sign_qiniu
from certferry.adapters.clients.qiniu_ways import CallGroup, Hosts, Scheme, Way, ways_of
from certferry.adapters.clients.server_time import ahead_of
from certferry.ports.http import Answer
from certferry.ports.progress import Pause
from certferry.text import Text, verbatim

REQUESTS_PER_SECOND = 5  # to all hosts together: the least that any of them takes (§9)
TIMEOUTS = Timeouts(
    connect=timedelta(seconds=5), read=timedelta(seconds=10), whole=timedelta(seconds=20)
)

# A server that quotes could quote a name: those have dots, digits or hyphens, or are long.
_WORDS = re.compile(r"[A-Za-z]{1,15}(?:[ ,:;]{1,2}[A-Za-z]{1,15}){0,11}")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,29}")
_ABSENT = object()
_ANYTHING: Any = Any


class NotAsked(Exception):
    """Nothing was sent, since Qiniu has answered none of the first calls with success."""


@dataclass(frozen=True, slots=True)
class Question:
    """A GET. `told` is its path without a name of the account's, `names` are those that are in it;
    `field` says where in the answer the list is, "" for an answer that is one.
    """

    told: str
    path: str = ""
    field: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What came of a question. `ahead` is how far Qiniu's clock was before this machine's, where
    it told the time. Of what came, only `told` is for people.
    """

    question: Question
    way: Way
    came: Answer | HttpFailure
    ahead: timedelta | None = None

    @property
    def status(self) -> int | None:
        """Return the status, `None` where nothing came."""
        return self.came.status

    @property
    def is_success(self) -> bool:
        """Return whether Qiniu did what it was asked."""
        return isinstance(self.came, Answer) and read_reply(self.came).is_success

    @property
    def is_answered(self) -> bool | None:
        """Return whether this way is one for the question: not with 401 or 404, which say no more
        than that. Any other refusal tells nothing of the way.
        """
        if self.is_success:
            return True
        is_own = isinstance(self.came, Answer) and read_reply(self.came).has_own_code
        refused = self.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND}
        return False if refused and not is_own else None

    @property
    def content(self) -> Any:
        """Return what a success holds, `None` for anything else. Raises `ValueError`."""
        if not isinstance(self.came, Answer) or not self.is_success:
            return None
        return decode(self.came.body, _ANYTHING)

    @property
    def has_null(self) -> bool:
        """Return whether null stands where a list does."""
        return self.is_success and self._list is None

    @property
    def has_empty(self) -> bool:
        """Return whether the list is there, and empty."""
        return self.is_success and self._list == []

    @property
    def items(self) -> list[Any]:
        """Return the members of the list, none where there is no list."""
        found = self._list if self.is_success else None
        return found if isinstance(found, list) else []

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Return the members that are objects."""
        return [item for item in self.items if isinstance(item, dict)]

    @property
    def told(self) -> Text:
        """Return the call, its host, and the answer's status and shape."""
        call, way = f"GET {self.question.told}", f"{self.way.host} ({self.way.scheme})"
        return Text("{call} at {way}: {answer}", call=call, way=way, answer=self._answer)

    @property
    def _list(self) -> Any:
        content, field = self.content, self.question.field
        if not field:
            return content
        return content.get(field, _ABSENT) if isinstance(content, dict) else _ABSENT

    @property
    def _answer(self) -> Text:
        if isinstance(self.came, HttpFailure):
            return _told_failure(self.came)
        return self._shape if self.is_success else _told_refusal(self.came, self.question.names)

    @property
    def _shape(self) -> Text:
        try:
            shape = _shape(self._list)
        except ValueError:
            shape = Text("no JSON")
        field = self.question.field
        shown = Text("{field}: {shape}", field=field, shape=shape) if field else shape
        return Text("{status}, {shape}", status=self.status, shape=shown)


class QiniuReader:
    """Asks one account's questions, each once by each way; an answer is kept. `now` is the wall
    clock that requests are dated by, `clock` counts seconds and never goes back.

    A host without a connection is not asked again.
    """

    def __init__(
        self,
        keys: Keys,
        hosts: Hosts,
        *,
        pause: Pause,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.with_iam_key = keys.access_key.reveal().startswith(IAM_PREFIX)
        self._keys = keys
        self._now = now
        self._ways = ways_of(hosts)
        self._pace = CountedPace(Pacer(REQUESTS_PER_SECOND, clock=clock, pause=pause))
        self._http = HttpClient(pace=self._pace, pause=pause, attempts=1, timeouts=TIMEOUTS)
        self._seen: dict[tuple[Question, Way], Seen] = {}
        self._unreached: dict[str, HttpFailure] = {}
        self._is_closed = False

    @property
    def requests(self) -> int:
        """Return how many were sent."""
        return self._pace.requests

    @property
    def seen(self) -> tuple[Seen, ...]:
        """Return everything so far, in the order in which it was asked."""
        return tuple(self._seen.values())

    @property
    def let_in(self) -> bool:
        """Return whether anything was answered with success."""
        return any(seen.is_success for seen in self._seen.values())

    def close(self) -> None:
        """Send nothing any more; the report has the earlier calls still."""
        self._is_closed = True

    def ways(self, group: CallGroup) -> tuple[Way, ...]:
        """Return the ways of a group, first the one that certferry tries first."""
        return self._ways[group]

    def ask_by_all_ways(self, group: CallGroup, question: Question) -> tuple[Seen, ...]:
        """Return what came by each way of a group. Raises `NotAsked`."""
        return tuple(self.ask(question, way) for way in self.ways(group))

    def first_success(self, group: CallGroup, question: Question) -> Seen:
        """Return the success by the first way that had one; else what came by the very first.
        Raises `NotAsked`.
        """
        by_way = self.ask_by_all_ways(group, question)
        return next((seen for seen in by_way if seen.is_success), by_way[0])

    def ask(self, question: Question, way: Way) -> Seen:
        """Return what came of a question. Raises `NotAsked`."""
        key = (question, way)
        if key not in self._seen:
            if self._is_closed:
                raise NotAsked
            self._seen[key] = self._sent(question, way)
        return self._seen[key]

    def _sent(self, question: Question, way: Way) -> Seen:
        if way.url in self._unreached:
            return Seen(question, way, self._unreached[way.url])
        request = Request("GET", way.url + (question.path or question.told))
        try:
            answer = self._http.exchange(lambda: self._sign(request, way.scheme), repeatable=False)
        except HttpFailure as failure:
            if failure.contact is Contact.NONE:
                self._unreached[way.url] = failure
            return Seen(question, way, failure)
        return Seen(question, way, answer, ahead_of(answer.headers, self._now()))

    def _sign(self, request: Request, scheme: Scheme) -> Request:
        if scheme is Scheme.QBOX:
            return sign_qbox(request, self._keys)
        return sign_qiniu(request, self._keys, self._now())


def told_of(seen: Iterable[Seen]) -> tuple[Text, ...]:
    """Return what each was asked and answered with."""
    return tuple(one.told for one in seen)


def fields_of(found: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of an object's fields; what could be a name of the account's is none."""
    return tuple(filter(is_word, found))


def is_word(found: str) -> bool:
    """Return whether a value is a word, such as a state, and can be no name of the account's."""
    return _FIELD.fullmatch(found) is not None


def _shape(found: object) -> Text:
    if found is None:
        return verbatim("null")
    if found == []:
        return verbatim("[]")
    if isinstance(found, list):
        return Text("a list of {count}", count=len(found))
    return Text("an object") if isinstance(found, dict) else Text("neither list nor object")


def _told_failure(failure: HttpFailure) -> Text:
    if failure.status is None:
        return failure.problem
    return Text("{status}, a web page", status=failure.status)


def _told_refusal(answer: Answer, names: tuple[str, ...]) -> Text:
    reply = read_reply(answer)
    is_plain = _WORDS.fullmatch(reply.words) and not any(name in reply.words for name in names)
    said = f"{reply.status} {reply.words}" if is_plain else str(reply.status)
    if reply.code is None or reply.code == reply.status:
        return verbatim(said)
    return Text("{answer}, code {code}", answer=said, code=reply.code)
