"""The sandbox's name servers: authoritative servers and a resolver that knows every zone.

Each authoritative server has a lag and faults of its own. Every server has its own address. All
servers share a port, so a client reaches each server by address, as on port 53.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from certferry.values import replace
from certferry_sandbox.nameserver.daemon import DnsDaemon, Reply, Transport
from certferry_sandbox.nameserver.lookup import (
    OUR_PAYLOAD,
    ROOT,
    Authority,
    Found,
    Lookup,
    Seat,
    answer_recursively,
    to_text,
    to_wire,
)
from certferry_sandbox.zones import Zone, Zones

HEADER = 12  # bytes (RFC 1035 §4.1.1)
PLAIN_UDP = 512  # bytes of a UDP answer to a query without EDNS (RFC 1035 §4.2.1)
MAX_TCP = 65535


@dataclass(frozen=True)
class Query:
    """A question that arrived."""

    transport: Transport
    name: str
    type: str


@dataclass(frozen=True)
class Trouble:
    """The faults that are turned on at a server."""

    is_down: bool = False
    rcode: dns.rcode.Rcode | None = None
    seconds: float = 0.0
    is_lame: bool = False


class DnsServer(ABC):
    """A server on an address: the questions so far, and faults to turn on while the server runs."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._queries: list[Query] = []
        self._trouble = Trouble()
        self._to_drop = 0

    @property
    def queries(self) -> list[Query]:
        """Every question so far, with or without an answer."""
        with self._lock:
            return list(self._queries)

    def down(self) -> None:
        """Answer nothing from now on, as a host that is switched off."""
        self._trouble = replace(self._trouble, is_down=True)

    @property
    def is_down(self) -> bool:
        """Whether the server is switched off (`down`)."""
        return self._trouble.is_down

    def refusing(self, rcode: dns.rcode.Rcode = dns.rcode.REFUSED) -> None:
        """Answer every question with this code and no records."""
        self._trouble = replace(self._trouble, rcode=rcode)

    def slow(self, seconds: float) -> None:
        """Wait this many seconds before each answer."""
        self._trouble = replace(self._trouble, seconds=seconds)

    def lame(self) -> None:
        """Answer without the AA flag, as a server without authority for the zone."""
        self._trouble = replace(self._trouble, is_lame=True)

    def drop(self, count: int) -> None:
        """Leave the next `count` questions without an answer."""
        with self._lock:
            self._to_drop = count

    def recover(self) -> None:
        """End every fault."""
        with self._lock:
            self._trouble = Trouble()
            self._to_drop = 0

    def handle(self, wire: bytes, transport: Transport) -> Reply | None:
        """Return the reply to a message; None for silence."""
        if len(wire) < HEADER:
            return None
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return Reply(_format_error(wire))
        if query.flags & dns.flags.QR:  # a reply to an answer could start an endless exchange
            return None
        trouble = self._note(query, transport)
        if trouble.is_down:
            return None
        response = self._respond(query, trouble)
        return Reply(to_wire(response, _limit(query, transport)), after=trouble.seconds)

    def _note(self, query: dns.message.Message, transport: Transport) -> Trouble:
        """Store the question, and return the faults that apply to the answer."""
        with self._lock:
            for question in query.question:
                kind = dns.rdatatype.to_text(question.rdtype)
                self._queries.append(Query(transport, to_text(question.name), kind))
            if self._to_drop:
                self._to_drop -= 1
                return Trouble(is_down=True)
            return self._trouble

    def _respond(self, query: dns.message.Message, trouble: Trouble) -> dns.message.Message:
        if trouble.rcode is not None:
            response = dns.message.make_response(query, our_payload=OUR_PAYLOAD)
            response.set_rcode(trouble.rcode)
            return response
        response = self.answer(query)
        if trouble.is_lame:
            response.flags &= ~dns.flags.AA
        return response

    @abstractmethod
    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """Return the server's answer without any fault."""


class NameServer(DnsServer):
    """An authoritative server, with the name `hostname` in the NS records of zones.

    The server shows the records of `lag` seconds ago; with `math.inf`, a change never appears.
    """

    def __init__(self, zones: Zones, hostname: str, address: str, *, lag: float = 0.0) -> None:
        super().__init__(address)
        self.hostname = hostname
        self.lag = lag
        self._zones = zones
        self._authority = Authority(zones, hostname)

    def moment(self) -> float:
        """Return the moment whose records the server shows, in clock seconds."""
        return self._zones.clock() - self.lag

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """Answer for the zones that this server serves, and refuse other names."""
        return self._authority.answer(query, self.moment())


