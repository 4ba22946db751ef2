"""DNS at DNSPod, through Tencent Cloud's API 3.0, with keys of Tencent Cloud.

API reference: https://cloud.tencent.com/document/product/1427 (docs/facts/dnspod.md §2). Actions,
fields and codes are those of §2.2 and §2.3, and of the vendor's SDK (3.1.195).
Permissions: a sub-user's key with the policy QcloudDNSPodFullAccess, or with a policy for
dnspod:DescribeDomainList, DescribeRecordList, DescribeRecord, CreateRecord and DeleteRecord.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Struct

from certferry import __version__
from certferry.adapters.dns import answers
from certferry.adapters.dns.keys import KeyForms, Mistaken
from certferry.adapters.dns.txt_records import TxtRecord, Zone
from certferry.adapters.dnspod.dnspod_client import (
    NUMBER,
    TTL,
    DnspodRecords,
    DnspodZone,
    total_in,
    zone_of,
)
from certferry.adapters.http import exchange, http_client
from certferry.core.redaction import Secret, quoted, quoted_code, quoted_id
from certferry.ports.adapter import Answer, Context, Variable, json_object
from certferry.ports.dns import DnsProvider
from certferry.text import Text

SERVICE = "Tencent Cloud"
CALLED = Text("Tencent Cloud")
RANK = 20
WHERE_KEYS_ARE = Text(
    "console.cloud.tencent.com/cam/capi → API keys; the SecretKey is shown only once, at creation"
)
ENVIRONMENT = (
    # The names of acme.sh (dns_tencent) and of lego (tencentcloud).
    Variable(
        "secret_id",
        ("Tencent_SecretId", "TENCENTCLOUD_SECRET_ID"),
        Text("the SecretId of a Tencent Cloud API key"),
        is_public=True,
        acme_sh="Tencent_SecretId",
    ),
    Variable(
        "secret_key",
        ("Tencent_SecretKey", "TENCENTCLOUD_SECRET_KEY"),
        Text("the SecretKey of a Tencent Cloud API key"),
        acme_sh="Tencent_SecretKey",
    ),
)

REQUESTS_PER_SECOND = 10.0  # half of the 20 allowed for most actions (§2.2)
API_SERVICE = "dnspod"
VERSION = "2021-03-23"
CONTENT_TYPE = "application/json"
LANGUAGES = {"zh": "zh-CN"}  # languages of error messages; English by default
PAGE = 1000  # items; the maximum is 3,000 (§2.2)
LINE, LINE_ID = "默认", "0"
"""Name and id of the default line. The name differs abroad; the id is the same, and decides."""
ZONE_KEYS = {"id": "DomainId"} | {k.lower(): k for k in ("Punycode", "Name", "Status", "Grade")}

_EXISTS = "InvalidParameter.DomainRecordExist"
_EMPTY = frozenset({"ResourceNotFound.NoDataOfRecord", "ResourceNotFound.NoDataOfDomain"})
_TTL_REFUSED = "LimitExceeded.RecordTtlLimit"
_TOO_MANY = "RequestLimitExceeded"
_BROKEN = "InternalError"

_KEY = Text(
    "compare `secret_id` and `secret_key` with the keys at console.cloud.tencent.com/cam/capi. A"
    " DNSPod token (a number and 32 digits) belongs in an account of type dnspod"
)
_POLICY = Text(
    "give the key's user the policy QcloudDNSPodFullAccess at console.cloud.tencent.com/cam"
)
_PLAN = Text("the domain's DNSPod plan is used up: remove records, or choose another plan")
_VERIFY = Text("the account is not verified yet: verify the account at console.cloud.tencent.com")
_ELSEWHERE = Text("set `dns` of the certificate to the account that has the domain")
_HALF = Text("remove the setting: the default of 10 is half of Tencent Cloud's limit")

_WRONG_KEY = (
    "AuthFailure",
    "InvalidParameter.InvalidSecretId",
    "InvalidParameter.LoginTokenIdError",
    "InvalidParameter.LoginTokenNotExists",
    "InvalidParameter.LoginTokenValidateFailed",
    "FailedOperation.LoginFailed",
)
_NOT_VERIFIED = (
    "InvalidParameter.UnrealNameUser",
    "FailedOperation.NotRealNamedUser",
    "InvalidParameter.EmailNotVerified",
    "InvalidParameter.MobileNotVerified",
)
_NO_ZONE = (
    "InvalidParameterValue.DomainNotExists",
    "InvalidParameter.DomainInvalid",
    "InvalidParameter.DomainIdInvalid",
    "ResourceNotFound.NoDataOfDomain",
    "OperationDenied.NoPermissionToOperateDomain",
    "OperationDenied.DomainOwnerAllowedOnly",
    "FailedOperation.NotDomainOwner",
)
_ANSWERS = answers.Codes(
    Text("{about}: Tencent Cloud answered {action} with {code}: {words} (request {request})"),
    Text("check the domain at console.dnspod.cn"),
    denied={
        **dict.fromkeys(_WRONG_KEY, _KEY),
        **dict.fromkeys(("UnauthorizedOperation", "AuthFailure.UnauthorizedOperation"), _POLICY),
        "AuthFailure.TokenFailure": Text(
            "a temporary key does not work here: create a permanent key"
        ),
        "AuthFailure.SecretIdNotFound": Text(
            "{check}. For a key of the international site (IKID…), set `api` to"
            " https://dnspod.intl.tencentcloudapi.com",
            check=_KEY,
        ),
        "InvalidParameter.RequestIpLimited": Text(
            "this host's address is not on the key's list of allowed addresses: add the address"
        ),
        "LimitExceeded.FailedLoginLimitExceeded": Text(
            "correct the keys, then leave the account alone for an hour"
        ),
        "InvalidParameter.AccountIsBanned": Text(
            "the account is banned: ask Tencent Cloud's support"
        ),
    },
    rejected={
        **dict.fromkeys(_NOT_VERIFIED, _VERIFY),
        "AuthFailure.SignatureExpire": Text(
            "this host's clock is wrong by more than five minutes: set it, for example with"
            " `timedatectl set-ntp true`"
        ),
        "FailedOperation.DomainIsLocked": Text(
            "the domain is locked: unlock the domain at console.dnspod.cn"
        ),
        "FailedOperation.DomainIsSpam": Text("DNSPod has banned the domain: ask DNSPod's support"),
        "LimitExceeded": _PLAN,
    },
    unavailable={
        _TOO_MANY: answers.TOO_MANY_CALLS,
        "FailedOperation.FrequencyLimit": answers.LATER,
        "InvalidParameter.OperationIsTooFrequent": answers.LATER,
        _BROKEN: answers.LATER,
    },
    no_zone=dict.fromkeys(_NO_ZONE, _ELSEWHERE),
)
CODES = _ANSWERS.meanings


KEYS = KeyForms(
    Text("Tencent Cloud"),
    Text("copy both anew from console.cloud.tencent.com/cam/capi"),
    (
        Mistaken(
            "secret_id",
            r"^\d+$|,",
            Text("is that of a DNSPod token"),
            Text(
                'declare a DNSPod token as an account with type = "dnspod" (its number is '
                "`id`, its 32 digits are `token`); or create a key that begins with AKID at "
                "console.cloud.tencent.com/cam/capi"
            ),
        ),
        Mistaken("secret_id secret_key", r"^$|\s", Text("is empty, or more than a key")),
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`. `secret_id` begins with AKID, or IKID abroad."""

    secret_id: Secret
    secret_key: Secret
    api: Annotated[
        str,
        Text(
            "the address of the API; `https://dnspod.intl.tencentcloudapi.com` for the"
            " international site"
        ),
    ] = "https://dnspod.tencentcloudapi.com"
    requests_per_second: Annotated[float, Text("the most requests per second")] = (
        REQUESTS_PER_SECOND
    )


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account, without sending a request. Raises `ConfigError`."""
    secret_id = settings.secret_id.reveal().strip()
    secret_key = settings.secret_key.reveal().strip()
    KEYS.must_fit(secret_id=secret_id, secret_key=secret_key)
    per_second = settings.requests_per_second
    answers.must_be_positive("requests_per_second", per_second, SERVICE, _HALF)
    keys = TencentKeys(secret_id, Secret(secret_key))
    http = http_client.client_in(context, settings.api, per_second, says_too_many)
    return DnspodRecords(TencentCloudClient(settings.api, keys, http, context), context.pause)


class TencentCloudClient(answers.JsonTxtService):
    """The `TxtService` of one account by an API key."""

    gone = ("InvalidParameter.RecordIdInvalid", "ResourceNotFound.NoDataOfRecord")
    pauses_in_doubt = (1.0, 3.0)

    def __init__(
        self, api: str, keys: TencentKeys, http: http_client.HttpClient, context: Context
    ) -> None:
        parts = urlsplit(api)
        self._url = f"{parts.scheme}://{parts.netloc}/"
        self._host = parts.netloc
        self._keys = keys
        self._language = LANGUAGES.get(context.language, "en-US")
        super().__init__(SERVICE, _ANSWERS, http, exchange.Request("GET", self._url), context)

    def list_zones(self, about: str | Text) -> list[Zone]:
        """Read every domain of the account, with its name servers (DescribeDomainList)."""
        keys = ("DomainList", "DomainId", "DomainCountInfo", "DomainTotal")
        items = self._list("DescribeDomainList", keys, about, Type="ALL")
        return [zone_of(item, ZONE_KEYS, item.get("EffectiveDNS")) for item in items]

    def records(self, zone: Zone, name: str) -> list[TxtRecord]:
        """See `TxtService.records` (DescribeRecordList). The list lags about 30 seconds (§2.2)."""
        host = zone.host_of(name)
        keys = ("RecordList", "RecordId", "RecordCountInfo", "TotalCount")
        where = {**_domain(zone), "Subdomain": host, "RecordType": "TXT", "ErrorOnEmpty": "no"}
        items = self._list("DescribeRecordList", keys, name, **where)
        return [
            TxtRecord(
                answers.as_text(item.get("RecordId")),
                name,
                answers.as_text(item.get("Value")),
                answers.as_text(item.get("Status")) != "DISABLE",
            )
            for item in items
            if item.get("Type") == "TXT" and answers.as_text(item.get("Name")).lower() == host
        ]

    def record(self, zone: Zone, record_id: str, about: str) -> TxtRecord | None:
        """See `TxtService.record` (DescribeRecord)."""
        if not NUMBER.fullmatch(record_id):
            return None
        reply = self.read("DescribeRecord", about, **_domain(zone), RecordId=int(record_id))
        item = answers.object_in(self.unless_gone(reply, about), "RecordInfo")
        if item.get("RecordType") != "TXT":
            return None
        name = zone.name_of(answers.as_text(item.get("SubDomain")).lower())
        is_enabled = answers.as_text(item.get("Enabled")) != "0"
        return TxtRecord(record_id, name, answers.as_text(item.get("Value")), is_enabled)

    def create(self, zone: Zone, name: str, value: str) -> str | None:
        """See `TxtService.create`. A refused TTL is raised once, to the free plans' minimum."""
        ttl = zone.ttl if isinstance(zone, DnspodZone) else TTL
        reply = self._create(zone, name, value, ttl)
        if reply.code == _TTL_REFUSED and ttl < TTL:
            reply = self._create(zone, name, value, TTL)
        if reply.code == _EXISTS:
            return None
        return answers.as_text(self.settled(reply, name).get("RecordId")) or None

    def remove(self, zone: Zone, record_id: str, about: str) -> bool:
        """See `TxtService.remove` (DeleteRecord)."""
        if not NUMBER.fullmatch(record_id):
            return False
        reply = self.write("DeleteRecord", about, **_domain(zone), RecordId=int(record_id))
        return self.unless_gone(reply, about) is not None

    def reply(self, action: str, answer: Answer) -> answers.Reply | None:
        """See `JsonTxtService.reply`. Success and failure both have status 200 (§2.1)."""
        body = _response_of(answer)
        if body is None:
            return None
        hidden = [self._keys.secret_key]
        request_id = quoted_id(answers.as_text(body.get("RequestId")), hidden)
        error = body.get("Error")
        if not isinstance(error, dict):
            return answers.Reply(action, "", quoted(""), body)
        code = quoted_code(answers.as_text(error.get("Code")), hidden) or _BROKEN
        is_in_doubt = code == _BROKEN or code.startswith(f"{_BROKEN}.")
        words = quoted(answers.as_text(error.get("Message")), hidden)
        pauses = self.pauses_in_doubt if is_in_doubt else ()
        return answers.Reply(
            action, code, words, request_id=request_id, is_in_doubt=is_in_doubt, pauses=pauses
        )

    def _create(self, zone: Zone, name: str, value: str, ttl: int) -> answers.Reply:
        record = {**_domain(zone), "SubDomain": zone.host_of(name), "RecordType": "TXT"}
        record |= {"RecordLine": LINE, "RecordLineId": LINE_ID}
        return self.write("CreateRecord", name, **record, Value=value, TTL=ttl)

    def _list(
        self, action: str, keys: tuple[str, str, str, str], about: str | Text, **params: str | int
    ) -> list[answers.Item]:
        listed, key, counts, total = keys

        def page(number: int, before: int) -> tuple[list[answers.Item], bool]:
            del number
            reply = self.read(action, about, **params, Offset=before, Limit=PAGE)
            if reply.code in _EMPTY:
                return [], True
            body = self.settled(reply, about)
            items = answers.objects(body.get(listed))
            return items, not items or before + len(items) >= total_in(body.get(counts), total)

        return self.pages(page, about, key=lambda item: answers.as_text(item.get(key)))

    def request(self, action: str, **params: str | int) -> exchange.Request:
        """See `JsonTxtService.request`. A signature is valid for five minutes."""
        body, moment = json.dumps(params).encode(), self._now()
        call = SignedCall(API_SERVICE, self._host, "/", CONTENT_TYPE, body)
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
        return exchange.Request("POST", self._url, headers, body)


