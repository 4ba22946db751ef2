"""Cloudflare's zones and TXT records, as its API (client/v4) shows and changes them.

Documented (developers.cloudflare.com/api): the calls, their fields and pages; that a TXT record's
content is a quoted string; 1200 calls in five minutes. From clients (lego, cert-manager, acme.sh):
`name` as a filter, a TTL of 120, that content is given back as it was written, quoted or not.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from certferry.adapters.dns.answers import (
    Call,
    as_text,
    ask,
    clock_ahead,
    not_again,
    objects,
)
from certferry.adapters.dns.records import (
    ALL_ZONES,
    OutcomeUnknown,
    TxtRecord,
    Zone,
    hosts_of,
    is_zone_name,
)
from certferry.adapters.http.client import HttpClient, Request, seconds_asked_for
from certferry.core.certificates import names as identifiers
from certferry.core.redaction import quoted, quoted_code
from certferry.core.secret import Secret
from certferry.errors import (
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    Retry,
    ZoneNotFound,
)
from certferry.ports.adapter import CodeMeaning
from certferry.text import Quoted, Text

ZONES_PAGE = 50  # the most (documented)
RECORDS_PAGE = 100
MOST_PAGES = 200  # of a list: ten thousand zones
TTL = 120  # seconds: what other clients ask for; the least is 60 (documented)
ID = re.compile(r"[0-9a-f]{32}", re.ASCII)  # anything else is never made part of an address
LONG_REST = timedelta(minutes=5)  # the time in which calls are counted

# From memory of the API's page of a zone. `type`: full, partial (CNAME set-up), secondary,
# internal; `status`: active, pending, initializing, moved.
_SERVED_ELSEWHERE = frozenset({"partial", "secondary"})
_NOT_YET_SERVED = frozenset({"pending", "initializing", "moved"})

Params = dict[str, str]


class CloudflareClient:
    """The zones that one API token may see: see `txt_records.TxtService`. A zone is asked for by
    its name, once, where they have not all been listed.

    When the token was refused, nothing more is sent with it.
    """

    def __init__(
        self, *, api: str, token: Secret, http: HttpClient, now: Callable[[], datetime]
    ) -> None:
        self._api = api.rstrip("/")
        self._token = token
        self._http = http
        self._now = now
        self._listing = threading.Lock()
        self._all: list[Zone] | None = None
        self._by_name: dict[str, list[Zone]] = {}
        self._denied: DnsAccessDenied | None = None

    def zones(self) -> list[Zone]:
        """See `TxtService.zones`. A token that sees none is told as that: without Zone:Read, the
        list is empty, and no error says why.
        """
        with self._listing:
            if self._all is None:
                self._all = list(self._listed_zones(ALL_ZONES, {}))
        if not self._all:
            raise ZoneNotFound(
                Text("the API token sees no zone at Cloudflare"), hint=LACKS_PERMISSION
            )
        return self._all

    def zones_above(self, name: str) -> Iterator[Zone]:
        """See `TxtService.zones_above`."""
        for suffix in identifiers.suffixes(name):
            found = [zone for zone in self._named(suffix, name) if zone.name == suffix]
            # Two accounts may have a zone of one name: the one that is served comes first.
            yield from sorted(found, key=lambda zone: zone.problem is not None)

    def clock_ahead(self) -> timedelta | None:
        """See `TxtService.clock_ahead`."""
        return clock_ahead(self._http, f"{self._api}/zones", SERVICE, self._now)

    def records(self, zone: Zone, name: str) -> list[TxtRecord]:
        """See `TxtService.records`."""
        wanted = {"type": "TXT", "name": name}
        path = f"/zones/{zone.id}/dns_records"
        found = map(_record_of, self._pages(path, "GET dns_records", name, RECORDS_PAGE, wanted))
        return [record for record in found if record is not None and record.name == name]

    def record(self, zone: Zone, record_id: str, about: str) -> TxtRecord | None:
        """See `TxtService.record`."""
        if not ID.fullmatch(record_id):
            return None
        path = f"/zones/{zone.id}/dns_records/{record_id}"
        reply = self._call("GET", path, "GET dns_records", about)
        if reply.code in GONE:
            return None
        return _record_of(_settled(reply, about).body.get("result"))

    def create(self, zone: Zone, name: str, value: str) -> str | None:
        """See `TxtService.create`. Such a record is never one that Cloudflare proxies."""
        fields = {
            "type": "TXT",
            "name": name,
            "content": f'"{value}"',
            "ttl": TTL,
            "proxied": False,
        }
        reply = self._call(
            "POST", f"/zones/{zone.id}/dns_records", "POST dns_records", name, fields
        )
        if reply.code in DUPLICATES:
            return None
        result = _settled(reply, name).body.get("result")
        record_id = as_text(result.get("id")) if isinstance(result, dict) else ""
        return record_id if ID.fullmatch(record_id) else None

    def remove(self, zone: Zone, record_id: str, about: str) -> bool:
        """See `TxtService.remove`."""
        path = f"/zones/{zone.id}/dns_records/{record_id}"
        reply = self._call("DELETE", path, "DELETE dns_records", about)
        if reply.code in GONE:
            return False
        _settled(reply, about)
        return True

    def _named(self, zone: str, about: str) -> list[Zone]:
        """Find the zones of one name: among all of them, when those have been listed."""
        if self._all is not None:
            return self._all
        if zone not in self._by_name:
            self._by_name[zone] = list(self._listed_zones(about, {"name": zone}))
        return self._by_name[zone]

    def _listed_zones(self, about: str | Text, wanted: Params) -> Iterator[Zone]:
        try:
            for item in self._pages("/zones", "GET zones", about, ZONES_PAGE, wanted):
                zone_id, name = as_text(item.get("id")), as_text(item.get("name")).lower()
                if ID.fullmatch(zone_id) and is_zone_name(name):
                    servers = hosts_of(item.get("name_servers"))
                    yield Zone(zone_id, name, _problem_of(item, name), servers)
        except DnsAccessDenied as denied:
            # A token that may not even see zones is no good for anything.
            self._denied = self._denied or denied
            raise

    def _pages(
        self, path: str, action: str, about: str | Text, size: int, wanted: Params
    ) -> Iterator[dict[str, Any]]:
        """Read a list to its end: the told number of pages, or an empty one where none is told."""
        seen: set[str] = set()
        for page in range(1, MOST_PAGES + 1):
            query = urlencode({**wanted, "page": page, "per_page": size})
            reply = self._call("GET", f"{path}?{query}", action, about)
            body = _settled(reply, about).body
            items = objects(body.get("result"))
            yield from items
            info = body.get("result_info")
            pages = info.get("total_pages") if isinstance(info, dict) else None
            if page >= pages if isinstance(pages, int) else not items:
                return
            before = len(seen)
            seen.update(map(repr, items))
            if len(seen) == before:
                break  # half a list is not the whole
        raise DnsUnavailable(
            Text(
                "{about}: a list at {service} does not come to an end", about=about, service=SERVICE
            )
        )

    def _call(
        self,
        method: str,
        path: str,
        action: str,
        about: str | Text,
        fields: dict[str, Any] | None = None,
    ) -> Reply:
        if self._denied is not None:
            raise not_again(SERVICE, self._denied)
        headers = {
            "Authorization": f"Bearer {self._token.reveal()}",
            "Accept": "application/json",
        }
        body = None
        if fields is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(fields).encode()
        request = Request(method, f"{self._api}{path}", headers, body)
        call = Call(SERVICE, action, about, is_write=method != "GET")
        answer = ask(self._http, lambda: request, call)
        reply = reply_of(action, answer.http.status, answer.body, self._token)
        if reply.is_too_many:
            error = error_of(reply, about)
            asked = seconds_asked_for(answer.http)
            rest = LONG_REST if asked is None else timedelta(seconds=asked)
            error.retry = Retry.at(self._now() + rest)
            raise error
        if call.is_write and answer.is_in_doubt:
            raise OutcomeUnknown(error_of(reply, about).message)
        return reply


def _settled(reply: Reply, about: str | Text) -> Reply:
    if reply.code:
        raise error_of(reply, about)
    return reply


def _problem_of(item: dict[str, Any], name: str) -> DnsRejected | None:
    """Tell why a record in this zone would be seen by no resolver, if that is so."""
    if as_text(item.get("type")) in _SERVED_ELSEWHERE:
        return DnsRejected(
            Text("Cloudflare is not the DNS service of the zone {zone}", zone=name),
            hint=Text("name the account of the service that the zone's NS records lead to"),
        )
    if as_text(item.get("status")) in _NOT_YET_SERVED:
        return DnsRejected(
            Text("the zone {zone} is not delegated to Cloudflare", zone=name),
            hint=Text(
                "set the name servers that dash.cloudflare.com shows at the registrar, or name the "
                "account of the service that the zone's NS records lead to"
            ),
        )
    return None


def _record_of(item: object) -> TxtRecord | None:
    if not isinstance(item, dict) or item.get("type") != "TXT":
        return None
    record_id, name = as_text(item.get("id")), as_text(item.get("name")).lower()
    if not ID.fullmatch(record_id):
        return None
    return TxtRecord(record_id, name, _unquoted(as_text(item.get("content"))))


def _unquoted(content: str) -> str:
    """Give what a quoted string holds: other clients write content without quotes."""
    is_quoted = len(content) > 1 and content[0] == content[-1] == '"'
    return content[1:-1] if is_quoted else content


SERVICE = "Cloudflare"

DUPLICATES = frozenset({"81057", "81058"})  # the same record, or an identical one, is there
GONE = frozenset({"81044"})

# The Global API Key: 37 hexadecimal digits, or cfk_… since 2026. The Origin CA Key: v1.0-….
GLOBAL_KEY = re.compile(r"[0-9a-f]{37}|cfk_.*", re.IGNORECASE | re.DOTALL)
ORIGIN_CA_KEY = re.compile(r"v1\.0-.*", re.IGNORECASE | re.DOTALL)
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # what may follow `Bearer` (RFC 7235 §2.1)

MAKE_TOKEN = Text(
    "make an API token at dash.cloudflare.com/profile/api-tokens, from the template Edit zone DNS: "
    "it needs Zone:Read and DNS:Edit for the zones"
)
_CHECK = Text(
    "the API token is not accepted: it may have ended, been rolled, or not be for this host's "
    "address. {make}",
    make=MAKE_TOKEN,
)
LACKS_PERMISSION = Text("the API token lacks a permission or this zone: {make}", make=MAKE_TOKEN)
_NO_TOKEN = Text(
    "`token` does not hold an API token: is it a Global API Key, or was it not copied"
    " whole? {make}",
    make=MAKE_TOKEN,
)
_CONFLICT = Text(
    "another record at this name excludes it: remove that record, or let a CNAME there lead to a "
    "zone in which the challenge can be written"
)
_PLAN = Text("the zone's plan at Cloudflare does not allow more records: remove some")
_LOOK = Text("look at the zone at dash.cloudflare.com")
_MANY = Text("the account has made too many calls: Cloudflare allows 1200 in five minutes")
LATER = Text("try again in some minutes, and look at www.cloudflarestatus.com")

_DENIED: dict[str, Text] = {
    "1000": _CHECK,  # Invalid API Token
    "6003": _NO_TOKEN,
    "6103": _NO_TOKEN,
    "6111": _NO_TOKEN,
    "9103": _NO_TOKEN,
    "9106": _NO_TOKEN,
    "9107": _NO_TOKEN,
    "9109": _CHECK,  # Invalid access token; Unauthorized; from this location
    "10000": LACKS_PERMISSION,  # Authentication error
    "10001": _NO_TOKEN,
}
_REJECTED: dict[str, Text] = {
    "81053": _CONFLICT,
    "81054": _CONFLICT,
    "81045": _PLAN,
}


CODES: Mapping[str, CodeMeaning] = {
    code: CodeMeaning(advice) for table in (_DENIED, _REJECTED) for code, advice in table.items()
}
"""What is known of the service's codes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered to a call: `code` is empty for a success."""

    action: str
    status: int
    code: str
    words: Quoted
    body: Mapping[str, Any] = field(repr=False)

    @property
    def is_too_many(self) -> bool:
        """Whether there were too many calls, so that nothing was done."""
        return self.status == HTTPStatus.TOO_MANY_REQUESTS


