"""Calls to the CDN, EdgeOne and the store of certificates, each service at its own pace
(docs/facts/tencentcloud.md §1).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from certferry.adapters.cdn.answers import decode, decode_entry
from certferry.adapters.cdn.lists import Page, page_of
from certferry.adapters.cdn.refusals import Refusal
from certferry.adapters.dns.answers import as_text, object_in
from certferry.adapters.http import exchange, http_client
from certferry.adapters.tencentcloud import errors
from certferry.adapters.tencentcloud.account import Settings
from certferry.adapters.tencentcloud.errors import TencentFailure
from certferry.adapters.tencentcloud.tc3 import Api, response_of, says_too_many
from certferry.ports.adapter import Answer, Context
from certferry.text import Text

T = TypeVar("T")

CDN, SSL, TEO = "cdn", "ssl", "teo"
VERSIONS = {CDN: "2018-06-06", SSL: "2019-12-05", TEO: "2022-09-01"}
RATES = {CDN: 20.0, SSL: 10.0, TEO: 20.0}
"""Requests per second, by service (§1.1)."""


class Call(Struct, frozen=True):
    """A call of the API."""

    #: The service.
    service: str
    action: str
    #: Names the call in sentences, such as "the list of domains".
    what: Text
    is_write: bool = False


class Listing(Struct, frozen=True):
    """A list that is read in pages."""

    call: Call
    #: The fields of the answer: the entries, and the number of all entries.
    entries: str
    total: str
    #: The entries on a page.
    limit: int


_Raws: Any = tuple[msgspec.Raw, ...] | None


class Accepted(Struct, frozen=True):
    """The answer of an accepted change."""

    #: The id of the request, for the vendor's support.
    request_id: str = msgspec.field(default="", name="RequestId")

    @property
    def shown(self) -> str:
        """The id; empty for an id of another form."""
        return TencentFailure.shown_request_id(self.request_id)


class TencentClient:
    """The calls of one account. Safe to share between threads. Methods raise `TencentFailure`."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._keys = settings.keys
        self._now = context.now
        self._language = context.language
        urls = {CDN: settings.cdn, SSL: settings.ssl, TEO: settings.teo}
        self._apis = {name: Api(name, VERSIONS[name], url) for name, url in urls.items()}
        self._http = {
            name: http_client.client_in(context, url, RATES[name], says_too_many)
            for name, url in urls.items()
        }
        #: The services that accepted a call in this process.
        self.proven: set[str] = set()

    def call(self, call: Call, into: type[T], **params: Any) -> T:
        """Make a call and return the decoded answer. A call that reads is repeated after a lost
        answer.
        """
        answer = self._answer(call, params)
        body = response_of(answer)
        if body is None:
            raise TencentFailure.without_reply(call.what, answer)
        error = object_in(body, "Error")
        if error:
            code, words = as_text(error.get("Code")), as_text(error.get("Message"))
            request_id, host = as_text(body.get("RequestId")), self._apis[call.service].host
            raise errors.explain_refusal(Refusal(call.what, code, words, request_id, host))
        self.proven.add(call.service)
        return TencentFailure.decoded(body, into, call.what, maybe_done=call.is_write)

    def pages(
        self, listing: Listing, into: type[T], identity: Callable[[T], str], **params: Any
    ) -> list[T]:
        """Read a list to its end, without undecodable entries. `identity` returns an entry's
        key.
        """

        def page_at(place: str) -> Page[T]:
            offset = int(place or 0)
            body = self.call(
                listing.call, dict[str, msgspec.Raw], **params, Offset=offset, Limit=listing.limit
            )
            raws = _raws(listing.call, body.get(listing.entries))
            total = _number(body.get(listing.total))
            after = offset + len(raws)
            is_last = not raws or (total is not None and after >= total)
            return page_of(raws, into, identity, "" if is_last else str(after))

        return TencentFailure.listed(listing.call.what, page_at)

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return TencentFailure.clock_ahead(self._http[CDN], self._apis[CDN].root, self._now)

    def _answer(self, call: Call, params: dict[str, Any]) -> Answer:
        api = self._apis[call.service]
        try:
            return self._http[call.service].exchange(
                lambda: api.request(self._keys, call.action, params, self._now(), self._language),
                repeatable=not call.is_write,
            )
        except exchange.HttpFailure as failure:
            raise TencentFailure.unanswered(call.what, failure) from None


def _raws(call: Call, given: msgspec.Raw | None) -> tuple[msgspec.Raw, ...]:
    """Return the entries of a page; null is an empty page. Raises `TencentFailure` for another
    form: an unreadable list must not pass for an empty account.
    """
    try:
        content = decode(b"" if given is None else bytes(given), _Raws)
    except ValueError as problem:
        raise TencentFailure.unreadable(call.what, str(problem), maybe_done=False) from None
    return content or ()


def _number(given: msgspec.Raw | None) -> int | None:
    return None if given is None else decode_entry(given, int)
