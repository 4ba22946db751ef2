"""Alibaba Cloud DNS's domains and TXT records, as its RPC API (2015-01-09) shows and changes them.

Documented (help.aliyun.com, Alibaba Cloud DNS): the calls, their parameters and answers, pages of
at most 100 domains and 500 records. From clients (acme.sh's dns_ali, lego's alidns): the same
calls, a TTL of 600. From memory: a record's `Status` is ENABLE or DISABLE, in either case.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

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
from certferry.adapters.http.client import HttpClient, Request
from certferry.core.certificates import names as identifiers
from certferry.core.redaction import quoted, quoted_code
from certferry.core.secret import Secret
from certferry.errors import DnsAccessDenied, DnsError, DnsRejected, DnsUnavailable
from certferry.ports.adapter import CodeMeaning
from certferry.ports.http import Answer
from certferry.text import Quoted, Text

DOMAINS_PAGE = 100
RECORDS_PAGE = 500
MOST_PAGES = 200  # of a list: twenty thousand domains
TTL = 600  # seconds; the free plan's minimum, and no plan's is above it
RECORD_ID = re.compile(r"[0-9]{1,30}", re.ASCII)

Params = Mapping[str, str]


def answers_too_many(answer: Answer) -> bool:
    """Tell whether a call was turned down, undone, because there were too many: that is a code of
    an ordinary refusal here.
    """
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    return answer.status >= HTTPStatus.BAD_REQUEST and b'"Throttling' in answer.body


class AlidnsClient:
    """The domains of one account: see `txt_records.TxtService`. The domains are listed once, when
    first needed. `http` recognises too many calls by `answers_too_many`.

    When the keys were refused, nothing more is sent with them.
    """

    def __init__(
        self,
        *,
        api: str,
        access_key_id: str,
        access_key_secret: Secret,
        http: HttpClient,
        now: Callable[[], datetime],
    ) -> None:
        self._url = f"{api.rstrip('/')}/"
        self._id = access_key_id
        self._secret = access_key_secret
        self._http = http
        self._now = now
        self._listing = threading.Lock()
        self._zones: list[Zone] | None = None
        self._denied: DnsAccessDenied | None = None

    def zones(self) -> list[Zone]:
        """See `TxtService.zones` (DescribeDomains)."""
        with self._listing:
            if self._zones is None:
                listed = self._pages(
                    "DescribeDomains", ("Domains", "Domain"), ALL_ZONES, DOMAINS_PAGE
                )
                found = map(_zone_of, listed)
                self._zones = [zone for zone in found if is_zone_name(zone.name)]
            return self._zones

    def zones_above(self, name: str) -> Iterator[Zone]:
        """See `TxtService.zones_above`."""
        by_name = {zone.name: zone for zone in self.zones()}
        return (by_name[suffix] for suffix in identifiers.suffixes(name) if suffix in by_name)

    def clock_ahead(self) -> timedelta | None:
        """See `TxtService.clock_ahead`."""
        return clock_ahead(self._http, self._url, SERVICE, self._now)

    def records(self, zone: Zone, name: str) -> list[TxtRecord]:
        """See `TxtService.records` (DescribeSubDomainRecords): with `DomainName`, the host is what
        `SubDomain` has left of it, so both spell the domain as the account does.
        """
        host = _host_of(name, zone)
        items = self._pages(
            "DescribeSubDomainRecords",
            ("DomainRecords", "Record"),
            name,
            RECORDS_PAGE,
            SubDomain=zone.id if host == "@" else f"{host}.{zone.id}",
            DomainName=zone.id,
            Type="TXT",
        )
        found = [_record_of(item, zone) for item in items]
        return [record for record in found if record is not None and record.name == name]

    def record(self, zone: Zone, record_id: str, about: str) -> TxtRecord | None:
        """See `TxtService.record` (DescribeDomainRecordInfo)."""
        if not RECORD_ID.fullmatch(record_id):
            return None
        reply = self._call("DescribeDomainRecordInfo", about, {"RecordId": record_id})
        if reply.code in GONE:
            return None
        return _record_of(_settled(reply, about).body, zone)

    def create(self, zone: Zone, name: str, value: str) -> str | None:
        """See `TxtService.create` (AddDomainRecord)."""
        record = {"RR": _host_of(name, zone), "Type": "TXT", "Value": value, "TTL": str(TTL)}
        params = {"DomainName": zone.id, **record}
        reply = self._call("AddDomainRecord", name, params, is_write=True)
        if reply.code == DUPLICATE:
            return None
        record_id = as_text(_settled(reply, name).body.get("RecordId"))
        return record_id if RECORD_ID.fullmatch(record_id) else None

    def remove(self, zone: Zone, record_id: str, about: str) -> bool:
        """See `TxtService.remove` (DeleteDomainRecord)."""
        del zone  # ids are unique in all accounts
        reply = self._call("DeleteDomainRecord", about, {"RecordId": record_id}, is_write=True)
        if reply.code in GONE:
            return False
        _settled(reply, about)
        return True

    def _call(
        self, action: str, about: str | Text, params: Params, *, is_write: bool = False
    ) -> Reply:
        if self._denied is not None:
            raise not_again(SERVICE, self._denied)
        call = Call(SERVICE, action, about, is_write)
        answer = ask(self._http, lambda: self._request(action, params), call)
        body = answer.body
        refused = answer.http.status >= HTTPStatus.BAD_REQUEST or "Code" in body
        hidden = [self._secret, Secret(self._id)]
        code = (quoted_code(as_text(body.get("Code")), hidden) or "?") if refused else ""
        words = quoted(as_text(body.get("Message")), hidden)
        reply = Reply(action, code, words, body)
        if is_write and (answer.is_in_doubt or is_in_doubt(code)):
            raise OutcomeUnknown(error_of(reply, about).message)
        if answer.is_in_doubt:
            raise DnsUnavailable(error_of(reply, about).message, hint=LATER)
        return reply

    def _request(self, action: str, params: Params) -> Request:
        """Sign a call anew for each attempt: a nonce is taken once."""
        told = {
            **common(self._id, now=self._now(), nonce=new_nonce()),
            "Action": action,
            "Lang": "en",
            **params,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Request("POST", self._url, headers, form("POST", told, self._secret))

    def _pages(
        self, action: str, way: tuple[str, str], about: str | Text, size: int, **params: str
    ) -> Iterator[dict[str, Any]]:
        """Read a list to its end, the told total. Raises `DnsUnavailable` where it has none."""
        seen: set[str] = set()
        for page in range(1, MOST_PAGES + 1):
            pages = {"PageNumber": str(page), "PageSize": str(size)}
            reply = self._call(action, about, {**params, **pages})
            body = self._allowed(reply, about).body
            outer = body.get(way[0])
            items = objects(outer.get(way[1])) if isinstance(outer, dict) else []
            yield from items
            before, total = len(seen), _total(body)
            seen.update(map(repr, items))
            if len(seen) >= total or (total == math.inf and not items):
                return
            if len(seen) == before:
                break  # half a list is not the whole
        raise DnsUnavailable(
            Text(
                "{about}: a list at {service} does not come to an end", about=about, service=SERVICE
            )
        )

    def _allowed(self, reply: Reply, about: str | Text) -> Reply:
        """Remember keys that may not even list the domains: they are no good for anything."""
        try:
            return _settled(reply, about)
        except DnsAccessDenied as denied:
            if reply.action == "DescribeDomains":
                self._denied = denied
            raise


def _settled(reply: Reply, about: str | Text) -> Reply:
    if reply.code:
        raise error_of(reply, about)
    return reply


def _total(body: Mapping[str, Any]) -> float:
    total = body.get("TotalCount")
    return total if isinstance(total, int) else math.inf


def _host_of(name: str, zone: Zone) -> str:
    return name.removesuffix(zone.name).rstrip(".") or "@"


def _zone_of(item: dict[str, Any]) -> Zone:
    told = as_text(item.get("DomainName"))
    name = (as_text(item.get("PunyCode")) or told).lower()
    servers = item.get("DnsServers")
    hosts = servers.get("DnsServer") if isinstance(servers, dict) else None
    # It is sent back as it was told, unless that is nothing to be sent.
    spelt = told if told.isprintable() else name
    return Zone(spelt or name, name, name_servers=hosts_of(hosts))


def _record_of(item: object, zone: Zone) -> TxtRecord | None:
    """Read a record, if it is a TXT record of this zone."""
    if not isinstance(item, dict):
        return None
    host, value = as_text(item.get("RR")).lower(), as_text(item.get("Value"))
    record_id = as_text(item.get("RecordId"))
    # Told in Unicode or in A-labels: the documents show it in neither case.
    is_ours = as_text(item.get("DomainName")).lower() in {zone.id.lower(), zone.name}
    if item.get("Type") != "TXT" or not is_ours or not RECORD_ID.fullmatch(record_id):
        return None
    name = zone.name if host == "@" else f"{host}.{zone.name}"
    return TxtRecord(record_id, name, value, as_text(item.get("Status")).lower() != "disable")


VERSION = "2015-01-09"


def new_nonce() -> str:
    """Give a number that no request has had: one that comes again is refused."""
    return str(uuid.uuid4())


def common(access_key_id: str, *, now: datetime, nonce: str) -> dict[str, str]:
    """Give the parameters that every call has. `now` is refused when it is 15 minutes off."""
    return {
        "AccessKeyId": access_key_id,
        "Format": "JSON",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureNonce": nonce,
        "SignatureVersion": "1.0",
        "Timestamp": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Version": VERSION,
    }


def form(method: str, params: Mapping[str, str], secret: Secret) -> bytes:
    """Give the form to send: the parameters with their signature."""
    return urlencode({**params, "Signature": signature(method, params, secret)}).encode()


def signature(method: str, params: Mapping[str, str], secret: Secret) -> str:
    """Sign the parameters, in base64."""
    pairs = "&".join(f"{_encoded(key)}={_encoded(params[key])}" for key in sorted(params))
    message = f"{method}&{_encoded('/')}&{_encoded(pairs)}"
    key = f"{secret.reveal()}&".encode()
    return base64.b64encode(hmac.new(key, message.encode(), hashlib.sha1).digest()).decode()


def _encoded(value: str) -> str:
    """Percent-encode all but RFC 3986's unreserved characters, as the signature wants it."""
    return quote(value, safe="")


