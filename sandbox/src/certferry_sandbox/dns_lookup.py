"""Look a name up in the sandbox's zones: CNAME chains, wildcards, and the ways of not existing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset

from certferry_sandbox.zones import Record, Zone, Zones

MAX_STRING = 255  # bytes of one character-string (RFC 1035 §3.3)
SOA_TIMERS = "3600 180 1209600"  # refresh, retry, expire in seconds
ROOT = Zone("", ("a.root-servers.net",))


@dataclass(frozen=True)
class Seat:
    """The zone that answers for a name, and the moment at which it is looked at."""

    zone: Zone
    at: float


FindSeat = Callable[[str], Seat | None]
"""Name → the server that answers for it; None where this server has nothing to say."""


@dataclass
class Found:
    """What was met on the way, and how it ended.

    `soa` is there when the last word was "no such name" or "no such type". Without it `answer`
    ends in what was asked for, or in an alias that leads to where this server has no say.
    """

    answer: list[dns.rrset.RRset] = field(default_factory=list)
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    soa: Record | None = None


class Lookup:
    """One server's way of looking: the zones, and which of them it may speak for."""

    def __init__(self, zones: Zones, find_seat: FindSeat) -> None:
        self._zones = zones
        self._find_seat = find_seat

    def follow(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Found:
        """Look the name up, along its aliases. A loop ends in SERVFAIL."""
        found = Found()
        visited: set[dns.name.Name] = set()
        while (seat := self._find_seat(to_text(name))) is not None:
            if name in visited:
                return Found(rcode=dns.rcode.SERVFAIL)
            visited.add(name)
            records = self._records(seat, to_text(name))
            wanted = self._of_type(records or [], rdtype, seat, to_text(name))
            alias = [record for record in records or [] if record.rtype == "CNAME"]
            if wanted or not alias:
                return self._ended(found, name, wanted, seat, exists=records is not None)
            found.answer.append(rrset(name, alias))
            name = found.answer[-1][0].target
        return found

    def _ended(
        self, found: Found, name: dns.name.Name, wanted: list[Record], seat: Seat, *, exists: bool
    ) -> Found:
        if wanted:
            found.answer.append(rrset(name, wanted))
        else:
            found.soa = self._soa(seat)
            found.rcode = dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN
        return found

    def _of_type(
        self, records: list[Record], rdtype: dns.rdatatype.RdataType, seat: Seat, name: str
    ) -> list[Record]:
        if rdtype == dns.rdatatype.SOA and name == seat.zone.name:
            return [self._soa(seat)]
        wanted = dns.rdatatype.to_text(rdtype)
        return [record for record in records if record.rtype == wanted]

    def _records(self, seat: Seat, name: str) -> list[Record] | None:
        """Give the records of a name, or a wildcard's (RFC 4592 §3.3.1); None: no such name."""
        zone, at = seat.zone, seat.at
        if zone is ROOT:
            return [] if self._zones.leads_to_a_zone(name) else None
        if self._zones.exists(zone.name, name, at):
            return self._zones.served(zone.name, name, at)
        encloser = name
        while not self._zones.exists(zone.name, encloser, at):
            _, _, encloser = encloser.partition(".")
        return self._zones.served(zone.name, f"*.{encloser}", at) or None

    def _soa(self, seat: Seat) -> Record:
        zone = seat.zone
        serial = 1 if zone is ROOT else self._zones.serial(zone.name, seat.at)
        hostmaster = f"hostmaster.{zone.name}".rstrip(".")
        value = f"{zone.nameservers[0]}. {hostmaster}. {serial} {SOA_TIMERS} {zone.negative_ttl}"
        return Record(0, zone.name, zone.name, "SOA", value, zone.negative_ttl)


def rrset(name: dns.name.Name, records: list[Record]) -> dns.rrset.RRset:
    """Give records of one name and one type, at least one, as DNS knows them."""
    rdatas = [rdata(record.rtype, record.value) for record in records]
    return dns.rrset.from_rdata_list(name, min(record.ttl for record in records), rdatas)


@lru_cache(maxsize=4096)
def rdata(rtype: str, value: str) -> dns.rdata.Rdata:
    """Give a record's value as DNS knows it. Raises DNSException if it cannot be."""
    if rtype == "TXT":
        raw = value.encode()
        strings = [raw[at : at + MAX_STRING] for at in range(0, len(raw), MAX_STRING)]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings or [b""])
    return dns.rdata.from_text(dns.rdataclass.IN, rtype, value, dns.name.root, relativize=False)


def to_text(name: dns.name.Name) -> str:
    """Give a name as the zones write it."""
    return name.to_text().rstrip(".").lower()


def to_name(text: str) -> dns.name.Name:
    """Give a name of the zones as DNS knows it."""
    return dns.name.from_text(f"{text}.")
