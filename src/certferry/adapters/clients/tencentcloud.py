"""DNSPod's zones and TXT records, as Tencent Cloud's API 3.0 shows and changes them.

Actions and fields are those of docs/facts/dnspod.md §2.2 and of the vendor's SDK (3.1.195).
"""

from __future__ import annotations

from datetime import timedelta

from certferry.adapters.clients.dnspod import TTL, TxtRecord, Zone
from certferry.adapters.clients.dnspod_pages import NUMBER, Body, Item, Listing
from certferry.adapters.clients.json_answers import as_text
from certferry.adapters.clients.tencentcloud_calls import TencentCloudCalls
from certferry.adapters.clients.tencentcloud_errors import (
    DONE,
    EMPTY,
    EXISTS,
    GONE,
    TTL_REFUSED,
    Reply,
    error_of,
)
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
