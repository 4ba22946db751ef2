"""The answers of a name server, without sockets.

`Lookup` searches the zones for a name, with CNAME chains, wildcards and missing names.
`Authority` and `answer_recursively` make a message of the result.
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
    """The zone that answers for a name, and the moment whose records count."""

    zone: Zone
    at: float


FindSeat = Callable[[str], Seat | None]
"""Name → the zone that answers for the name; None if the server has no such zone."""


@dataclass
class Found:
    """The result of a lookup: the records on the way, and the code at the end.

    `soa` is set if the last name does not exist, or has no record of the type. Without an SOA,
    `answer` ends with the wanted records, or with an alias to a name outside the server's zones.
    """

    answer: list[dns.rrset.RRset] = field(default_factory=list)
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    soa: Record | None = None


class Lookup:
    """A server's search: in all zones, or in the zones that the server serves."""

    def __init__(self, zones: Zones, find_seat: FindSeat) -> None:
        self._zones = zones
        self._find_seat = find_seat

    def follow(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Found:
        """Return the result for a name, after following aliases. A loop ends in SERVFAIL."""
        result = Found()
        visited: set[dns.name.Name] = set()
        while (seat := self._find_seat(to_text(name))) is not None:
            if name in visited:
                return Found(rcode=dns.rcode.SERVFAIL)
            visited.add(name)
            records = self._records(seat, to_text(name))
            wanted = self._of_type(records or [], rdtype, seat, to_text(name))
            alias = [record for record in records or [] if record.rtype == "CNAME"]
            if wanted or not alias:
                return self._ended(result, name, wanted, seat, exists=records is not None)
            result.answer.append(rrset(name, alias))
            name = result.answer[-1][0].target
        return result

    def _ended(
        self, result: Found, name: dns.name.Name, wanted: list[Record], seat: Seat, *, exists: bool
    ) -> Found:
        if wanted:
            result.answer.append(rrset(name, wanted))
        else:
            result.soa = self._soa(seat)
            result.rcode = dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN
        return result

    def _of_type(
        self, records: list[Record], rdtype: dns.rdatatype.RdataType, seat: Seat, name: str
    ) -> list[Record]:
        if rdtype == dns.rdatatype.SOA and name == seat.zone.name:
            return [self._soa(seat)]
        wanted = dns.rdatatype.to_text(rdtype)
        return [record for record in records if record.rtype == wanted]

    def _records(self, seat: Seat, name: str) -> list[Record] | None:
        """Return the records of a name or its wildcard (RFC 4592 §3.3.1); None for no such name."""
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
    """Return records of one name and one type as an RRset. `records` is not empty."""
    rdatas = [rdata(record.rtype, record.value) for record in records]
    return dns.rrset.from_rdata_list(name, min(record.ttl for record in records), rdatas)


@lru_cache(maxsize=4096)
def rdata(rtype: str, value: str) -> dns.rdata.Rdata:
    """Return a record's value as dnspython's Rdata. Raises DNSException for an invalid value."""
    if rtype == "TXT":
        raw = value.encode()
        strings = [raw[at : at + MAX_STRING] for at in range(0, len(raw), MAX_STRING)]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings or [b""])
    return dns.rdata.from_text(dns.rdataclass.IN, rtype, value, dns.name.root, relativize=False)


def to_text(name: dns.name.Name) -> str:
    """Return a name as text, as the zones write names."""
    return name.to_text().rstrip(".").lower()


def to_name(text: str) -> dns.name.Name:
    """Return a name of the zones as dnspython's Name."""
    return dns.name.from_text(f"{text}.")


OUR_PAYLOAD = 1232  # EDNS buffer size agreed on DNS flag day 2020
NS = dns.rdatatype.NS
TYPES_REFUSED = frozenset({"ANY", "AXFR", "IXFR"})


class Authority:
    """Answers as the server `hostname`, for the zones with `hostname` among their name servers."""

    def __init__(self, zones: Zones, hostname: str) -> None:
        self._zones = zones
        self._hostname = hostname

    def answer(self, query: dns.message.Message, at: float) -> dns.message.Message:
        """Answer from the records at the moment `at`. A name outside the zones is REFUSED."""
        response = dns.message.make_response(query, our_payload=OUR_PAYLOAD)
        if _refuse_unusual(query, response):
            return response
        question = query.question[0]
        above = self._zones.zones_above(to_text(question.name))
        if not any(self._serves(zone) for zone in above):
            response.set_rcode(dns.rcode.REFUSED)
        elif not self._serves(above[0]):  # delegated to other servers: a referral (RFC 1034 §4.3.2)
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
        result = lookup.follow(question.name, question.rdtype)
        response.flags |= dns.flags.AA
        _fill(response, result)
        if result.soa is None:
            self._name_the_servers(response, zone, at)

    def _seat(self, name: str, at: float) -> Seat | None:
        above = self._zones.zones_above(name)
        return Seat(above[0], at) if above and self._serves(above[0]) else None

    def _name_the_servers(self, response: dns.message.Message, zone: Zone, at: float) -> None:
        """Add the zone's NS records and the addresses of its servers to a response.

        NS records that are already the answer are not repeated.
        """
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
    """Return a resolver's answer: recursion is available, and the answer is not authoritative."""
    response = dns.message.make_response(query, recursion_available=True, our_payload=OUR_PAYLOAD)
    if not _refuse_unusual(query, response):
        _fill(response, follow(query.question[0]))
    return response


def _refuse_unusual(query: dns.message.Message, response: dns.message.Message) -> bool:
    """Whether the query is refused: the response then has the code of the refusal.

    Accepted is one question of class IN for a type outside `TYPES_REFUSED`.
    """
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


def _fill(response: dns.message.Message, result: Found) -> None:
    """Put a result into a response. A missing name or type has the zone's SOA (RFC 2308 §3)."""
    response.set_rcode(result.rcode)
    response.answer.extend(result.answer)
    if result.soa is not None:
        response.authority.append(rrset(to_name(result.soa.name), [result.soa]))


def to_wire(response: dns.message.Message, limit: int) -> bytes:
    """Return a response in at most `limit` bytes.

    A response that is too long loses its optional records. If that is not enough, the response
    loses all records and has the TC flag. Records keep their order: shuffling would use up
    Python's random numbers, which tests in the same process rely on.
    """
    with contextlib.suppress(dns.exception.TooBig):
        return response.to_wire(max_size=limit, want_shuffle=False)
    response.additional.clear()
    if response.answer:
        response.authority = [records for records in response.authority if records.rdtype != NS]
    with contextlib.suppress(dns.exception.TooBig):
        return response.to_wire(max_size=limit, want_shuffle=False)
    # Clients disagree on the meaning of half an RRset, so the answer has no RRset (RFC 2181 §9).
    response.flags |= dns.flags.TC
    response.answer.clear()
    response.authority.clear()
    return response.to_wire(max_size=limit, want_shuffle=False)
