"""Challenge records in the domains of one account at DNSPod, by whichever of its two APIs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol

from certferry.adapters.dns.records import (
    ALL_ZONES,
    CREATE_ATTEMPTS,
    OutcomeUnknown,
    in_doubt,
    removed_by_id,
)
from certferry.adapters.dnspod.client import PAID_PLANS, TxtRecord, Zone
from certferry.adapters.http.client import journal
from certferry.adapters.http.journal import judged, reported
from certferry.core.certificates import names as identifiers
from certferry.core.discovery.proposal import no_zone_for
from certferry.core.discovery.survey import FoundZone
from certferry.errors import DnsAccessDenied, DnsError, DnsRejected
from certferry.ports.examination import AccountReport
from certferry.ports.progress import Pause
from certferry.text import Text

log = logging.getLogger(__name__)

# Seconds between looks for a new record, which lists show after about 30
# (docs/facts/dnspod.md §1.7, §2.2).
INDEX_PAUSES = (1.0, 2.0, 4.0, 8.0, 12.0, 13.0)

BLOCKED = {
    "pause": (Text("paused"), Text("resume it at console.dnspod.cn")),
    "spam": (Text("banned"), Text("ask DNSPod's support why")),
    "lock": (Text("locked"), Text("unlock it at console.dnspod.cn")),
}


KNOWN_PLANS = PAID_PLANS | {"d_free", "dp_free"}
PUBLIC = {"Domain.List", "TC3-HMAC-SHA256", "dnsapi.cn", "api.dnspod.com"}
"""What a report names of DNSPod's calls and hosts."""


class Api(Protocol):
    """One of DNSPod's APIs: the token's (`dnspod`), or Tencent Cloud's (`tencentcloud`). Its
    methods raise `DnsError`, the writing ones also `OutcomeUnknown`. `about` is the name to mention
    in errors.
    """

    def zones(self, about: str | Text) -> Sequence[Zone]:
        """List every domain of the account."""
        ...

    def name_servers(self, zone: Zone, about: str | Text) -> frozenset[str]:
        """List the hosts that DNSPod serves a domain by."""
        ...

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        ...

    def txt_records(self, zone: Zone, host: str, about: str | Text) -> Sequence[TxtRecord]:
        """List the TXT records at exactly this host; a new one may be missing for a while."""
        ...

    def txt_record(self, zone: Zone, record_id: str, about: str | Text) -> TxtRecord | None:
        """Read one record by its id; `None` when it is gone, or no TXT record."""
        ...

    def create_txt(self, zone: Zone, host: str, value: str, about: str | Text) -> str | None:
        """Write a record and give its id, or `None` when the identical one is there already."""
        ...

    def remove(self, zone: Zone, record_id: str, about: str | Text) -> bool:
        """Remove a record by its id, and tell whether it was there."""
        ...


@dataclass(frozen=True, slots=True)
class HostInZone:
    """Where a record goes: `host` is what stands left of the zone, `@` for nothing."""

    name: str
    zone: Zone
    host: str


def host_in_zone(name: str, zones: Iterable[Zone]) -> HostInZone:
    """Find the longest zone that holds the name.

    Raises `ZoneNotFound`, or `DnsRejected` when the only such zones may not be written to.
    """
    by_name = {zone.name: zone for zone in zones}
    holding = [by_name[suffix] for suffix in identifiers.suffixes(name) if suffix in by_name]
    blocked = [zone for zone in holding if zone.status in BLOCKED]
    for zone in holding:
        if zone not in blocked:
            return HostInZone(name, zone, name.removesuffix(zone.name).rstrip(".") or "@")
        log.warning(Text("{problem}; it is not used", problem=_blocked(zone).message))
    raise _blocked(blocked[0]) if blocked else no_zone_for(name, sorted(by_name))


