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

import math
import re
from collections.abc import Iterable, Mapping

from certferry.adapters.aliyun import account
from certferry.adapters.aliyun.account import (
    CALLED,
    ENVIRONMENT,
    SERVICE,
    WHERE_KEYS_ARE,
    Settings,
)
from certferry.adapters.aliyun.errors import CODES, DNS_CODES, IN_DOUBT
from certferry.adapters.aliyun.rpc import AccessKey, answers_too_many, read_reply, signed_request
from certferry.adapters.dns import answers
from certferry.adapters.dns.txt_records import TxtRecord, TxtRecords, Zone, hosts_of
from certferry.adapters.http.exchange import Request
from certferry.adapters.http.http_client import HttpClient, client_in, is_server_error
from certferry.core.redaction import Secret, quoted, quoted_code
from certferry.errors import DnsError, DnsUnavailable
from certferry.ports.adapter import Answer, Context
from certferry.ports.dns import DnsProvider
from certferry.text import Text

__all__ = (
    "CALLED",
    "CODES",
    "ENVIRONMENT",
    "SERVICE",
    "WHERE_KEYS_ARE",
    "Settings",
)  # read from this module by `ports.adapter.Adapter`, with the names below

RANK = 30

REQUESTS_PER_SECOND = 5.0  # modest; the limit is a few hundred (from memory)
VERSION = "2015-01-09"
DOMAINS_PAGE = 100
RECORDS_PAGE = 500
TTL = 600  # seconds; the free plan's minimum, the highest of all plans
RECORD_ID = re.compile(r"[0-9]{1,30}", re.ASCII)
DUPLICATE = "DomainRecordDuplicate"


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account, without sending a request. Raises `ConfigError`."""
    key = account.access_key(settings.access_key_id, settings.access_key_secret)
    return provider(settings.dns, key, context)


def provider(api: str, key: AccessKey, context: Context) -> DnsProvider:
    """Return the provider of the zones of one AccessKey."""
    http = client_in(context, api, REQUESTS_PER_SECOND, answers_too_many)
    return TxtRecords("Alibaba Cloud DNS", AlidnsClient(api, key, http, context), context.pause)


class AlidnsClient(answers.JsonTxtService):
    """The domains of one account. Keys refused for the list of domains are not sent again."""

    decisive = ("DescribeDomains",)
    gone = ("DomainRecordNotBelongToUser", "InvalidRecordId.NotFound")

    def __init__(self, api: str, key: AccessKey, http: HttpClient, context: Context) -> None:
        self._url = f"{api.rstrip('/')}/"
        self._key = key
        clock = Request("GET", self._url)
        super().__init__("Alibaba Cloud DNS", DNS_CODES, http, clock, context)

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
        reply = read_reply(answer)
        if reply is None:
            return None
        hidden = [self._key.secret, Secret(self._key.id)]
        code = reply.code and (quoted_code(reply.code, hidden) or "?")
        words = quoted(reply.words, hidden)
        is_in_doubt = code in IN_DOUBT or is_server_error(answer)
        return answers.Reply(action, code, words, reply.body, is_in_doubt=is_in_doubt)

    def error(self, reply: answers.Reply, about: str | Text) -> DnsError:
        """See `JsonTxtService.error`. An answer in doubt counts as unavailable, not as refusal."""
        error = super().error(reply, about)
        return DnsUnavailable(error.message, hint=answers.LATER) if reply.is_in_doubt else error

    def request(self, action: str, **params: str) -> Request:
        """See `JsonTxtService.request`. The service accepts a nonce once."""
        named = {"Action": action, "Lang": "en", **params}
        return signed_request(self._url, VERSION, self._key, self._now(), named)

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