def _domain(zone: Zone) -> dict[str, str | int]:
    """Return a domain's name and id, as sent by the SDK: the name is mandatory, the id decides."""
    named: dict[str, str | int] = {"Domain": zone.name}
    return {**named, "DomainId": int(zone.id)} if NUMBER.fullmatch(zone.id) else named


def says_too_many(answer: Answer) -> bool:
    """Return whether a call was refused, without effect, for too many calls in a second."""
    if exchange.answers_too_many(answer):
        return True
    code = answers.as_text(answers.object_in(_response_of(answer), "Error").get("Code"))
    return code.startswith(_TOO_MANY)


def _response_of(answer: Answer) -> dict[str, Any] | None:
    body = None if http_client.is_server_error(answer) else json_object(answer.body)
    response = body.get("Response") if body else None
    return response if isinstance(response, dict) else None


ALGORITHM = "TC3-HMAC-SHA256"
SIGNED = "content-type;host"


class TencentKeys(Struct, frozen=True):
    """An API key of Tencent Cloud."""

    #: The key's id, sent with each call.
    secret_id: str
    #: The secret that signs.
    secret_key: Secret


class SignedCall(Struct, frozen=True):
    """The parts of a POST covered by the signature."""

    #: The API's service name, for example `dnspod`.
    service: str
    #: The header Host.
    host: str
    #: The path of the URL.
    path: str
    #: The header Content-Type.
    content_type: str
    #: The body as sent.
    body: bytes


def authorization(keys: TencentKeys, call: SignedCall, moment: datetime) -> str:
    """Return the header `Authorization` for a call at this moment, in whole seconds."""
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
    """Return the header `X-TC-Timestamp`: Unix time in seconds."""
    return str(int(moment.timestamp()))


def _canonical(call: SignedCall) -> bytes:
    headers = f"content-type:{call.content_type}\nhost:{call.host}\n"
    parts = ["POST", call.path, "", headers, SIGNED, _digest(call.body)]
    return "\n".join(parts).encode()


def _digest(data: bytes | str) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def _mac(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()
