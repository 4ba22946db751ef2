"""A stand-in of Cloudflare's API (client/v4): zones and TXT records, written to the zones that the
name servers serve.

Documented (developers.cloudflare.com/api): paths, fields, pages, the bounds of TTLs, the forms of
keys. From issues of clients: the error codes 6003, 6111, 9109, 10000, 81044, 81057 and 81058 with
their words, and the empty list for a token without Zone:Read. From memory: the other numbers.
The stand-in is stricter than the service: the stand-in refuses unknown fields and parameters.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from certferry_sandbox.faults import Script
from certferry_sandbox.httpd import HttpService, HttpStandIn, Request, Response, utc_now
from certferry_sandbox.zones import Record, Zones

Item = TypeVar("Item")


class Refused(Exception):
    """The call ends with this error; `inner` is the code and message of the error behind it."""

    def __init__(
        self, status: int, code: int, words: str, inner: tuple[int, str] | None = None
    ) -> None:
        super().__init__(code, words)
        self.response = refuse(status, code, words, inner)


def respond(result: object, info: dict[str, int] | None = None) -> Response:
    """Return a success."""
    whole: dict[str, Any] = {"result": result, "success": True, "errors": [], "messages": []}
    return Response.json(whole | ({} if info is None else {"result_info": info}))


def refuse(status: int, code: int, words: str, inner: tuple[int, str] | None = None) -> Response:
    """Return a refusal."""
    error: dict[str, Any] = {"code": code, "message": words}
    if inner is not None:
        error["error_chain"] = [{"code": inner[0], "message": inner[1]}]
    body = {"result": None, "success": False, "errors": [error], "messages": []}
    return Response.json(body, status)


def query_of(request: Request, allowed: frozenset[str]) -> dict[str, str]:
    """Return the query's parameters. Raises `Refused` for unknown and repeated parameters."""
    pairs = parse_qsl(request.query, keep_blank_values=True, strict_parsing=bool(request.query))
    query = dict(pairs)
    if len(query) != len(pairs) or not query.keys() <= allowed:
        raise Refused(400, 6007, "Malformed URL query")  # the number is from memory
    return query


def page_of(
    items: Sequence[Item], query: dict[str, str], *, default: int, least: int, most: int
) -> tuple[Sequence[Item], dict[str, int]]:
    """Return the requested page, and the answer's fields about the whole list."""
    size = _number(query.get("per_page", str(default)), least, most)
    number = _number(query.get("page", "1"), 1, 10_000)
    page = items[(number - 1) * size : number * size]
    return page, {
        "page": number,
        "per_page": size,
        "count": len(page),
        "total_count": len(items),
        "total_pages": math.ceil(len(items) / size),
    }


def _number(written: str, least: int, most: int) -> int:
    if not (written.isascii() and written.isdigit() and least <= int(written) <= most):
        raise Refused(400, 6007, "Malformed URL query")
    return int(written)


NAMESERVERS = ("ada.ns.cloudflare.com", "bob.ns.cloudflare.com")
BASE = "/client/v4"
BEARER = re.compile(r"Bearer ([A-Za-z0-9_-]{40,})", re.ASCII)  # shorter ones are no tokens
READ, EDIT = "Zone:Read", "DNS:Edit"
ROUTES = re.compile(rf"{BASE}/zones(?:/([0-9a-f]{{32}})/dns_records(?:/([0-9a-f]{{32}}))?)?")
ZONE_QUERY = frozenset({"name", "status", "page", "per_page", "order", "direction"})
RECORD_QUERY = frozenset({"type", "name", "content", "page", "per_page", "order", "direction"})
FIELDS = frozenset({"type", "name", "content", "ttl", "proxied", "comment", "tags"})
AUTOMATIC = 1  # in place of a TTL


@dataclass(frozen=True)
class Token:
    """An API token with permissions and zones; `None` stands for all zones of the account."""

    value: str = field(repr=False)
    may: frozenset[str]
    zones: frozenset[str] | None = None

    def sees(self, zone: CloudflareZone) -> bool:
        """Return whether the token has the zone."""
        return self.zones is None or zone.name in self.zones


@dataclass(frozen=True)
class CloudflareZone:
    """A zone of the account; its records are in the zone of the same name."""

    id: str
    name: str
    status: str
    type: str


