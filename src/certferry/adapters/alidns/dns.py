"""DNS at Alibaba Cloud DNS (alidns), through the RPC API of 2015-01-09.

API reference: https://help.aliyun.com/zh/dns/api-alidns-2015-01-09-overview.
Permissions: an AccessKey of a RAM user with alidns:DescribeDomains, DescribeSubDomainRecords,
DescribeDomainRecordInfo, AddDomainRecord and DeleteDomainRecord. All except DescribeDomains can be
narrowed to single domains (`acs:alidns:*:<account>:domain/<name>`).

The API reference documents the calls, parameters and answers, and pages of at most 100 domains and
500 records. Clients (acme.sh's dns_ali, lego's alidns) make the same calls, with a TTL of 600. From
memory: a record's `Status` is ENABLE or DISABLE, in capitals or small letters.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote, urlencode

from certferry.adapters.dns import answers
from certferry.adapters.dns.keys import EMPTY, KeyForms, Mistaken
from certferry.adapters.dns.txt_records import TxtRecord, TxtRecords, Zone, hosts_of
from certferry.adapters.http.exchange import Request
from certferry.adapters.http.http_client import HttpClient, client_in, is_server_error
from certferry.core.redaction import Secret, quoted, quoted_code
from certferry.errors import DnsError, DnsUnavailable
from certferry.ports.adapter import Answer, Context, Variable, json_object
from certferry.ports.dns import DnsProvider
from certferry.text import Text

SERVICE = "Alibaba Cloud DNS"
CALLED = Text("Alibaba Cloud DNS")
RANK = 30
WHERE_KEYS_ARE = Text(
    "ram.console.aliyun.com → Users → create AccessKey, with the permission AliyunDNSFullAccess; "
    "the secret is shown only once, at creation"
)
ENVIRONMENT = (
    Variable(
        "access_key_id",
        ("Ali_Key", "ALICLOUD_ACCESS_KEY"),
        Text("the AccessKey id of a RAM user at Alibaba Cloud"),
        is_public=True,
        acme_sh="Ali_Key",
    ),
    Variable(
        "access_key_secret",
        ("Ali_Secret", "ALICLOUD_SECRET_KEY"),
        Text("the secret of the AccessKey"),
        acme_sh="Ali_Secret",
    ),
)

REQUESTS_PER_SECOND = 5.0  # modest; the limit is a few hundred (from memory)
VERSION = "2015-01-09"
DOMAINS_PAGE = 100
RECORDS_PAGE = 500
TTL = 600  # seconds; the free plan's minimum, the highest of all plans
RECORD_ID = re.compile(r"[0-9]{1,30}", re.ASCII)
DUPLICATE = "DomainRecordDuplicate"

_TEMPORARY_KEY = Text(
    "the key is a temporary key (STS.…) of a RAM role and expires within hours: create an "
    "AccessKey of a RAM user at ram.console.aliyun.com, with the permission AliyunDNSFullAccess"
)
_CHECK = Text(
    "compare `access_key_id` and `access_key_secret` with the AccessKeys of the RAM user at "
    "ram.console.aliyun.com; a secret is shown only at creation"
)
_PERMISSION = Text(
    "give the RAM user the permissions alidns:DescribeDomains, DescribeSubDomainRecords, "
    "DescribeDomainRecordInfo, AddDomainRecord and DeleteDomainRecord, or AliyunDNSFullAccess"
)
_LOOK = Text("check the domain at dns.console.aliyun.com")
_CLOCK = Text(
    "the clock of this host is off by more than 15 minutes: set the clock, then try again"
)
_PLAN = Text(
    "the domain's plan at Alibaba Cloud DNS is used up: remove records, or upgrade the plan"
)
_ACCOUNT = Text("check the account's notices at home.console.aliyun.com")

_IN_DOUBT = ("InternalError", "ServiceUnavailable", "UnKnownError")  # spelt as by the service
_FORBIDDEN = ("DomainExpired", "DomainLocked", "DomainType", "RecordLocked", "ProtectedDomain")

_ANSWERS = answers.Codes(
    Text("{about}: Alibaba Cloud DNS answered {action} with code {code}: {words}"),
    _LOOK,
    denied={
        "InvalidAccessKeyId": Text(
            "the AccessKey does not exist or is disabled: {check}", check=_CHECK
        ),
        "SignatureDoesNotMatch": Text(
            "`access_key_secret` does not belong to `access_key_id`: {check}", check=_CHECK
        ),
        "IncompleteSignature": _CHECK,
        **dict.fromkeys(("MissingSecurityToken", "InvalidSecurityToken"), _TEMPORARY_KEY),
        **dict.fromkeys(("Forbidden", "NoPermission"), _PERMISSION),
        **dict.fromkeys(("Forbidden.RiskControl", "Forbidden.UserVerification"), _ACCOUNT),
    },
    rejected={
        **dict.fromkeys((f"Forbidden.{word}" for word in _FORBIDDEN), _LOOK),
        **dict.fromkeys(("IllegalTimestamp", "InvalidTimeStamp"), _CLOCK),
        "DomainRecordConflict": answers.EXCLUDED,
        "QuotaExceeded": _PLAN,
    },
    unavailable={
        "Throttling": answers.TOO_MANY_CALLS,  # and Throttling.User, Throttling.Api
        **dict.fromkeys(_IN_DOUBT, answers.LATER),
    },
)
CODES = _ANSWERS.meanings

KEYS = KeyForms(
    Text("Alibaba Cloud"),
    Text("create an AccessKey of a RAM user at ram.console.aliyun.com"),
    (
        Mistaken("access_key_id access_key_secret", "^$", EMPTY),
        Mistaken("access_key_id", r"^STS\.", Text("is a temporary key (STS.…)"), _TEMPORARY_KEY),
        Mistaken("access_key_id", "^AKID", Text("is a key of Tencent Cloud (AKID…)")),
        Mistaken(
            "access_key_secret",
            "^LTAI",
            Text("is the id of an AccessKey (LTAI…)"),
            Text("`access_key_id` begins with LTAI; the secret has 30 characters"),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`. An `access_key_id` begins with LTAI."""

    access_key_id: Secret
    access_key_secret: Secret
    api: Annotated[str, Text("the address of the API")] = "https://alidns.aliyuncs.com"


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account, without sending a request. Raises `ConfigError`."""
    key_id = settings.access_key_id.reveal().strip()
    secret = settings.access_key_secret.reveal().strip()
    KEYS.must_fit(access_key_id=key_id, access_key_secret=secret)
    http = client_in(context, settings.api, REQUESTS_PER_SECOND, answers_too_many)
    service = AlidnsClient(settings.api, key_id, Secret(secret), http, context)
    return TxtRecords(SERVICE, service, context.pause)


def answers_too_many(answer: Answer) -> bool:
    """Return whether a call was refused only for its rate, by status or by code."""
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    return answer.status >= HTTPStatus.BAD_REQUEST and b'"Throttling' in answer.body


class AlidnsClient(answers.JsonTxtService):
    """The domains of one account. Keys refused for the list of domains are not sent again."""

    decisive = ("DescribeDomains",)
    gone = ("DomainRecordNotBelongToUser", "InvalidRecordId.NotFound")

    def __init__(
        self, api: str, key_id: str, secret: Secret, http: HttpClient, context: Context
    ) -> None:
        self._url = f"{api.rstrip('/')}/"
        self._id = key_id
        self._secret = secret
        super().__init__(SERVICE, _ANSWERS, http, Request("GET", self._url), context)

    def list_zones(self, about: str | Text) -> Iterable[Zone]:
        """Read every domain of the account (DescribeDomains)."""
        listed = self._list("DescribeDomains", ("Domains", "Domain"), about, DOMAINS_PAGE)
        return map(_zone_of, listed)

    def records(self, zone: Zone, name: str) -> list[TxtRecord]:
        """See `TxtService.records` (DescribeSubDomainRecords).

        The service cuts `DomainName` off `SubDomain` to get the host, so both parameters spell the
        domain as the account does.
        """
        host = zone.host_of(name)
        at = zone.id if host == "@" else f"{host}.{zone.id}"
        where = {"SubDomain": at, "DomainName": zone.id, "Type": "TXT"}
        keys = ("DomainRecords", "Record")
        items = self._list("DescribeSubDomainRecords", keys, name, RECORDS_PAGE, **where)
        records = [_record_of(item, zone) for item in items]
        return [record for record in records if record is not None and record.name == name]

    def record(self, zone: Zone, record_id: str, about: str) -> TxtRecord | None:
        """See `TxtService.record` (DescribeDomainRecordInfo)."""
        if not RECORD_ID.fullmatch(record_id):
            return None
        reply = self.read("DescribeDomainRecordInfo", about, RecordId=record_id)
        body = self.unless_gone(reply, about)
        return None if body is None else _record_of(body, zone)

    def create(self, zone: Zone, name: str, value: str) -> str | None:
        """See `TxtService.create` (AddDomainRecord)."""
        record = {"RR": zone.host_of(name), "Type": "TXT", "Value": value, "TTL": str(TTL)}
        reply = self.write("AddDomainRecord", name, DomainName=zone.id, **record)
        if reply.code == DUPLICATE:
            return None
        record_id = answers.as_text(self.settled(reply, name).get("RecordId"))
        return record_id if RECORD_ID.fullmatch(record_id) else None

    def remove(self, zone: Zone, record_id: str, about: str) -> bool:
        """See `TxtService.remove` (DeleteDomainRecord)."""
        del zone  # ids are unique across all accounts
        reply = self.write("DeleteDomainRecord", about, RecordId=record_id)
        return self.unless_gone(reply, about) is not None

    def reply(self, action: str, answer: Answer) -> answers.Reply | None:
        """See `JsonTxtService.reply`."""
        body = json_object(answer.body)
        if body is None:
            return None
        hidden = [self._secret, Secret(self._id)]
        is_refused = answer.status >= HTTPStatus.BAD_REQUEST or "Code" in body
        code = (quoted_code(answers.as_text(body.get("Code")), hidden) or "?") if is_refused else ""
        words = quoted(answers.as_text(body.get("Message")), hidden)
        is_in_doubt = code in _IN_DOUBT or is_server_error(answer)
        return answers.Reply(action, code, words, body, is_in_doubt=is_in_doubt)

    def error(self, reply: answers.Reply, about: str | Text) -> DnsError:
        """See `JsonTxtService.error`. An answer in doubt counts as unavailable, not as refusal."""
        error = super().error(reply, about)
        return DnsUnavailable(error.message, hint=answers.LATER) if reply.is_in_doubt else error

    def request(self, action: str, **params: str) -> Request:
        """See `JsonTxtService.request`. The service accepts a nonce once."""
        shared = common(self._id, now=self._now(), nonce=new_nonce())
        signed = {**shared, "Action": action, "Lang": "en", **params}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Request("POST", self._url, headers, form("POST", signed, self._secret))

    def _list(
        self, action: str, keys: tuple[str, str], about: str | Text, size: int, **params: str
    ) -> list[answers.Item]:
        """Read a list up to the service's total; without a total, up to an empty page."""

        def page(number: int, before: int) -> tuple[list[answers.Item], bool]:
            where = {**params, "PageNumber": str(number), "PageSize": str(size)}
            body = self.settled(self.read(action, about, **where), about)
            items = answers.objects(answers.object_in(body, keys[0]).get(keys[1]))
            total = body.get("TotalCount")
            total = total if isinstance(total, int) else math.inf
            return items, before + len(items) >= total or (total == math.inf and not items)

        return self.pages(page, about)


