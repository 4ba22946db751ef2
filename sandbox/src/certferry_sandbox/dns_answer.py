"""What a name server answers: a query and the zones in, a message out. No sockets here."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from certferry_sandbox.dns_lookup import Found, Lookup, Seat, rrset, to_name, to_text
from certferry_sandbox.zones import Record, Zone, Zones

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
        """Give the zone's NS records unless they are the answer, and the servers' addresses."""
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
