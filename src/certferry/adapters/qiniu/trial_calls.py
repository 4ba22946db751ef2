"""Reading calls to Qiniu, each made once by one way, and told by status and shape alone
(docs/facts/qiniu.md §10).

What an account holds has names, and none of them gets into what is told: paths are told with
BUCKET, DOMAIN and ID, answers by their kind and number, a server's words only where they are words.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from certferry.adapters.http.client import (
    CountedPace,
    HttpClient,
    HttpFailure,
    Pacer,
    Request,
    ahead_of,
)
from certferry.adapters.http.problems import Contact, Timeouts
from certferry.adapters.qiniu.errors import IAM_PREFIX
from certferry.adapters.qiniu.records import NOT_SERVED_BY_ITSELF, SWITCHED_OFF, decode
from certferry.adapters.qiniu.wire import (
    CallGroup,
    Hosts,
    Keys,
    Scheme,
    Way,
    read_reply,
    sign_qbox,
    sign_qiniu,
    ways_of,
)
from certferry.core.trial import Judged
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


ALL = "/domain?marker=&limit=1000"
DOMAINS = Question("/domain", ALL, field="domains")
NONSENSE = Question("/domain/no-domain.invalid/no-call")
NO_ID = "0" * 24  # spelled as the id of a certificate that does not exist

KNOWN_STATES = SWITCHED_OFF | {"success", "processing", "failed", "waitCNAME"}
ITEM_FIELDS = (
    "name",
    "type",
    "cname",
    "protocol",
    "product",
    "platform",
    "operatingState",
    "operatingStateDesc",
    "operationType",
    "couldOperateBySelf",
    "uidIsFreezed",
    "freezeType",
    "pareDomain",
    "operTaskId",
    "operTaskType",
    "operTaskErrCode",
)
"""Of a domain in the list (§5.1)."""
DETAIL_FIELDS = (*ITEM_FIELDS, "ipTypes", "https")
HTTPS_FIELDS = ("certId", "forceHttps", "http2Enable", "freeCert")
MAY_BE_THERE = {"testURLPath", "geoCover", "createAt", "modifyAt", "httpsOPTime", "tlsVersions"}
"""Known of as well, and not in every answer (§5.1, §5.2)."""

_NO_DOMAIN = Text("the account shows no domain with HTTPS")


def listed_domains(reader: QiniuReader) -> Seen:
    """Return the first page of the list, by the way that works for it."""
    return reader.first_success(CallGroup.DOMAINS, DOMAINS)


def first_scheme(reader: QiniuReader) -> Judged:
    """Judge whether `/domain` is answered by the way that is tried first."""
    by_way = reader.ask_by_all_ways(CallGroup.DOMAINS, DOMAINS)
    return by_way[0].is_answered, told_of(by_way)


def nonsense(reader: QiniuReader) -> Judged:
    """Judge whether a path that is no call answers 401 (1.12), by the way that works for the list,
    so that it is not the scheme which is refused.
    """
    seen = reader.ask(NONSENSE, listed_domains(reader).way)
    is_refused = seen.status is not None and seen.status >= HTTPStatus.BAD_REQUEST
    return seen.status == HTTPStatus.UNAUTHORIZED if is_refused else None, (seen.told,)


def settings(reader: QiniuReader) -> Judged:
    """Judge whether a domain's redirect and HTTP/2 are shown (1.6)."""
    detail, https = _https(reader)
    if detail is None:
        return None, (_NO_DOMAIN,)
    if https is None:
        return None, (detail.told,)
    shown = [name for name in fields_of(https) if https[name] is not None]
    fields = Text("`https` shows {fields}", fields=shown) if shown else Text("`https` is hidden")
    return {"forceHttps", "http2Enable"} <= set(shown), (detail.told, fields)


def versions(reader: QiniuReader) -> Judged:
    """Judge whether TLS versions are an array (1.11), where they are shown at all."""
    found = (_https(reader)[1] or {}).get("tlsVersions")
    if isinstance(found, list):
        return True, (Text("`tlsVersions` is shown as an array"),)
    if isinstance(found, str):
        return False, (Text("`tlsVersions` is shown as a string"),)
    return None, (Text("`tlsVersions` is not shown"),)


