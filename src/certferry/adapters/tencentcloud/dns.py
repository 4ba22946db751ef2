"""DNS at DNSPod, through Tencent Cloud's API 3.0, with keys of Tencent Cloud.

API reference: https://cloud.tencent.com/document/product/1427 (docs/facts/dnspod.md §2). Actions,
fields and codes are those of §2.2 and §2.3, and of the vendor's SDK (3.1.195).
Permissions: a sub-user's key with the policy QcloudDNSPodFullAccess, or with a policy for
dnspod:DescribeDomainList, DescribeRecordList, DescribeRecord, CreateRecord and DeleteRecord.
"""

from __future__ import annotations

from certferry.adapters.dns import answers
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
from certferry.adapters.tencentcloud.account import (
    CALLED,
    ENVIRONMENT,
    RANK,
    SERVICE,
    WHERE_KEYS_ARE,
    Settings,
)
from certferry.adapters.tencentcloud.errors import BROKEN, CODES, DNS_CODES
from certferry.adapters.tencentcloud.tc3 import Api, TencentKeys, response_of, says_too_many
from certferry.core.redaction import quoted, quoted_code, quoted_id
from certferry.ports.adapter import Answer, Context
from certferry.ports.dns import DnsProvider
from certferry.text import Text

__all__ = (
    "CALLED",
    "CODES",
    "ENVIRONMENT",
    "RANK",
    "SERVICE",
    "WHERE_KEYS_ARE",
    "Settings",
    "connect",
)  # read from this module by `ports.adapter.Adapter`

API_SERVICE = "dnspod"
VERSION = "2021-03-23"
PAGE = 1000  # items; the maximum is 3,000 (§2.2)
LINE, LINE_ID = "默认", "0"
"""Name and id of the default line. The name differs abroad; the id is the same, and decides."""
ZONE_KEYS = {"id": "DomainId"} | {k.lower(): k for k in ("Punycode", "Name", "Status", "Grade")}

_EXISTS = "InvalidParameter.DomainRecordExist"
_EMPTY = frozenset({"ResourceNotFound.NoDataOfRecord", "ResourceNotFound.NoDataOfDomain"})
_TTL_REFUSED = "LimitExceeded.RecordTtlLimit"


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account, without sending a request. Raises `ConfigError`."""
    keys = settings.keys
    http = http_client.client_in(context, settings.api, settings.requests_per_second, says_too_many)
    return DnspodRecords(TencentCloudClient(settings.api, keys, http, context), context.pause)


class TencentCloudClient(answers.JsonTxtService):
    """The `TxtService` of one account by an API key."""

    gone = ("InvalidParameter.RecordIdInvalid", "ResourceNotFound.NoDataOfRecord")
    pauses_in_doubt = (1.0, 3.0)

    def __init__(
        self, api: str, keys: TencentKeys, http: http_client.HttpClient, context: Context
    ) -> None:
        self._api = Api(API_SERVICE, VERSION, api)
        self._keys = keys
        self._language = context.language
        super().__init__(SERVICE, DNS_CODES, http, exchange.Request("GET", self._api.root), context)

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
        body = response_of(answer)
        if body is None:
            return None
        hidden = [self._keys.secret_key]
        request_id = quoted_id(answers.as_text(body.get("RequestId")), hidden)
        error = body.get("Error")
        if not isinstance(error, dict):
            return answers.Reply(action, "", quoted(""), body)
        code = quoted_code(answers.as_text(error.get("Code")), hidden) or BROKEN
        is_in_doubt = code == BROKEN or code.startswith(f"{BROKEN}.")
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
        """See `JsonTxtService.request`."""
        return self._api.request(self._keys, action, params, self._now(), self._language)


def _domain(zone: Zone) -> dict[str, str | int]:
    """Return a domain's name and id, as sent by the SDK: the name is mandatory, the id decides."""
    named: dict[str, str | int] = {"Domain": zone.name}
    return {**named, "DomainId": int(zone.id)} if NUMBER.fullmatch(zone.id) else named