class DnspodRecords:
    """Writes challenge records into the domains of one DNSPod account. Safe to use from threads.

    A handle is `domain id|record id`. The domains are listed once, when first needed.
    """

    def __init__(self, client: Api, pause: Pause) -> None:
        self._client = client
        self._pause = pause
        self._listing = threading.Lock()
        self._zones: Sequence[Zone] | None = None
        self._written: dict[tuple[str, str, str | None], Zone] = {}

    def zones(self) -> tuple[FoundZone, ...]:
        """See `ports.survey.ZoneKeeper.zones`."""
        return tuple(
            FoundZone(zone.name, _blocked(zone).message if zone.status in BLOCKED else None)
            for zone in self._listed(about=ALL_ZONES)
        )

    def name_servers(self, zone: str) -> frozenset[str]:
        """See `ports.examination.Delegated.name_servers`."""
        found = next((one for one in self._listed(about=zone) if one.name == zone), None)
        return frozenset() if found is None else self._client.name_servers(found, about=zone)

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return self._client.clock_ahead()

    def report(self) -> AccountReport:
        """See `ports.examination.Reporting.report`."""
        zones: Sequence[Zone] | None = None
        with journal() as made, suppress(DnsError):
            zones = self._client.zones(about=ALL_ZONES)
        known = all(zone.grade.lower() in KNOWN_PLANS for zone in zones) if zones else None
        plan = judged("1.5", Text("each domain tells its plan, by a word that is known"), known)
        return AccountReport("DNSPod", (plan, *reported(made, PUBLIC)), zones is not None)

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        where = self._where(name)
        handle = f"{where.zone.id}|{self._write(where, value)}"
        self._written[name, value, handle] = where.zone
        return handle

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`.

        Without a handle the value is looked for once: DNSPod lists a record only about 30 seconds
        after it was written, and the caller knows when that was, and whether to ask again.
        """
        zone_id, _, record_id = (handle or "").partition("|")
        known = self._written.get((name, value, handle))
        if known is not None and self._remove(known, record_id, name):
            return True
        where = self._where(name)
        record = self._look_up(where, record_id, value) if zone_id == where.zone.id else None
        # A handle may be older than the record: the value itself must be gone.
        record = record or self._find(where, value)
        return record is not None and self._remove(where.zone, record.id, name)

    def _where(self, name: str) -> HostInZone:
        name = name.rstrip(".").lower()
        return host_in_zone(name, self._listed(about=name))

    def _listed(self, about: str | Text) -> Sequence[Zone]:
        with self._listing:
            if self._zones is None:
                self._zones = self._client.zones(about=about)
            return self._zones

    def _write(self, where: HostInZone, value: str) -> str:
        """Write a record and give its id. What is in doubt is looked for before it is repeated."""
        for _ in range(CREATE_ATTEMPTS):
            try:
                record_id = self._client.create_txt(where.zone, where.host, value, where.name)
            except OutcomeUnknown as exc:
                problem = exc.problem
                record = self._find_written(where, value)
            else:
                if record_id is not None:
                    return record_id
                problem = Text("DNSPod says that the record exists, but does not list it")
                record = self._find_written(where, value)
            if record is not None:
                return _must_be_enabled(record, where.name)
        raise in_doubt(where.name, problem)

    def _find_written(self, where: HostInZone, value: str) -> TxtRecord | None:
        """Look for a record that may have been written, until lists would show it."""
        try:
            record = self._find(where, value)
            for pause in INDEX_PAUSES:
                if record is not None:
                    break
                self._pause(pause)
                record = self._find(where, value)
        except (DnsAccessDenied, DnsRejected) as exc:
            # Of the listing, not of the record: that may be there, and must not be forgotten.
            raise in_doubt(where.name, exc.message) from exc
        return record

    def _look_up(self, where: HostInZone, record_id: str, value: str) -> TxtRecord | None:
        """Give the record of a handle, if it is the one with this name and value: a handle that
        was kept elsewhere may have been changed there, and is another record's then.
        """
        try:
            record = self._client.txt_record(where.zone, record_id, where.name)
        except DnsRejected:
            return None  # the list tells as well, only later
        wanted = (where.host, value)
        return record if record is not None and (record.host, record.value) == wanted else None

    def _find(self, where: HostInZone, value: str) -> TxtRecord | None:
        """Look for the record with exactly this value."""
        records = self._client.txt_records(where.zone, where.host, where.name)
        return next((record for record in records if record.value == value), None)

    def _remove(self, zone: Zone, record_id: str, name: str) -> bool:
        remove = partial(self._client.remove, zone, record_id, name)
        return removed_by_id(remove, name, self._pause)


def _must_be_enabled(record: TxtRecord, name: str) -> str:
    """Give the record's id: one that is switched off would never be seen."""
    if record.is_enabled:
        return record.id
    raise DnsRejected(
        Text("{name}: the record is there, but switched off", name=name),
        hint=Text("remove it at console.dnspod.cn"),
    )


def _blocked(zone: Zone) -> DnsError:
    state, hint = BLOCKED[zone.status]
    return DnsRejected(
        Text("the domain {zone} is {state} at DNSPod", zone=zone.name, state=state), hint=hint
    )
