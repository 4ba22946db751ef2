"""DNSPod's zones and TXT records, as its token API shows and changes them
(docs/facts/dnspod.md §1).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from certferry.adapters.clients.dnspod_calls import DnspodCalls
from certferry.adapters.clients.dnspod_errors import (
    DONE,
    NO_DOMAINS,
    NO_RECORDS,
    RECORD_GONE,
    TTL_REFUSED,
    Reply,
    error_of,
)
from certferry.adapters.clients.dnspod_pages import Body, Item, Listing, items_in, number_of
from certferry.adapters.clients.json_answers import as_text
from certferry.text import Text

PAGE = 500  # items; the most that the international sibling gives at once (§1.8)
TTL = 600  # seconds; the free plans' minimum (§1.5)
# Seconds; the professional plans' minimum. The enterprise plans allow 1, which gains nothing: a
# challenge's record is new each time, and what takes long is its way to all name servers.
PAID_TTL = 60
PAID_PLANS = frozenset(  # the grades that Domain.List documents, without D_Free and DP_Free
    f"{era}_{plan}" for era in ("d", "dp") for plan in ("plus", "extra", "expert", "ultra")
)
MINIMUM_TTL = "记录TTL最低"  # its name in Domain.Purview (§1.5)


@dataclass(frozen=True, slots=True)
class Zone:
    """A domain of the account. `name` is in A-labels; `status` is enable, pause, spam or lock.

    `grade` is DNSPod's word for the plan, such as DP_Free.
    """

    id: str
    name: str
    status: str
    grade: str = ""

    @property
    def ttl(self) -> int:
        """Return the seconds that a record may be kept for: few, and allowed by the plan."""
        return PAID_TTL if self.grade.lower() in PAID_PLANS else TTL


@dataclass(frozen=True, slots=True)
class TxtRecord:
    """A TXT record; `host` is what stands left of the zone, `@` for nothing."""

    id: str
    host: str
    value: str
    is_enabled: bool


_DOMAINS = Listing("Domain.List", "domains", "id", "info", "domain_total")
_RECORDS = Listing("Record.List", "records", "id", "info", "record_total")
_EMPTY = {_DOMAINS: NO_DOMAINS, _RECORDS: NO_RECORDS}


class DnspodClient:
    """The domains of one account. `line` is the default line's name. Safe to share between threads.

    Its methods raise `DnsAccessDenied`, `DnsRejected` and `DnsUnavailable`; the writing ones also
    `OutcomeUnknown`. `about` is the name to mention in errors.
    """

    def __init__(self, calls: DnspodCalls, line: str) -> None:
        self._calls = calls
        self._line = line
        self._ttls: dict[str, int] = {}

    def zones(self, about: str | Text) -> list[Zone]:
        """List every domain of the account (Domain.List)."""
        return [
            Zone(
                id=as_text(item.get("id")),
                name=(as_text(item.get("punycode")) or as_text(item.get("name"))).lower(),
                status=as_text(item.get("status")).lower(),
                grade=as_text(item.get("grade")),
            )
            for item in self._pages(_DOMAINS, about, type="all")
        ]

    def name_servers(self, zone: Zone, about: str | Text) -> frozenset[str]:
        """List the hosts that DNSPod serves a domain by: its NS records of the apex, which DNSPod
        itself has put there (§1.5).
        """
        items = self._pages(_RECORDS, about, domain_id=zone.id, sub_domain="@")
        hosts = (as_text(i.get("value")) for i in items if i.get("type") == "NS")
        return frozenset(filter(None, (host.rstrip(".").lower() for host in hosts)))

    def clock_ahead(self) -> timedelta | None:
        """See `DnspodCalls.clock_ahead`."""
        return self._calls.clock_ahead()

    def txt_records(self, zone: Zone, host: str, about: str | Text) -> list[TxtRecord]:
        """List the TXT records at exactly this host (Record.List).

        A new record may be missing here for about 30 seconds (§1.7).
        """
        items = self._pages(_RECORDS, about, domain_id=zone.id, sub_domain=host)
        return [
            TxtRecord(
                id=as_text(item.get("id")),
                host=host,
                value=as_text(item.get("value")),
                is_enabled=as_text(item.get("enabled")) != "0",
            )
            for item in items
            if item.get("type") == "TXT" and as_text(item.get("name")).lower() == host
        ]

    def txt_record(self, zone: Zone, record_id: str, about: str | Text) -> TxtRecord | None:
        """Read one record by its id, which needs no list; `None` when it is gone, or no TXT record.

        Record.Info's fields are those of the vendor's page (DNSPod/dnspod-api-doc,
        source/records.rst).
        """
        reply = self._calls.read("Record.Info", about, domain_id=zone.id, record_id=record_id)
        if reply.code == RECORD_GONE and not reply.is_denied:
            return None
        item = _settled(reply, about).body.get("record")
        if not isinstance(item, dict) or item.get("record_type") != "TXT":
            return None
        return TxtRecord(
            id=record_id,
            host=as_text(item.get("sub_domain")).lower(),
            value=as_text(item.get("value")),
            is_enabled=as_text(item.get("enabled")) != "0",
        )

    def create_txt(self, zone: Zone, host: str, value: str, about: str | Text) -> str | None:
        """Write a TXT record and give its id, or `None` when the identical one is there already.

        A TTL that the domain's plan does not allow is raised once: to the plan's minimum, or to the
        free plans' where it names none that is higher.
        """
        ttl = self._ttls.get(zone.id, zone.ttl)
        reply = self._create(zone.id, host, value, ttl, about)
        if reply.code in TTL_REFUSED:
            minimum = self._minimum_ttl(zone.id, about)
            raised = minimum if minimum > ttl else TTL
            if raised > ttl:
                self._ttls[zone.id] = raised
                reply = self._create(zone.id, host, value, raised, about)
        if reply.says_exists:
            return None
        record = _settled(reply, about).body.get("record")
        return as_text(record.get("id")) or None if isinstance(record, dict) else None

    def remove(self, zone: Zone, record_id: str, about: str | Text) -> bool:
        """Remove a record by its id, and tell whether it was there (Record.Remove)."""
        reply = self._calls.write("Record.Remove", about, domain_id=zone.id, record_id=record_id)
        if reply.code == RECORD_GONE and not reply.is_denied:
            return False
        _settled(reply, about)
        return True

    def _create(self, zone_id: str, host: str, value: str, ttl: int, about: str | Text) -> Reply:
        return self._calls.write(
            "Record.Create",
            about,
            domain_id=zone_id,
            sub_domain=host,
            record_type="TXT",
            record_line=self._line,
            value=value,
            ttl=ttl,
        )

    def _minimum_ttl(self, zone_id: str, about: str | Text) -> int:
        """Learn the least TTL that the domain's plan allows (Domain.Purview); 0 if it says none."""
        reply = self._calls.read("Domain.Purview", about, domain_id=zone_id)
        told = [
            number_of(item.get("value")) or 0
            for item in items_in(_settled(reply, about).body, "purview")
            if item.get("name") == MINIMUM_TTL
        ]
        return max(told, default=0)

    def _pages(self, listing: Listing, about: str | Text, **params: str) -> list[Item]:
        def page(after: int) -> Body | None:
            reply = self._calls.read(listing.action, about, **params, offset=after, length=PAGE)
            return None if reply.code == _EMPTY[listing] else _settled(reply, about).body

        return listing.read(page, about)


def _settled(reply: Reply, about: str | Text) -> Reply:
    if reply.code == DONE:
        return reply
    raise error_of(reply, about)
