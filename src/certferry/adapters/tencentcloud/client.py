"""DNSPod's zones and TXT records, as Tencent Cloud's API 3.0 shows and changes them.

Actions and fields are those of docs/facts/dnspod.md §2.2 and of the vendor's SDK (3.1.195).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from certferry import __version__
from certferry.adapters.dns.answers import (
    Item,
    JsonTxtService,
    Reply,
    as_text,
    object_in,
    objects,
    parsed,
)
from certferry.adapters.dns.records import TxtRecord, Zone
from certferry.adapters.dnspod.client import NUMBER, TTL, DnspodZone, total_in, zone_of
from certferry.adapters.http.client import HttpClient, Request, answers_too_many, is_server_error
from certferry.adapters.tencentcloud.errors import (
    BROKEN,
    CODES,
    EMPTY,
    EXISTS,
    GONE,
    TOO_MANY,
    TTL_REFUSED,
)
from certferry.core.redaction import quoted, quoted_code, quoted_id
from certferry.core.secret import Secret
from certferry.ports.http import Answer
from certferry.ports.progress import Pause
from certferry.text import Text

NAME, SERVICE = "Tencent Cloud", "dnspod"
VERSION = "2021-03-23"
CONTENT_TYPE = "application/json"
LANGUAGES = {"zh": "zh-CN"}  # of the error's words; English otherwise
PAGE = 1000  # items; 3,000 are the most (§2.2)
LINE, LINE_ID = "默认", "0"
"""The default line. Abroad it has another name, and everywhere this id, which wins."""
ZONE_KEYS = {
    "id": "DomainId",
    "punycode": "Punycode",
    "name": "Name",
    "status": "Status",
    "grade": "Grade",
}


class TencentCloudClient(JsonTxtService):
    """The domains of one account, by a key: see `dns.records.TxtService`."""

    pauses_in_doubt = (1.0, 3.0)

    def __init__(
        self,
        *,
        api: str,
        keys: TencentKeys,
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
        clock = Request("GET", self._url)
        super().__init__(NAME, CODES, http=http, clock=clock, pause=pause, now=now)

    def list_zones(self, about: str | Text) -> list[Zone]:
        """Read every domain of the account (DescribeDomainList), with the hosts that serve it."""
        keys = ("DomainList", "DomainId", "DomainCountInfo", "DomainTotal")
        items = self._list("DescribeDomainList", keys, about, Type="ALL")
        return [zone_of(item, ZONE_KEYS, item.get("EffectiveDNS")) for item in items]

    def records(self, zone: Zone, name: str) -> list[TxtRecord]:
        """See `TxtService.records` (DescribeRecordList). A new record may be missing here for about
        30 seconds (§2.2).
        """
        host = zone.host_of(name)
        items = self._list(
            "DescribeRecordList",
            ("RecordList", "RecordId", "RecordCountInfo", "TotalCount"),
            name,
            **_domain(zone),
            Subdomain=host,
            RecordType="TXT",
            ErrorOnEmpty="no",
        )
        return [
            TxtRecord(
                as_text(item.get("RecordId")),
                name,
                as_text(item.get("Value")),
                as_text(item.get("Status")) != "DISABLE",
            )
            for item in items
            if item.get("Type") == "TXT" and as_text(item.get("Name")).lower() == host
        ]

    def record(self, zone: Zone, record_id: str, about: str) -> TxtRecord | None:
        """See `TxtService.record` (DescribeRecord)."""
        if not NUMBER.fullmatch(record_id):
            return None
        reply = self._asked("DescribeRecord", about, **_domain(zone), RecordId=int(record_id))
        if reply.code in GONE:
            return None
        item = object_in(self.settled(reply, about), "RecordInfo")
        if item.get("RecordType") != "TXT":
            return None
        name = zone.name_of(as_text(item.get("SubDomain")).lower())
        is_enabled = as_text(item.get("Enabled")) != "0"
        return TxtRecord(record_id, name, as_text(item.get("Value")), is_enabled)

    def create(self, zone: Zone, name: str, value: str) -> str | None:
        """See `TxtService.create` (CreateRecord). A TTL that a plan does not allow is raised once,
        to the free plans'.
        """
        ttl = zone.ttl if isinstance(zone, DnspodZone) else TTL
        reply = self._create(zone, name, value, ttl)
        if reply.code == TTL_REFUSED and ttl < TTL:
            reply = self._create(zone, name, value, TTL)
        if reply.code == EXISTS:
            return None
        return as_text(self.settled(reply, name).get("RecordId")) or None

    def remove(self, zone: Zone, record_id: str, about: str) -> bool:
        """See `TxtService.remove` (DeleteRecord)."""
        if not NUMBER.fullmatch(record_id):
            return False
        prepare = self._prepared("DeleteRecord", **_domain(zone), RecordId=int(record_id))
        reply = self.write("DeleteRecord", about, prepare)
        if reply.code in GONE:
            return False
        self.settled(reply, about)
        return True

    def reply(self, action: str, answer: Answer) -> Reply | None:
        """See `JsonTxtService.reply`: success and failure have status 200 (§2.1)."""
        body = _response_of(answer)
        if body is None:
            return None
        hidden = [self._keys.secret_key]
        request_id = quoted_id(as_text(body.get("RequestId")), hidden)
        error = body.get("Error")
        if not isinstance(error, dict):
            return Reply(action, "", quoted(""), body)
        code = quoted_code(as_text(error.get("Code")), hidden) or BROKEN
        is_in_doubt = code == BROKEN or code.startswith(f"{BROKEN}.")
        return Reply(
            action,
            code,
            quoted(as_text(error.get("Message")), hidden),
            request_id=request_id,
            is_in_doubt=is_in_doubt,
            pauses=self.pauses_in_doubt if is_in_doubt else (),
        )

    def _create(self, zone: Zone, name: str, value: str, ttl: int) -> Reply:
        prepare = self._prepared(
            "CreateRecord",
            **_domain(zone),
            SubDomain=zone.host_of(name),
            RecordType="TXT",
            RecordLine=LINE,
            RecordLineId=LINE_ID,
            Value=value,
            TTL=ttl,
        )
        return self.write("CreateRecord", name, prepare)

    def _list(
        self, action: str, keys: tuple[str, str, str, str], about: str | Text, **params: str | int
    ) -> list[Item]:
        listed, key, counts, total = keys

        def page(number: int, before: int) -> tuple[list[Item], bool]:
            del number
            reply = self._asked(action, about, **params, Offset=before, Limit=PAGE)
            if reply.code in EMPTY:
                return [], True
            body = self.settled(reply, about)
            found = objects(body.get(listed))
            return found, not found or before + len(found) >= total_in(body.get(counts), total)

        return self.pages(page, about, key=lambda item: as_text(item.get(key)))

    def _asked(self, action: str, about: str | Text, **params: str | int) -> Reply:
        return self.read(action, about, self._prepared(action, **params))

    def _prepared(self, action: str, **params: str | int) -> Callable[[], Request]:
        """Sign a call anew for each attempt: a signature is good for five minutes."""
        body = json.dumps(params).encode()

        def prepare() -> Request:
            moment = self._now()
            call = SignedCall(SERVICE, self._host, "/", CONTENT_TYPE, body)
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

        return prepare


def _domain(zone: Zone) -> dict[str, str | int]:
    """Name a domain twice, as the vendor's SDK does: the name is mandatory, and the id wins."""
    named: dict[str, str | int] = {"Domain": zone.name}
    return {**named, "DomainId": int(zone.id)} if NUMBER.fullmatch(zone.id) else named