SERVICE = "Alibaba Cloud DNS"

DUPLICATE = "DomainRecordDuplicate"
GONE = frozenset({"DomainRecordNotBelongToUser", "InvalidRecordId.NotFound"})
THROTTLED = "Throttling"  # and Throttling.User, Throttling.Api

TEMPORARY_KEY = Text(
    "the key is a temporary one (STS.…) of a RAM role, which ends within hours: make an AccessKey "
    "of a RAM user at ram.console.aliyun.com, with the permission AliyunDNSFullAccess"
)
_CHECK = Text(
    "compare `access_key_id` and `access_key_secret` with the AccessKeys of the RAM user at "
    "ram.console.aliyun.com; a secret is shown only when it is made"
)
_PERMISSION = Text(
    "give the RAM user the permissions alidns:DescribeDomains, DescribeSubDomainRecords, "
    "DescribeDomainRecordInfo, AddDomainRecord and DeleteDomainRecord, or AliyunDNSFullAccess"
)
_LOOK = Text("look at the domain at dns.console.aliyun.com")
_CLOCK = Text("this machine's clock is off by more than 15 minutes: set it, then try again")
_PLAN = Text("the domain's plan at Alibaba Cloud DNS does not allow it: free some, or upgrade it")
_ACCOUNT = Text("look at the account's notices at home.console.aliyun.com")
LATER = Text("try again in some minutes")