class CloudflareService(HttpStandIn):
    """Cloudflare's API on loopback, in plain HTTP.

    For `index_delay` seconds of the zones' clock, reads leave new records out. With
    `forgets_records`, new records are accepted and never written. Each answer's Date is `now`.
    """

    def __init__(self, zones: Zones, *, now: Callable[[], datetime] = utc_now) -> None:
        self.http = HttpService(self._answer, clock=now)
        self.index_delay = 0.0
        self.forgets_records = False
        self._records = zones
        self._lock = threading.RLock()
        self._script = Script[Response]()
        self._tokens: dict[str, Token] = {}
        self._zones: dict[str, CloudflareZone] = {}
        self._ids = itertools.count(0x023E105F4ECEF8AD9CA31A8372D0C353)
        self._contents: dict[int, str] = {}

    @property
    def url(self) -> str:
        """The URL that stands for https://api.cloudflare.com/client/v4."""
        return f"{self.http.url}{BASE}"

    def add_token(
        self, value: str, *, may: Sequence[str] = (READ, EDIT), zones: Sequence[str] | None = None
    ) -> Token:
        """Make a token."""
        token = Token(value, frozenset(may), None if zones is None else frozenset(zones))
        self._tokens[value] = token
        return token

    def add_zone(
        self,
        name: str,
        *,
        status: str = "active",
        type: str = "full",  # noqa: A002 - the API's name
    ) -> CloudflareZone:
        """Add a zone (in A-labels) to the account, and to `zones` if the zone is missing there."""
        zone = CloudflareZone(f"{next(self._ids):032x}", name, status, type)
        with self._lock:
            if name not in {one.name for one in self._records.zones_above(name)}:
                self._records.add_zone(name, NAMESERVERS)
            self._zones[zone.id] = zone
        return zone

    def answer_next(
        self,
        pattern: str,
        code: int,
        words: str = "",
        *,
        status: int = 400,
        times: int = 1,
        does_the_work: bool = False,
    ) -> None:
        """Answer the next calls whose "METHOD /path" matches with this error, to callers whose
        token is known.
        """
        response = refuse(status, code, words or f"{code} happened")
        self._script.add(pattern, response, times=times, does_the_work=does_the_work)

    def calls(self, pattern: str = "*") -> list[Request]:
        """The calls so far, in the order of arrival."""
        return self.http.requests(pattern)

    def _answer(self, request: Request) -> Response:
        try:
            with self._lock:
                token = self._caller(request)
                return self._script.answer(request.label, lambda: self._work(token, request))
        except Refused as refusal:
            return refusal.response

    def _caller(self, request: Request) -> Token:
        header = request.headers.get("Authorization")
        if header is None:
            raise Refused(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
        bearer = BEARER.fullmatch(header)
        if bearer is None:
            inner = (6111, "Invalid format for Authorization header")
            raise Refused(400, 6003, "Invalid request headers", inner)
        token = self._tokens.get(bearer[1])
        if token is None:
            raise Refused(403, 9109, "Invalid access token")
        return token

    def _work(self, token: Token, request: Request) -> Response:
        route = ROUTES.fullmatch(request.path)
        if route is None:
            words = f"Could not route to {request.path}, perhaps your object identifier is invalid?"
            raise Refused(404, 7003, words)
        zone_id, record_id = route.groups()
        works: dict[tuple[str, bool, bool], Callable[[], Response]] = {
            ("GET", False, False): lambda: self._list_zones(token, request),
            ("GET", True, False): lambda: self._list(self._zone(token, zone_id), request),
            ("POST", True, False): lambda: self._create(self._zone(token, zone_id), request),
            ("GET", True, True): lambda: self._read(self._zone(token, zone_id), record_id),
            ("DELETE", True, True): lambda: self._delete(self._zone(token, zone_id), record_id),
        }
        work = works.get((request.method, zone_id is not None, record_id is not None))
        if work is None:
            raise Refused(405, 10405, "Method not allowed")
        return work()

    def _zone(self, token: Token, zone_id: str) -> CloudflareZone:
        zone = self._zones.get(zone_id)
        if zone is None or not token.sees(zone) or EDIT not in token.may:
            raise Refused(403, 10000, "Authentication error")
        return zone

    def _list_zones(self, token: Token, request: Request) -> Response:
        query = query_of(request, ZONE_QUERY)
        seen = [
            zone
            for zone in self._zones.values()
            if READ in token.may
            and token.sees(zone)
            and query.get("name", zone.name) == zone.name
            and query.get("status", zone.status) == zone.status
        ]
        page, info = page_of(seen, query, default=20, least=5, most=50)
        facts = [
            {
                "id": zone.id,
                "name": zone.name,
                "status": zone.status,
                "type": zone.type,
                "paused": False,
                "name_servers": list(NAMESERVERS),
            }
            for zone in page
        ]
        return respond(facts, info)

    def _list(self, zone: CloudflareZone, request: Request) -> Response:
        query = query_of(request, RECORD_QUERY)
        found = [
            record
            for record in self._shown(zone)
            if query.get("type", record.rtype) == record.rtype
            and query.get("name", record.name) == record.name
        ]
        page, info = page_of(found, query, default=100, least=1, most=5000)
        return respond([self._facts(record) for record in page], info)

    def _read(self, zone: CloudflareZone, record_id: str) -> Response:
        for record in self._shown(zone):
            if _id_of(record) == record_id:
                return respond(self._facts(record))
        raise _does_not_exist()

    def _create(self, zone: CloudflareZone, request: Request) -> Response:
        fields = _json_of(request)
        rtype, name, content = (fields.get(key) for key in ("type", "name", "content"))
        if not all(isinstance(one, str) and one for one in (rtype, name, content)):
            raise Refused(400, 1004, "DNS Validation Error", (9207, "Content is invalid."))
        ttl = fields.get("ttl", AUTOMATIC)
        if type(ttl) is not int or not (ttl == AUTOMATIC or 60 <= ttl <= 86_400):  # noqa: PLR2004 - the documented bounds
            words = "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic."
            raise Refused(400, 1004, "DNS Validation Error", (9021, words))
        if fields.get("proxied", False) is not False and rtype not in {"A", "AAAA", "CNAME"}:
            words = "This record type cannot be proxied."
            raise Refused(400, 1004, "DNS Validation Error", (9004, words))
        name = str(name).lower()
        if name != zone.name and not name.endswith(f".{zone.name}"):
            name = f"{name}.{zone.name}"  # a name outside is taken for one inside
        return respond(self._written(zone, name, str(rtype), str(content), ttl))

    def _written(
        self, zone: CloudflareZone, name: str, rtype: str, content: str, ttl: int
    ) -> dict[str, Any]:
        value = _unquoted(content) if rtype == "TXT" else content
        there = self._records.records(zone.name, name=name)
        if any((one.rtype, one.value) == (rtype, value) for one in there):
            raise Refused(400, 81058, "An identical record already exists.")
        if there and "CNAME" in {rtype, *(one.rtype for one in there)}:
            raise Refused(400, 81054, "A CNAME record with that host already exists.")
        seconds = 300 if ttl == AUTOMATIC else ttl
        if self.forgets_records:
            return {"id": f"{next(self._ids):032x}", "type": rtype, "name": name}
        record = self._records.create(name, rtype, value, ttl=seconds, zone=zone.name)
        self._contents[record.id] = content
        return self._facts(record)

    def _delete(self, zone: CloudflareZone, record_id: str) -> Response:
        for record in self._records.records(zone.name):
            if _id_of(record) == record_id:
                self._records.remove(record.id)
                return respond({"id": record_id})
        raise _does_not_exist()

    def _shown(self, zone: CloudflareZone) -> list[Record]:
        moment = self._records.clock() - self.index_delay
        return [r for r in self._records.records(zone.name) if r.created <= moment]

    def _facts(self, record: Record) -> dict[str, Any]:
        """Return a record as it was written, quoted or not."""
        return {
            "id": _id_of(record),
            "name": record.name,
            "type": record.rtype,
            "content": self._contents.get(record.id, record.value),
            "proxiable": False,
            "proxied": False,
            "ttl": record.ttl,
            "settings": {},
            "meta": {},
            "comment": None,
            "tags": [],
        }


def _does_not_exist() -> Refused:
    return Refused(404, 81044, "Record does not exist.")


def _id_of(record: Record) -> str:
    return f"{record.id:032x}"


def _unquoted(content: str) -> str:
    """Return a character string without its quotes. Raises `Refused` for quotes inside."""
    value = content[1:-1] if len(content) > 1 and content[0] == content[-1] == '"' else content
    if '"' in value:
        raise Refused(400, 1004, "DNS Validation Error", (9207, "Content is invalid."))
    return value


def _json_of(request: Request) -> dict[str, Any]:
    declared = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    if declared != "application/json" or not isinstance(body, dict) or not body.keys() <= FIELDS:
        raise Refused(400, 9207, "Request body is invalid.")
    return body
