"""One call to Qiniu, at the first endpoint that answers it: signed, paced, read, explained if
refused (docs/facts/qiniu.md §1 to §3).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from certferry.adapters.http.client import TIMEOUTS as HTTP_TIMEOUTS
from certferry.adapters.http.client import HttpClient, Pacer, Request, ask_the_time
from certferry.adapters.http.problems import Contact, HttpFailure, Timeouts
from certferry.adapters.qiniu.errors import (
    IAM_PREFIX,
    Call,
    QiniuFailure,
    explain_failure,
    explain_nonsense,
    explain_refusal,
)
from certferry.adapters.qiniu.records import ListPage, decode, decode_entry
from certferry.adapters.qiniu.wire import (
    CallGroup,
    Endpoint,
    Endpoints,
    Hosts,
    QiniuKeys,
    Scheme,
    read_reply,
    sign_qbox,
    sign_qiniu,
    too_many,
)
from certferry.errors import TargetUnavailable
from certferry.ports.http import Answer, OpenPace, Pace
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.text import Text

JSON = {"Content-Type": "application/json"}

# Requests per second and account (§9). Of uc and Pili nothing is said: they are treated like api.
API_RATE = 10
FUSION_RATE = 5
UC_RATE = 10
PILI_RATE = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One call to Qiniu: `what` names it for sentences, `path` may depend on the endpoint.

    `repeatable` calls are sent again when no answer came; `unlisted` ones are in no document.
    """

    group: CallGroup
    method: str
    path: str | Callable[[Endpoint], str]
    what: Text
    body: bytes | None = None
    repeatable: bool = False
    unlisted: bool = False

    def request(self, endpoint: Endpoint) -> Request:
        """Return the request, unsigned."""
        path = self.path if isinstance(self.path, str) else self.path(endpoint)
        return Request(self.method, endpoint.url + path, JSON if self.body else {}, self.body)