def _zone_of(item: answers.Item) -> Zone:
    listed = answers.as_text(item.get("DomainName"))
    name = (answers.as_text(item.get("PunyCode")) or listed).lower()
    servers = hosts_of(answers.object_in(item, "DnsServers").get("DnsServer"))
    # Requests send the domain back in the service's spelling, if printable.
    spelt = listed if listed.isprintable() else name
    return Zone(spelt or name, name, name_servers=servers)


def _record_of(item: Mapping[str, object], zone: Zone) -> TxtRecord | None:
    """Return a record; `None` unless a TXT record of this zone."""
    host, value = answers.as_text(item.get("RR")).lower(), answers.as_text(item.get("Value"))
    record_id = answers.as_text(item.get("RecordId"))
    # `DomainName` may be in Unicode or in A-labels: the documents do not say which.
    is_ours = answers.as_text(item.get("DomainName")).lower() in {zone.id.lower(), zone.name}
    if item.get("Type") != "TXT" or not is_ours or not RECORD_ID.fullmatch(record_id):
        return None
    is_enabled = answers.as_text(item.get("Status")).lower() != "disable"
    return TxtRecord(record_id, zone.name_of(host), value, is_enabled)


def new_nonce() -> str:
    """Return a new nonce: the service refuses a repeated nonce."""
    return str(uuid.uuid4())


def common(access_key_id: str, *, now: datetime, nonce: str) -> dict[str, str]:
    """Return the parameters of every call. Calls fail if `now` is 15 minutes off."""
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
    """Return the form to send: the parameters and the signature."""
    return urlencode({**params, "Signature": signature(method, params, secret)}).encode()


def signature(method: str, params: Mapping[str, str], secret: Secret) -> str:
    """Return the signature of the parameters, in base64."""
    pairs = "&".join(f"{_encoded(key)}={_encoded(params[key])}" for key in sorted(params))
    message = f"{method}&{_encoded('/')}&{_encoded(pairs)}"
    key = f"{secret.reveal()}&".encode()
    return base64.b64encode(hmac.new(key, message.encode(), hashlib.sha1).digest()).decode()


def _encoded(value: str) -> str:
    """Percent-encode all except RFC 3986's unreserved characters, as the signature demands."""
    return quote(value, safe="")
