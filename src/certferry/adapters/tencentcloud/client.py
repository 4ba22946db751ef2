"""DNSPod's zones and TXT records, as Tencent Cloud's API 3.0 shows and changes them.

Actions and fields are those of docs/facts/dnspod.md §2.2 and of the vendor's SDK (3.1.195).
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from certferry import __version__
from certferry.adapters.dns.answers import Call as Called
from certferry.adapters.dns.answers import Lost, as_text, clock_ahead, not_again, parsed
from certferry.adapters.dns.records import OutcomeUnknown
from certferry.adapters.dnspod.client import NUMBER, TTL, Body, Item, Listing, TxtRecord, Zone
from certferry.adapters.http.client import (
    HttpClient,
    HttpFailure,
    Request,
    answers_too_many,
    is_server_error,
)
from certferry.adapters.tencentcloud.errors import (
    BROKEN,
    DONE,
    EMPTY,
    EXISTS,
    GONE,
    TOO_MANY,
    TTL_REFUSED,
    Reply,
    error_of,
)
from certferry.core.redaction import quoted, quoted_code, quoted_id
from certferry.core.secret import Secret
from certferry.errors import DnsError
from certferry.ports.http import Answer
from certferry.ports.progress import Pause
from certferry.text import Text

PAGE = 1000  # items; 3,000 are the most (§2.2)
LINE, LINE_ID = "默认", "0"
"""The default line. Abroad it has another name, and everywhere this id, which wins."""


_DOMAINS = Listing("DescribeDomainList", "DomainList", "DomainId", "DomainCountInfo", "DomainTotal")
_RECORDS = Listing("DescribeRecordList", "RecordList", "RecordId", "RecordCountInfo", "TotalCount")


class TencentCloudClient:
    """The domains of one account: see `dnspod_records.Api`. Safe to share between threads."""

    def __init__(self, calls: TencentCloudCalls) -> None:
        self._calls = calls
        self._servers: dict[str, frozenset[str]] = {}

    def zones(self, about: str | Text) -> list[Zone]:
        """List every domain of the account (DescribeDomainList)."""
        items = self._pages(_DOMAINS, about, Type="ALL")
        found = [(_zone(item), item.get("EffectiveDNS")) for item in items]
        self._servers = {zone.id: _hosts(servers) for zone, servers in found}
        return [zone for zone, _ in found]

    def name_servers(self, zone: Zone, about: str | Text) -> frozenset[str]:
        """Give the hosts that serve a domain, which the list of domains has told."""
        del about
        return self._servers.get(zone.id, frozenset())

    def clock_ahead(self) -> timedelta | None:
        """See `TencentCloudCalls.clock_ahead`."""
        return self._calls.clock_ahead()

    def txt_records(self, zone: Zone, host: str, about: str | Text) -> list[TxtRecord]:
        """List the TXT records at exactly this host (DescribeRecordList). A new record may be
        missing here for about 30 seconds (§2.2).
        """
        items = self._pages(
            _RECORDS,
            about,
            **_domain(zone),
            Subdomain=host,
            RecordType="TXT",
            ErrorOnEmpty="no",
        )
        return [
            TxtRecord(
                id=as_text(item.get("RecordId")),
                host=host,
                value=as_text(item.get("Value")),
                is_enabled=as_text(item.get("Status")) != "DISABLE",
            )
            for item in items
            if item.get("Type") == "TXT" and as_text(item.get("Name")).lower() == host
        ]

    def txt_record(self, zone: Zone, record_id: str, about: str | Text) -> TxtRecord | None:
        """Read one record by its id (DescribeRecord); `None` when it is gone, or no TXT record."""
        if not NUMBER.fullmatch(record_id):
            return None
        reply = self._calls.read("DescribeRecord", about, **_domain(zone), RecordId=int(record_id))
        if reply.code in GONE:
            return None
        item = _settled(reply, about).body.get("RecordInfo")
        if not isinstance(item, dict) or item.get("RecordType") != "TXT":
            return None
        return TxtRecord(
            id=record_id,
            host=as_text(item.get("SubDomain")).lower(),
            value=as_text(item.get("Value")),
            is_enabled=as_text(item.get("Enabled")) != "0",
        )

    def create_txt(self, zone: Zone, host: str, value: str, about: str | Text) -> str | None:
        """Write a TXT record and give its id, or `None` when the identical one is there already
        (CreateRecord). A TTL that a plan does not allow is raised once to the free plans'.
        """
        reply = self._create(zone, host, value, zone.ttl, about)
        if reply.code == TTL_REFUSED and zone.ttl < TTL:
            reply = self._create(zone, host, value, TTL, about)
        if reply.code == EXISTS:
            return None
        return as_text(_settled(reply, about).body.get("RecordId")) or None

    def remove(self, zone: Zone, record_id: str, about: str | Text) -> bool:
        """Remove a record by its id, and tell whether it was there (DeleteRecord)."""
        if not NUMBER.fullmatch(record_id):
            return False
        reply = self._calls.write("DeleteRecord", about, **_domain(zone), RecordId=int(record_id))
        if reply.code in GONE:
            return False
        _settled(reply, about)
        return True

    def _create(self, zone: Zone, host: str, value: str, ttl: int, about: str | Text) -> Reply:
        return self._calls.write(
            "CreateRecord",
            about,
            **_domain(zone),
            SubDomain=host,
            RecordType="TXT",
            RecordLine=LINE,
            RecordLineId=LINE_ID,
            Value=value,
            TTL=ttl,
        )

    def _pages(self, listing: Listing, about: str | Text, **params: str | int) -> list[Item]:
        def page(after: int) -> Body | None:
            reply = self._calls.read(listing.action, about, **params, Offset=after, Limit=PAGE)
            return None if reply.code in EMPTY else _settled(reply, about).body

        return listing.read(page, about)


def _zone(item: Item) -> Zone:
    return Zone(
        id=as_text(item.get("DomainId")),
        name=(as_text(item.get("Punycode")) or as_text(item.get("Name"))).lower(),
        status=as_text(item.get("Status")).lower(),
        grade=as_text(item.get("Grade")),
    )


def _domain(zone: Zone) -> dict[str, str | int]:
    """Name a domain twice, as the vendor's SDK does: the name is mandatory, and the id wins."""
    named: dict[str, str | int] = {"Domain": zone.name}
    return {**named, "DomainId": int(zone.id)} if NUMBER.fullmatch(zone.id) else named