def says_too_many(answer: Answer) -> bool:
    """Return whether a call was refused, undone, because there were too many in a second."""
    if answers_too_many(answer):
        return True
    code = as_text(object_in(_response_of(answer), "Error").get("Code"))
    return code.startswith(TOO_MANY)


def _response_of(answer: Answer) -> dict[str, Any] | None:
    body = None if is_server_error(answer) else parsed(answer.body)
    response = body.get("Response") if body else None
    return response if isinstance(response, dict) else None


ALGORITHM = "TC3-HMAC-SHA256"
SIGNED = "content-type;host"


@dataclass(frozen=True, slots=True)
class TencentKeys:
    """An API key: its id, which is sent, and what signatures are made with."""

    secret_id: str
    secret_key: Secret


@dataclass(frozen=True, slots=True)
class SignedCall:
    """What a signature covers: where a POST goes, what its body is declared as, and the body."""

    service: str
    host: str
    path: str
    content_type: str
    body: bytes


def authorization(keys: TencentKeys, call: SignedCall, moment: datetime) -> str:
    """Return the value of `Authorization` for a call that is sent at this moment, to the second."""
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
    """Return the value of `X-TC-Timestamp`."""
    return str(int(moment.timestamp()))


def _canonical(call: SignedCall) -> bytes:
    headers = f"content-type:{call.content_type}\nhost:{call.host}\n"
    parts = ["POST", call.path, "", headers, SIGNED, _digest(call.body)]
    return "\n".join(parts).encode()


def _digest(data: bytes | str) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def _mac(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()