class Resolver(DnsServer):
    """A resolver for the sandbox's zones. Other names do not exist for the resolver.

    For each zone, the resolver shows the records of the first server that is up. If every server
    is down, the resolver still shows the records of the first server.

    Attributes that change answers:

    - `negative_caching`: the seconds for which a missing name stays cached (RFC 2308 §5).
    - `bogus`: zones with invalid signatures. The resolver answers for a name at or below such a
      zone only if the query turns checking off (RFC 4035 §3.2.2).
    - `signed_until`: the end of the signatures of `bogus` zones; `None` if the zones have none.
    - `invented`: the address of every missing name, as from resolvers that advertise.
    - `faked`: the address of every name, as from proxies that answer DNS themselves.
    - `denies`: no name exists, as for a company's resolver that knows the company's names only.
    - `unseen`: names that do not exist for the resolver, as if cached before their creation.
    """

    def __init__(
        self,
        zones: Zones,
        servers: Sequence[NameServer],
        address: str,
        *,
        negative_caching: float = 0.0,
    ) -> None:
        super().__init__(address)
        self.negative_caching = negative_caching
        self.bogus: set[str] = set()
        self.signed_until: datetime | None = None
        self.invented: str | None = None
        self.faked: str | None = None
        self.denies = False
        self.unseen: set[str] = set()
        self._zones = zones
        self._servers = {server.hostname: server for server in servers}
        self._lookup = Lookup(zones, self._seat)
        self._missing: dict[tuple[str, int], tuple[float, Found]] = {}

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """Answer for every zone. A name outside all zones does not exist."""
        checks = not query.flags & dns.flags.CD
        if checks and any(self._is_bogus(to_text(asked.name)) for asked in query.question):
            response = dns.message.make_response(query, our_payload=OUR_PAYLOAD)
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        is_unseen = any(to_text(asked.name) in self.unseen for asked in query.question)
        if self.denies or is_unseen:
            return answer_recursively(query, lambda _: Found(rcode=dns.rcode.NXDOMAIN))
        response = answer_recursively(query, self._follow)
        wants_signatures = bool(query.ednsflags & dns.flags.DO)
        if not checks and wants_signatures and self.signed_until is not None:
            response.authority.append(_signature(query.question[0].name, self.signed_until))
        if self.faked is not None and query.question[0].rdtype == dns.rdatatype.A:
            response.answer.clear()
            _invent(response, self.faked)
        if self.invented is not None and response.rcode() == dns.rcode.NXDOMAIN:
            _invent(response, self.invented)
        return response

    def recover(self) -> None:
        """End every fault."""
        super().recover()
        self.bogus.clear()
        self.signed_until = None
        self.invented = None
        self.faked = None
        self.denies = False
        self.unseen.clear()

    def _is_bogus(self, name: str) -> bool:
        return any(name == zone or name.endswith(f".{zone}") for zone in self.bogus)

    def _follow(self, question: dns.rrset.RRset) -> Found:
        key = (to_text(question.name), int(question.rdtype))
        now = self._zones.clock()
        until, result = self._missing.get(key, (now, Found()))
        if now < until and result.soa is not None:
            # The TTL is the time left in the cache (RFC 2308 §5).
            left = replace(result.soa, ttl=int(until - now))
            return replace(result, soa=left)
        result = self._lookup.follow(question.name, question.rdtype)
        if result.soa is not None:
            self._missing[key] = (now + self.negative_caching, result)
        return result

    def _seat(self, name: str) -> Seat:
        above = self._zones.zones_above(name)
        zone = above[0] if above else ROOT
        return Seat(zone, self._moment(zone))

    def _moment(self, zone: Zone) -> float:
        servers = [self._servers[host] for host in zone.nameservers if host in self._servers]
        if not servers:
            return self._zones.clock()
        return next((server for server in servers if not server.is_down), servers[0]).moment()


class DnsService:
    """The authoritative servers and the resolver, on a common port.

    `start` first adds an A record for each server's host name, and the zone if missing.
    """

    def __init__(
        self, zones: Zones, servers: Sequence[NameServer], resolver: Resolver, *, port: int = 0
    ) -> None:
        self.servers = tuple(servers)
        self.resolver = resolver
        self._zones = zones
        answering = (*self.servers, resolver)
        self._daemon = DnsDaemon({server.address: server.handle for server in answering}, port=port)

    @property
    def port(self) -> int:
        """The port of all servers. Raises RuntimeError while the servers are stopped."""
        return self._daemon.port

    @property
    def resolver_endpoint(self) -> str:
        """The resolver's `address:port`."""
        return f"{self.resolver.address}:{self.port}"

    def start(self) -> Self:
        """Listen. Raises OSError if the wanted port is taken on an address."""
        for server in self.servers:
            self._publish_address(server)
        self._daemon.start()
        return self

    def _publish_address(self, server: NameServer) -> None:
        if not self._zones.zones_above(server.hostname):
            _, _, parent = server.hostname.partition(".")
            self._zones.add_zone(parent, [other.hostname for other in self.servers])
        if not self._zones.records(name=server.hostname, rtype="A"):
            self._zones.seed(server.hostname, "A", server.address)

    def stop(self) -> None:
        """Stop listening; a second call does nothing."""
        self._daemon.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _signature(name: dns.name.Name, end: datetime) -> dns.rrset.RRset:
    """Return a signature (RFC 4034 §3) that ends at a moment, and that no key made."""
    of_soa = f"SOA 13 2 300 {end:%Y%m%d%H%M%S} 20260101000000 1 example.com. c2lnbmF0dXJl"
    return dns.rrset.from_text(name, 300, "IN", "RRSIG", of_soa)


def _invent(response: dns.message.Message, address: str) -> None:
    """Turn a "no such name" response into a response with the address."""
    response.set_rcode(dns.rcode.NOERROR)
    response.authority.clear()
    if response.question[0].rdtype == dns.rdatatype.A:
        name = response.question[0].name
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", address))


def _limit(query: dns.message.Message, transport: Transport) -> int:
    if transport is Transport.TCP:
        return MAX_TCP
    return max(PLAIN_UDP, min(query.payload, OUR_PAYLOAD))


def _format_error(wire: bytes) -> bytes:
    """Return a message with the query's id and the code FORMERR, without records."""
    return wire[:2] + bytes([0x80, dns.rcode.FORMERR]) + bytes(HEADER - 4)