# The longest beginning of a code counts: `Forbidden.RAM` before `Forbidden`.
_DENIED: dict[str, Text] = {
    "InvalidAccessKeyId": Text(
        "there is no such AccessKey, or it is disabled: {check}", check=_CHECK
    ),
    "SignatureDoesNotMatch": Text(
        "`access_key_secret` does not belong to `access_key_id`: {check}", check=_CHECK
    ),
    "IncompleteSignature": _CHECK,
    "MissingSecurityToken": TEMPORARY_KEY,
    "InvalidSecurityToken": TEMPORARY_KEY,
    "Forbidden": _PERMISSION,
    "NoPermission": _PERMISSION,
    "Forbidden.RiskControl": _ACCOUNT,
    "Forbidden.UserVerification": _ACCOUNT,
}

_REJECTED: dict[str, Text] = {
    "Forbidden.DomainExpired": _LOOK,
    "Forbidden.DomainLocked": _LOOK,
    "Forbidden.DomainType": _LOOK,
    "Forbidden.RecordLocked": _LOOK,
    "Forbidden.ProtectedDomain": _LOOK,
    "IllegalTimestamp": _CLOCK,
    "InvalidTimeStamp": _CLOCK,
    "DomainRecordConflict": Text(
        "another record at this name excludes it: remove that record, or let a CNAME there lead "
        "to a zone in which the challenge can be written"
    ),
    "QuotaExceeded": _PLAN,
}

_UNAVAILABLE: dict[str, Text] = {
    THROTTLED: Text("the account has made too many calls: let it rest for some minutes"),
    "InternalError": LATER,
    "ServiceUnavailable": LATER,
    "UnKnownError": LATER,  # their spelling
}


CODES: Mapping[str, CodeMeaning] = {
    code: CodeMeaning(advice)
    for table in (_DENIED, _REJECTED, _UNAVAILABLE)
    for code, advice in table.items()
}
"""What is known of the service's codes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered: `code` is empty for a success."""

    action: str
    code: str
    words: Quoted
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)


def is_in_doubt(code: str) -> bool:
    """Tell whether the service may have made the change all the same."""
    return code in {"InternalError", "ServiceUnavailable", "UnKnownError"}


def error_of(reply: Reply, about: str | Text) -> DnsError:
    """Give the error that a code stands for; `about` is the name that was worked on."""
    message = Text(
        "{about}: {service} answered {action} with code {code}: {words}",
        about=about,
        service=SERVICE,
        action=reply.action,
        code=reply.code,
        words=reply.words,
    )
    kinds: tuple[tuple[type[DnsError], dict[str, Text]], ...] = (
        (DnsAccessDenied, _DENIED),
        (DnsRejected, _REJECTED),
        (DnsUnavailable, _UNAVAILABLE),
    )
    known = {beginning: (kind, hint) for kind, table in kinds for beginning, hint in table.items()}
    beginning = max(filter(reply.code.startswith, known), key=len, default="")
    kind, hint = known.get(beginning, (DnsRejected, _LOOK))
    return kind(message, hint=hint)