def reply_of(action: str, status: int, body: Mapping[str, Any], token: Secret) -> Reply:
    """Read an answer. The innermost error of the chain says the most, and the outer one's code is
    what is told and looked up.
    """
    if status < HTTPStatus.BAD_REQUEST and body.get("success") is True:
        return Reply(action, status, "", Quoted(""), body)
    first = next(iter(objects(body.get("errors"))), {})
    said = [first, *objects(first.get("error_chain"))]
    words = "; ".join(filter(None, (as_text(one.get("message")) for one in said)))
    code = quoted_code(as_text(first.get("code")), [token]) or "?"
    return Reply(action, status, code, quoted(words, [token]), body)


def error_of(reply: Reply, about: str | Text) -> DnsError:
    """Give the error that an answer stands for; `about` is the name that was worked on."""
    message = Text(
        "{about}: {service} answered {action} with code {code} (status {status}): {words}",
        about=about,
        service=SERVICE,
        action=reply.action,
        code=reply.code,
        status=reply.status,
        words=reply.words,
    )
    if reply.is_too_many:
        return DnsUnavailable(message, hint=_MANY)
    if reply.code in _DENIED:
        return DnsAccessDenied(message, hint=_DENIED[reply.code])
    if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return DnsAccessDenied(message, hint=_CHECK)
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return DnsUnavailable(message, hint=LATER)
    return DnsRejected(message, hint=_REJECTED.get(reply.code, _LOOK))
