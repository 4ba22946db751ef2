"""Cloudflare's zones and TXT records, as its API (client/v4) shows and changes them.

Documented (developers.cloudflare.com/api): the calls, their fields and pages; that a TXT record's
content is a quoted string; 1200 calls in five minutes. From clients (lego, cert-manager, acme.sh):
`name` as a filter, a TTL of 120, that content is given back as it was written, quoted or not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from certferry.adapters.dns.answers import (
    Codes,
    Item,
    JsonTxtService,
    Reply,
    as_text,
    object_in,
    objects,
    parsed,
)
from certferry.adapters.dns.records import ALL_ZONES, TxtRecord, Zone, hosts_of, is_zone_name
from certferry.adapters.http.client import (
    HttpClient,
    Request,
    is_server_error,
    seconds_asked_for,
)
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
from certferry.ports.http import Answer
from certferry.ports.progress import Pause
from certferry.text import Quoted, Text

SERVICE = "Cloudflare"
ZONES_PAGE = 50  # the most (documented)
RECORDS_PAGE = 100
TTL = 120  # seconds: what other clients ask for; the least is 60 (documented)
ID = re.compile(r"[0-9a-f]{32}", re.ASCII)  # anything else is never made part of an address
LONG_REST = timedelta(minutes=5)  # the time in which calls are counted

# From memory of the API's page of a zone. `type`: full, partial (CNAME set-up), secondary,
# internal; `status`: active, pending, initializing, moved.
_SERVED_ELSEWHERE = frozenset({"partial", "secondary"})
_NOT_YET_SERVED = frozenset({"pending", "initializing", "moved"})

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


CODES = Codes(
    Text("{about}: Cloudflare answered {action} with code {code} (status {status}): {words}"),
    _LOOK,
    _DENIED,
    _REJECTED,
)


class CloudflareClient(JsonTxtService):
    """The zones that one API token may see: see `dns.records.TxtService`. A zone is asked for by
    its name, once, where they have not all been listed. A token that may not even see zones is not
    sent again.
    """

    decisive = ("GET zones",)

    def __init__(
        self,
        *,
        api: str,
        token: Secret,
        http: HttpClient,
        pause: Pause,
        now: Callable[[], datetime],
    ) -> None:
        self._api = api.rstrip("/")
        self._token = token
        self._by_name: dict[str, list[Zone]] = {}
        clock = Request("GET", f"{self._api}/zones")
        super().__init__(SERVICE, CODES, http=http, clock=clock, pause=pause, now=now)

    def zones(self, about: str | Text = ALL_ZONES) -> list[Zone]:
        """See `TxtService.zones`. Raises `ZoneNotFound` for a token that sees none: without
        Zone:Read, the list is empty, and no error says why.
        """
        found = super().zones(about)
        if not found:
            sentence = Text("the API token sees no zone at Cloudflare")
            raise ZoneNotFound(sentence, hint=LACKS_PERMISSION)
        return found

    def zones_above(self, name: str) -> Iterator[Zone]:
        """See `TxtService.zones_above`."""
        for suffix in identifiers.suffixes(name):
            found = [zone for zone in self._named(suffix, name) if zone.name == suffix]
            # Two accounts may have a zone of one name: the one that is served comes first.
            yield from sorted(found, key=lambda zone: zone.problem is not None)

    def records(self, zone: Zone, name: str) -> list[TxtRecord]:
        """See `TxtService.records`."""
        query = {"type": "TXT", "name": name}
        items = self._list("dns_records", _records(zone), name, RECORDS_PAGE, query)
        found = map(_record_of, items)
        return [record for record in found if record is not None and record.name == name]

    def record(self, zone: Zone, record_id: str, about: str) -> TxtRecord | None:
        """See `TxtService.record`."""
        if not ID.fullmatch(record_id):
            return None
        request = self._request("GET", f"{_records(zone)}/{record_id}")
        reply = self.read("GET dns_records", about, lambda: request)
        if reply.code in GONE:
            return None
        return _record_of(object_in(self.settled(reply, about), "result"))

    def create(self, zone: Zone, name: str, value: str) -> str | None:
        """See `TxtService.create`. Such a record is never one that Cloudflare proxies."""
        fields = {"type": "TXT", "name": name, "content": f'"{value}"', "ttl": TTL}
        request = self._request("POST", _records(zone), {**fields, "proxied": False})
        reply = self.write("POST dns_records", name, lambda: request)
        if reply.code in DUPLICATES:
            return None
        record_id = as_text(object_in(self.settled(reply, name), "result").get("id"))
        return record_id if ID.fullmatch(record_id) else None

    def remove(self, zone: Zone, record_id: str, about: str) -> bool:
        """See `TxtService.remove`."""
        request = self._request("DELETE", f"{_records(zone)}/{record_id}")
        reply = self.write("DELETE dns_records", about, lambda: request)
        if reply.code in GONE:
            return False
        self.settled(reply, about)
        return True

    def list_zones(self, about: str | Text, query: dict[str, str] | None = None) -> Iterable[Zone]:
        """Read the zones that the token sees, or those of a query."""
        for item in self._list("zones", "/zones", about, ZONES_PAGE, query or {}):
            zone_id, name = as_text(item.get("id")), as_text(item.get("name")).lower()
            if ID.fullmatch(zone_id) and is_zone_name(name):
                servers = hosts_of(item.get("name_servers"))
                yield Zone(zone_id, name, _problem_of(item, name), servers)

    def reply(self, action: str, answer: Answer) -> Reply | None:
        """See `JsonTxtService.reply`. The innermost error of the chain says the most, and the outer
        one's code is the one that is shown and looked up.
        """
        body, status = parsed(answer.body), answer.status
        if body is None:
            return None
        if status < HTTPStatus.BAD_REQUEST and body.get("success") is True:
            return Reply(action, "", Quoted(""), body)
        first = next(iter(objects(body.get("errors"))), {})
        said = [first, *objects(first.get("error_chain"))]
        words = "; ".join(filter(None, (as_text(one.get("message")) for one in said)))
        return Reply(
            action,
            quoted_code(as_text(first.get("code")), [self._token]) or "?",
            quoted(words, [self._token]),
            body,
            status,
            answer.headers,
            is_in_doubt=is_server_error(answer),
        )

    def error(self, reply: Reply, about: str | Text) -> DnsError:
        """See `JsonTxtService.error`: the status decides where the code says nothing of the token.
        After too many calls it carries when the next may be made.
        """
        error = super().error(reply, about)
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            asked = seconds_asked_for(Answer(reply.status, reply.headers, b""))
            rest = LONG_REST if asked is None else timedelta(seconds=asked)
            error = DnsUnavailable(error.message, hint=_MANY)
            error.retry = Retry.at(self._now() + rest)
        elif isinstance(error, DnsAccessDenied):
            pass
        elif reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            error = DnsAccessDenied(error.message, hint=_CHECK)
        elif reply.is_in_doubt:
            error = DnsUnavailable(error.message, hint=LATER)
        return error

    def _named(self, zone: str, about: str) -> list[Zone]:
        """Find the zones of one name: among all of them, when those have been listed."""
        if self._zones is not None:
            return self._zones
        if zone not in self._by_name:
            self._by_name[zone] = list(self.list_zones(about, {"name": zone}))
        return self._by_name[zone]

    def _list(
        self, what: str, path: str, about: str | Text, size: int, query: dict[str, str]
    ) -> list[Item]:
        """Read a list to its end: the number of pages, or an empty one where none is named."""

        def page(number: int, before: int) -> tuple[list[Item], bool]:
            del before
            where = urlencode({**query, "page": number, "per_page": size})
            request = self._request("GET", f"{path}?{where}")
            body = self.settled(self.read(f"GET {what}", about, lambda: request), about)
            items = objects(body.get("result"))
            pages = object_in(body, "result_info").get("total_pages")
            return items, number >= pages if isinstance(pages, int) else not items

        return self.pages(page, about)

    def _request(self, method: str, path: str, fields: dict[str, Any] | None = None) -> Request:
        headers = {
            "Authorization": f"Bearer {self._token.reveal()}",
            "Accept": "application/json",
        }
        if fields is None:
            return Request(method, f"{self._api}{path}", headers)
        headers["Content-Type"] = "application/json"
        return Request(method, f"{self._api}{path}", headers, json.dumps(fields).encode())


def _records(zone: Zone) -> str:
    return f"/zones/{zone.id}/dns_records"


def _problem_of(item: dict[str, Any], name: str) -> DnsRejected | None:
    """Return why no resolver would see a record in this zone, if that is so."""
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


def _record_of(item: Item) -> TxtRecord | None:
    record_id, name = as_text(item.get("id")), as_text(item.get("name")).lower()
    if item.get("type") != "TXT" or not ID.fullmatch(record_id):
        return None
    content = as_text(item.get("content"))
    # Other clients write content without quotes.
    is_quoted = len(content) > 1 and content[0] == content[-1] == '"'
    return TxtRecord(record_id, name, content[1:-1] if is_quoted else content)