class QiniuTransport:
    """Qiniu's hosts, for one account. Safe to share between threads; raises `QiniuFailure`.

    `now` is the wall clock that signatures are dated by, `clock` the one that requests are paced
    by: it counts seconds and never goes back.
    """

    def __init__(
        self,
        keys: QiniuKeys,
        hosts: Hosts,
        memory: AccountMemory,
        *,
        pause: Pause,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        timeouts: Timeouts = HTTP_TIMEOUTS,
        pace: OpenPace | None = None,
    ) -> None:
        def paced(url: str, rate: float) -> Pace:
            return Pacer(rate, clock=clock, pause=pause) if pace is None else pace(url, rate)

        self.hosts = hosts
        self._keys = keys
        self._now = now
        self._with_iam_key = keys.access_key.reveal().startswith(IAM_PREFIX)
        self._endpoints = Endpoints(hosts, memory)
        self._proven: dict[CallGroup, Endpoint] = {}
        self._https = {
            url: HttpClient(
                pace=paced(url, rate),
                pause=pause,
                timeouts=timeouts,
                too_many=too_many,
            )
            for url, rate in _rates(hosts).items()
        }

    @property
    def proven(self) -> Mapping[CallGroup, Endpoint]:
        """The endpoint that answered each group of calls with success."""
        return dict(self._proven)

    @property
    def with_iam_key(self) -> bool:
        """Whether the access key is a sub-account's."""
        return self._with_iam_key

    def clock_ahead(self) -> timedelta | None:
        """Return how far Qiniu's clock is ahead, by any answer to a request without keys."""
        url = self._endpoints.of(CallGroup.DOMAINS)[0].url
        try:
            return ask_the_time(self._https[url], Request("GET", f"{url}/"), self._now)
        except HttpFailure as failure:
            call = Call(Text("the time of the service"), url)
            raise explain_failure(call, failure) from None

    def has(self, group: CallGroup) -> bool:
        """Return whether there is a host for such calls."""
        return bool(self._endpoints.of(group))

    def read(self, asked: ApiCall, into: type[T]) -> T:
        """Return what the answer holds."""
        call, answer = self.send(asked)
        self.must_be_success(call, answer)
        return self.content(call, answer, into)

    def read_all(
        self, asked: ApiCall, into: type[T], identity: Callable[[T], str], *, limit: int = 0
    ) -> list[T]:
        """Read a list page by page, until one has no marker, which alone is the end (§4.2). A
        `limit` is how many a page may have. Raises `QiniuFailure` for a list that leads on to
        nothing new, or without an end.
        """
        found: dict[str, T | None] = {}
        marker, seen, without_news = "", {""}, 0
        for _ in range(MOST_PAGES):
            query = f"?marker={quote(marker, safe='')}"
            query = f"{query}&limit={limit}" if limit else query if marker else ""
            page = self.read(replace(asked, path=f"{asked.path}{query}", repeatable=True), ListPage)
            marker, before = page.marker or "", len(found)
            for raw in page.entries:
                item = decode_entry(raw, into)
                # What cannot be read is counted by its bytes: a page of it is no end of the list.
                key = bytes(raw).decode(errors="replace") if item is None else identity(item)
                found[key] = item
            if not marker:
                return [item for item in found.values() if item is not None]
            without_news = 0 if len(found) > before else without_news + 1
            if without_news > MOST_WITHOUT_NEWS or (without_news and marker in seen):
                break
            seen.add(marker)
        raise QiniuFailure(
            TargetUnavailable(
                Text("{what} at Qiniu does not come to an end", what=asked.what),
                hint=Text("the next run reads it again; if it stays so, tell Qiniu's support"),
            )
        )

    def write(self, asked: ApiCall) -> tuple[Call, Answer]:
        """Ask for a change. The failure of one whose answer is lost is `maybe_done`."""
        call, answer = self.send(asked)
        self.must_be_success(call, answer)
        return call, answer

    def send(self, asked: ApiCall) -> tuple[Call, Answer]:
        """Return the first answer that does not ask for another endpoint, or the one that says most
        about why there is none.
        """
        tried: list[tuple[Endpoint, Answer | HttpFailure]] = []
        for endpoint in self._endpoints.of(asked.group):
            if any(one.url == endpoint.url and _is_unreached(got) for one, got in tried):
                continue
            came = self._exchange(asked, endpoint)
            tried.append((endpoint, came))
            if not _asks_for_another_endpoint(asked.group, came):
                break
            self._endpoints.failed(asked.group, endpoint)
        endpoints = tuple(endpoint for endpoint, _ in tried)
        endpoint, came = tried[-1]
        if _asks_for_another_endpoint(asked.group, came):
            endpoint, came = max(tried, key=lambda one: _weight_of(one[1]))
        call = self._call(asked, endpoint, endpoints)
        if isinstance(came, HttpFailure):
            raise explain_failure(call, came) from None
        if read_reply(came).is_success:
            self._endpoints.worked(asked.group, endpoint)
            self._proven[asked.group] = endpoint
        return call, came

    def content(self, call: Call, answer: Answer, into: type[T]) -> T:
        """Read an answer of success."""
        try:
            return decode(answer.body, into)
        except ValueError as problem:
            raise explain_nonsense(call, answer, str(problem)) from None

    def must_be_success(self, call: Call, answer: Answer) -> None:
        """Raise what any other answer means."""
        if not read_reply(answer).is_success:
            raise explain_refusal(call, answer, self._now())

    def _call(self, asked: ApiCall, endpoint: Endpoint, tried: tuple[Endpoint, ...]) -> Call:
        return Call(
            asked.what,
            endpoint.host,
            self._with_iam_key,
            asked.unlisted,
            is_change=asked.method != "GET",
            worked_before=bool(self._proven),
            is_proven=asked.group in self._proven,
            tried=tried,
            live=asked.group is CallGroup.LIVE,
        )

    def _exchange(self, asked: ApiCall, endpoint: Endpoint) -> Answer | HttpFailure:
        request = asked.request(endpoint)
        try:
            return self._https[endpoint.url].exchange(
                lambda: self._sign(request, endpoint.scheme), repeatable=asked.repeatable
            )
        except HttpFailure as failure:
            return failure

    def _sign(self, request: Request, scheme: Scheme) -> Request:
        if scheme is Scheme.QBOX:
            return sign_qbox(request, self._keys)
        return sign_qiniu(request, self._keys, self._now())


def encoded(body: msgspec.Struct | dict[str, Any]) -> bytes:
    """Return a body as compact JSON: what is signed is what is sent."""
    return msgspec.json.encode(body)


def _rates(hosts: Hosts) -> dict[str, float]:
    """Return the requests per second of each base URL; hosts that are one share the lower rate."""
    rates: dict[str, float] = {}
    for url, rate in (
        (hosts.api, API_RATE),
        (hosts.fusion, FUSION_RATE),
        (hosts.uc, UC_RATE),
        (hosts.api_backup, API_RATE),
        (hosts.uc_backup, UC_RATE),
        (hosts.pili, PILI_RATE),
    ):
        rates[url] = min(rate, rates.get(url, rate))
    return rates


def _asks_for_another_endpoint(group: CallGroup, came: Answer | HttpFailure) -> bool:
    if isinstance(came, HttpFailure):
        # A host that does not know a path may say so with a web page.
        unreached = group.has_backup and came.contact is Contact.NONE
        return unreached or came.status in group.refusals
    reply = read_reply(came)
    return reply.status in group.refusals and not reply.has_own_code


def _is_unreached(came: Answer | HttpFailure) -> bool:
    return isinstance(came, HttpFailure) and came.contact is Contact.NONE


def _weight_of(came: Answer | HttpFailure) -> int:
    """Rank what came instead of an answer: a 401 is about the keys, a 404 only about a host."""
    return -(came.status or HTTPStatus.INTERNAL_SERVER_ERROR)


MOST_PAGES = 200  # of a list: forty thousand certificates
MOST_WITHOUT_NEWS = 10
"""Pages one after the other that bring nothing new, where the marker goes on."""