def _hosts(servers: object) -> frozenset[str]:
    found = servers if isinstance(servers, list) else []
    return frozenset(filter(None, (as_text(host).rstrip(".").lower() for host in found)))


def _settled(reply: Reply, about: str | Text) -> Reply:
    if reply.code == DONE:
        return reply
    raise error_of(reply, about)


NAME, SERVICE = "Tencent Cloud", "dnspod"
VERSION = "2021-03-23"
CONTENT_TYPE = "application/json"
LANGUAGES = {"zh": "zh-CN"}  # of the error's words; English otherwise
PAUSES_IN_DOUBT = (1.0, 3.0)  # seconds before each repetition of a read that brought no answer

Params = Mapping[str, str | int]


class TencentCloudCalls:
    """Calls with one key. Safe to share between threads.

    Its methods raise `DnsUnavailable`, `DnsAccessDenied` without sending anything when the key was
    refused before, and what `pause` raises. `about` is the name to mention in errors.
    """

    def __init__(
        self,
        *,
        api: str,
        keys: Keys,
        language: str,
        http: HttpClient,
        pause: Pause,
        now: Callable[[], datetime],
    ) -> None:
        parts = urlsplit(api)
        self._url = f"{parts.scheme}://{parts.netloc}/"
        self._host = parts.netloc
        self._keys = keys
        self._language = LANGUAGES.get(language, "en-US")
        self._http = http
        self._pause = pause
        self._now = now
        self._denied: DnsError | None = None

    def read(self, action: str, about: str | Text, **params: str | int) -> Reply:
        """Ask until there is an answer, within reason."""
        for attempt in itertools.count():
            outcome = self._call(action, params, about, repeatable=True)
            pauses = _pauses(outcome)
            if attempt >= len(pauses):
                break
            self._pause(pauses[attempt])
        if isinstance(outcome, Lost):
            raise Called(NAME, action, about).lost(outcome.problem, maybe_done=False)
        return outcome

    def write(self, action: str, about: str | Text, **params: str | int) -> Reply:
        """Ask once. Raises `OutcomeUnknown` when it may have been done or not."""
        outcome = self._call(action, params, about, repeatable=False)
        if isinstance(outcome, Lost):
            call = Called(NAME, action, about, is_write=True)
            raise call.lost(outcome.problem, maybe_done=outcome.maybe_done)
        if outcome.is_in_doubt:
            raise OutcomeUnknown(error_of(outcome, about).message)
        return outcome

    def clock_ahead(self) -> timedelta | None:
        """Return how far the service's clock is ahead, by `GET /`, which wants no key."""
        return clock_ahead(self._http, self._url, NAME, self._now)

    def _call(
        self, action: str, params: Params, about: str | Text, *, repeatable: bool
    ) -> Reply | Lost:
        if self._denied is not None:
            raise not_again(NAME, self._denied)
        body = json.dumps(dict(params)).encode()
        try:
            answer = self._http.exchange(lambda: self._request(action, body), repeatable=repeatable)
        except HttpFailure as exc:
            return Lost(exc.problem, maybe_done=exc.maybe_done)
        outcome = self._parse(action, answer)
        if isinstance(outcome, Reply) and outcome.is_denied:
            self._denied = error_of(outcome, about)
        return outcome

    def _request(self, action: str, body: bytes) -> Request:
        moment = self._now()
        call = Call(SERVICE, self._host, "/", CONTENT_TYPE, body)
        headers = {
            "Host": self._host,
            "Content-Type": CONTENT_TYPE,
            "User-Agent": f"certferry/{__version__}",
            "X-TC-Action": action,
            "X-TC-Version": VERSION,
            "X-TC-Timestamp": timestamp(moment),
            "X-TC-Language": self._language,
            "Authorization": authorization(self._keys, call, moment),
        }
        return Request("POST", self._url, headers, body)

    def _parse(self, action: str, answer: Answer) -> Reply | Lost:
        """Read an answer: success and failure have status 200 (§2.1)."""
        body = _response_of(answer)
        if body is None:
            problem = Text(
                "Tencent Cloud's answer to {action} cannot be read (HTTP status {status})",
                action=action,
                status=answer.status,
            )
            is_refused = answers_too_many(answer)
            return Lost(problem, maybe_done=not is_refused, pauses=PAUSES_IN_DOUBT)
        error = body.get("Error")
        if not isinstance(error, dict):
            return Reply(action, "", quoted(""), as_text(body.get("RequestId")), body)
        hidden = [self._keys.secret_key]
        code = quoted_code(as_text(error.get("Code")), hidden) or BROKEN
        words = quoted(as_text(error.get("Message")), hidden)
        return Reply(action, code, words, quoted_id(as_text(body.get("RequestId")), hidden))