def certificate_filter(reader: QiniuReader) -> Judged:
    """Judge whether `certId` filters the list (1.13)."""
    listed = listed_domains(reader)
    if not listed.items:
        return None, (listed.told,)
    unknown = reader.ask(_with_certificate(NO_ID), listed.way)
    cert_id = (_https(reader)[1] or {}).get("certId")
    if not isinstance(cert_id, str) or not cert_id:
        return _filters(listed, unknown, None), told_of([listed, unknown])
    bound = reader.ask(_with_certificate(cert_id), listed.way)
    return _filters(listed, unknown, bound), told_of([listed, unknown, bound])


def fields(reader: QiniuReader) -> Judged:
    """Judge whether a domain has the fields that are known of (1.14)."""
    listed, detail = listed_domains(reader), _detail(reader)
    if detail is None:
        return None, (listed.told,)
    compared: list[tuple[Text, dict[str, Any], Sequence[str]]]
    compared = [(Text("an item of the list"), listed.objects[0], ITEM_FIELDS)]
    content, (_, https) = detail.content, _https(reader)
    if isinstance(content, dict):
        compared.append((Text("the detail"), content, DETAIL_FIELDS))
    if https:
        compared.append((Text("`https`"), https, HTTPS_FIELDS))
    told = [line for one in compared for line in _compared(*one)]
    is_complete = all(set(expected) <= set(fields_of(found)) for _, found, expected in compared)
    has_all = True if isinstance(content, dict) else None
    return has_all if is_complete else False, (detail.told, *told)


def states(reader: QiniuReader) -> Judged:
    """Judge whether certferry knows the state of every domain (1.17)."""
    listed = listed_domains(reader)
    found = {item.get("operatingState") for item in listed.objects}
    words = sorted(word for word in found if isinstance(word, str) and is_word(word))
    if not words:
        return None, (listed.told,)
    unknown = [word for word in words if word not in KNOWN_STATES]
    seen = (Text("states: {words}", words=words),)
    return not unknown, (*seen, Text("unknown: {words}", words=unknown)) if unknown else seen


def _shown_item(reader: QiniuReader) -> dict[str, Any] | None:
    """Return a domain of the list: with HTTPS if there is one, the first otherwise."""
    items = [
        item
        for item in listed_domains(reader).objects
        if item.get("type") not in NOT_SERVED_BY_ITSELF and isinstance(item.get("name"), str)
    ]
    with_https = (item for item in items if item.get("protocol") == "https")
    return next(with_https, items[0] if items else None)


def _detail(reader: QiniuReader) -> Seen | None:
    item = _shown_item(reader)
    if item is None:
        return None
    name = str(item["name"])
    question = Question("/domain/DOMAIN", f"/domain/{quote(name, safe='')}", names=(name,))
    return reader.ask(question, listed_domains(reader).way)


def _https(reader: QiniuReader) -> tuple[Seen | None, dict[str, Any] | None]:
    """Return the detail of a domain that speaks HTTPS, and what it shows of that."""
    item, detail = _shown_item(reader), _detail(reader)
    if item is None or detail is None or item.get("protocol") != "https":
        return None, None
    content = detail.content
    if not isinstance(content, dict):
        return detail, None
    https = content.get("https")
    return detail, https if isinstance(https, dict) else {}


def _with_certificate(cert_id: str) -> Question:
    told = f"/domain?certId={'NO-ID' if cert_id == NO_ID else 'ID'}"
    return Question(told, f"{ALL}&certId={quote(cert_id, safe='')}", "domains", (cert_id,))


def _filters(listed: Seen, unknown: Seen, bound: Seen | None) -> bool | None:
    """Judge by the numbers: none for an id that does not exist, some for one that a domain is bound
    to. All for the first is no filter.
    """
    if len(unknown.items) == len(listed.items):
        return False
    if bound is None or not bound.is_success:
        return None
    return (True if unknown.is_success else None) if bound.items else False


def _compared(what: Text, found: dict[str, Any], expected: Sequence[str]) -> Iterator[Text]:
    names = fields_of(found)
    lacks = [name for name in expected if name not in names]
    more = [name for name in names if name not in MAY_BE_THERE.union(expected)]
    if lacks:
        yield Text("{what} lacks {fields}", what=what, fields=lacks)
    if more:
        yield Text("{what} has {fields} as well", what=what, fields=more)
