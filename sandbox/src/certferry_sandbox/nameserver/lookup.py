"""What a name server answers: a name is looked up in the zones (CNAME chains, wildcards, the ways
of not existing), and a message is made of what is found. No sockets here.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
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
        """Return the records of a name, or a wildcard's (RFC 4592 §3.3.1); None: no such name."""
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
    """Return records of one name and one type, at least one, as DNS knows them."""
    rdatas = [rdata(record.rtype, record.value) for record in records]
    return dns.rrset.from_rdata_list(name, min(record.ttl for record in records), rdatas)


@lru_cache(maxsize=4096)
def rdata(rtype: str, value: str) -> dns.rdata.Rdata:
    """Return a record's value as DNS knows it. Raises DNSException if it cannot be."""
    if rtype == "TXT":
        raw = value.encode()
        strings = [raw[at : at + MAX_STRING] for at in range(0, len(raw), MAX_STRING)]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings or [b""])
    return dns.rdata.from_text(dns.rdataclass.IN, rtype, value, dns.name.root, relativize=False)


def to_text(name: dns.name.Name) -> str:
    """Return a name as the zones write it."""
    return name.to_text().rstrip(".").lower()


def to_name(text: str) -> dns.name.Name:
    """Return a name of the zones as DNS knows it."""
    return dns.name.from_text(f"{text}.")


OUR_PAYLOAD = 1232  # EDNS buffer size agreed on DNS flag day 2020
NS = dns.rdatatype.NS
TYPES_REFUSED = frozenset({"ANY", "AXFR", "IXFR"})


class Authority:
    """Answers as the server `hostname`, for the zones that name it as their server."""

    def __init__(self, zones: Zones, hostname: str) -> None:
        self._zones = zones
        self._hostname = hostname

    def answer(self, query: dns.message.Message, at: float) -> dns.message.Message:
        """Answer with what had been written at the moment `at`; a foreign name is REFUSED."""
        response = dns.message.make_response(query, our_payload=OUR_PAYLOAD)
        if _refuse_unusual(query, response):
            return response
        question = query.question[0]
        above = self._zones.zones_above(to_text(question.name))
        if not any(self._serves(zone) for zone in above):
            response.set_rcode(dns.rcode.REFUSED)
        elif not self._serves(above[0]):  # delegated away: a referral (RFC 1034 §4.3.2)
            self._name_the_servers(response, above[0], at)
        else:
            self._answer_from(above[0], question, response, at)
        return response

    def _serves(self, zone: Zone) -> bool:
        return self._hostname in zone.nameservers

    def _answer_from(
        self, zone: Zone, question: dns.rrset.RRset, response: dns.message.Message, at: float
    ) -> None:
        lookup = Lookup(self._zones, lambda name: self._seat(name, at))
        found = lookup.follow(question.name, question.rdtype)
        response.flags |= dns.flags.AA
        _fill(response, found)
        if found.soa is None:
            self._name_the_servers(response, zone, at)

    def _seat(self, name: str, at: float) -> Seat | None:
        above = self._zones.zones_above(name)
        return Seat(above[0], at) if above and self._serves(above[0]) else None

    def _name_the_servers(self, response: dns.message.Message, zone: Zone, at: float) -> None:
        """Return the zone's NS records unless they are the answer, and the servers' addresses."""
        records = self._zones.served(zone.name, zone.name, at)
        servers = rrset(to_name(zone.name), [record for record in records if record.rtype == "NS"])
        if servers not in response.answer:
            response.authority.append(servers)
        for host, kind in itertools.product(zone.nameservers, ("A", "AAAA")):
            addresses = [record for record in self._glue(host, at) if record.rtype == kind]
            if addresses:
                response.additional.append(rrset(to_name(host), addresses))

    def _glue(self, host: str, at: float) -> list[Record]:
        home = self._zones.zones_above(host)[:1]
        return [record for zone in home for record in self._zones.served(zone.name, host, at)]


def answer_recursively(
    query: dns.message.Message, follow: Callable[[dns.rrset.RRset], Found]
) -> dns.message.Message:
    """Answer as a resolver does: recursion available, never authoritative."""
    response = dns.message.make_response(query, recursion_available=True, our_payload=OUR_PAYLOAD)
    if not _refuse_unusual(query, response):
        _fill(response, follow(query.question[0]))
    return response


def _refuse_unusual(query: dns.message.Message, response: dns.message.Message) -> bool:
    """Refuse everything but one question of class IN for one ordinary type."""
    if query.opcode() != dns.opcode.QUERY:
        response.set_rcode(dns.rcode.NOTIMP)
    elif len(query.question) != 1:
        response.set_rcode(dns.rcode.FORMERR)
    elif (
        query.question[0].rdclass != dns.rdataclass.IN
        or dns.rdatatype.to_text(query.question[0].rdtype) in TYPES_REFUSED
    ):
        response.set_rcode(dns.rcode.REFUSED)
    return response.rcode() != dns.rcode.NOERROR


def _fill(response: dns.message.Message, found: Found) -> None:
    """Write down what was found; what is not there comes with its zone's SOA (RFC 2308 §3)."""
    response.set_rcode(found.rcode)
    response.answer.extend(found.answer)
    if found.soa is not None:
        response.authority.append(rrset(to_name(found.soa.name), [found.soa]))


def to_wire(response: dns.message.Message, limit: int) -> bytes:
    """Encode within `limit` bytes: first without what is optional, then cut, with TC set.

    Records keep their order: shuffling them would use Python's own random numbers, on which tests
    that run beside this server rely.
    """
    with contextlib.suppress(dns.exception.TooBig):
        return response.to_wire(max_size=limit, want_shuffle=False)
    response.additional.clear()
    if response.answer:
        response.authority = [given for given in response.authority if given.rdtype != NS]
    with contextlib.suppress(dns.exception.TooBig):
        return response.to_wire(max_size=limit, want_shuffle=False)
    # Clients disagree on what half an RRset means, so none is sent (RFC 2181 §9).
    response.flags |= dns.flags.TC
    response.answer.clear()
    response.authority.clear()
    return response.to_wire(max_size=limit, want_shuffle=False)