def says_too_many(answer: Answer) -> bool:
    """Tell whether a call was turned down, undone, because there were too many in a second."""
    if answers_too_many(answer):
        return True
    error = (_response_of(answer) or {}).get("Error")
    return isinstance(error, dict) and as_text(error.get("Code")).startswith(TOO_MANY)


def _response_of(answer: Answer) -> dict[str, Any] | None:
    body = None if is_server_error(answer) else parsed(answer.body)
    response = body.get("Response") if body else None
    return response if isinstance(response, dict) else None


def _pauses(outcome: Reply | Lost) -> tuple[float, ...]:
    if isinstance(outcome, Lost):
        return outcome.pauses
    return PAUSES_IN_DOUBT if outcome.is_in_doubt else ()


ALGORITHM = "TC3-HMAC-SHA256"
SIGNED = "content-type;host"


@dataclass(frozen=True, slots=True)
class Keys:
    """An API key: its id, which is sent, and what signatures are made with."""

    secret_id: str
    secret_key: Secret


@dataclass(frozen=True, slots=True)
class Call:
    """What a signature covers: where a POST goes, what its body is declared as, and the body."""

    service: str
    host: str
    path: str
    content_type: str
    body: bytes


def authorization(keys: Keys, call: Call, moment: datetime) -> str:
    """Give the value of `Authorization` for a call that is sent at this moment, to the second."""
    date = f"{moment.astimezone(UTC):%Y-%m-%d}"
    scope = f"{date}/{call.service}/tc3_request"
    message = "\n".join([ALGORITHM, timestamp(moment), scope, _digest(_canonical(call))])
    key = f"TC3{keys.secret_key.reveal()}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    signature = _mac(key, message).hex()
    return (
        f"{ALGORITHM} Credential={keys.secret_id}/{scope}, SignedHeaders={SIGNED},"
        f" Signature={signature}"
    )


def timestamp(moment: datetime) -> str:
    """Give the value of `X-TC-Timestamp`."""
    return str(int(moment.timestamp()))


def _canonical(call: Call) -> bytes:
    headers = f"content-type:{call.content_type}\nhost:{call.host}\n"
    parts = ["POST", call.path, "", headers, SIGNED, _digest(call.body)]
    return "\n".join(parts).encode()


def _digest(data: bytes | str) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def _mac(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()
