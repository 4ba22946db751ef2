"""Name servers of the sandbox: several authoritative ones, each with its own lag and troubles, and
a resolver that knows every zone.

They listen on addresses of their own and on one common port, so that a client that reads that
port can reach any of them by address, as it would on port 53.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import dns.exception
import dns.flags
import dns.message
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
    """A question that came in."""

    transport: Transport
    name: str
    type: str


@dataclass(frozen=True)
class Trouble:
    """How a server misbehaves."""

    is_down: bool = False
    rcode: dns.rcode.Rcode | None = None
    seconds: float = 0.0
    is_lame: bool = False


class DnsServer(ABC):
    """One server on one address: its journal, and switches that may be turned while it runs."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._queries: list[Query] = []
        self._trouble = Trouble()
        self._to_drop = 0

    @property
    def queries(self) -> list[Query]:
        """Every question so far, those that got no answer too."""
        with self._lock:
            return list(self._queries)

    def down(self) -> None:
        """Answer nothing, as a host that is switched off."""
        self._trouble = replace(self._trouble, is_down=True)

    @property
    def is_down(self) -> bool:
        """Whether it answers nothing."""
        return self._trouble.is_down

    def refusing(self, rcode: dns.rcode.Rcode = dns.rcode.REFUSED) -> None:
        """Answer every question with this code and nothing else."""
        self._trouble = replace(self._trouble, rcode=rcode)

    def slow(self, seconds: float) -> None:
        """Answer each question after this time."""
        self._trouble = replace(self._trouble, seconds=seconds)

    def lame(self) -> None:
        """Answer without the AA flag, as a server that has the data from another server."""
        self._trouble = replace(self._trouble, is_lame=True)

    def drop(self, count: int) -> None:
        """Lose the next `count` questions."""
        with self._lock:
            self._to_drop = count

    def recover(self) -> None:
        """Turn every switch back."""
        with self._lock:
            self._trouble = Trouble()
            self._to_drop = 0

    def handle(self, wire: bytes, transport: Transport) -> Reply | None:
        """Answer one message; None to stay silent."""
        if len(wire) < HEADER:
            return None
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return Reply(_format_error(wire))
        if query.flags & dns.flags.QR:  # answering an answer could go on for ever
            return None
        trouble = self._note(query, transport)
        if trouble.is_down:
            return None
        response = self._respond(query, trouble)
        return Reply(to_wire(response, _limit(query, transport)), after=trouble.seconds)

    def _note(self, query: dns.message.Message, transport: Transport) -> Trouble:
        """Write the question down and give the trouble it is in."""
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
        """Answer as this server does when nothing is wrong with it."""


class NameServer(DnsServer):
    """An authoritative server, known as `hostname` in the NS records of the zones it serves.

    It shows what had been written `lag` seconds ago; `math.inf` never shows a change.
    """

    def __init__(self, zones: Zones, hostname: str, address: str, *, lag: float = 0.0) -> None:
        super().__init__(address)
        self.hostname = hostname
        self.lag = lag
        self._zones = zones
        self._authority = Authority(zones, hostname)

    def moment(self) -> float:
        """The clock's moment that this server is at."""
        return self._zones.clock() - self.lag

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """Answer for the zones that name this server, and refuse the others."""
        return self._authority.answer(query, self.moment())


class Resolver(DnsServer):
    """A resolver that asks the first server of each zone which is not down, so to speak (where all
    are, only the client cannot reach them), and knows no other zones.

    It remembers for `negative_caching` seconds what it was answered not to exist (RFC 2308 §5).
    Names at or below one of `bogus` have signatures that do not hold: it answers for them only
    where the query says not to check (RFC 4035 §3.2.2). A name that does not exist is at the
    address `invented`, as with resolvers that sell the mistakes of others; every name is at the
    address `faked`, as with proxies that answer DNS themselves. What it `denies` is in no zone,
    as a company's resolver knows the company's names only. For what is `unseen` it still has the
    answer from before that was written.
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
        self.invented: str | None = None
        self.faked: str | None = None
        self.denies = False
        self.unseen: set[str] = set()
        self._zones = zones
        self._servers = {server.hostname: server for server in servers}
        self._lookup = Lookup(zones, self._seat)
        self._missing: dict[tuple[str, int], tuple[float, Found]] = {}

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """Answer for every zone; whatever is in none of them does not exist."""
        checks = not query.flags & dns.flags.CD
        if checks and any(self._is_bogus(to_text(one.name)) for one in query.question):
            response = dns.message.make_response(query, our_payload=OUR_PAYLOAD)
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        is_unseen = any(to_text(one.name) in self.unseen for one in query.question)
        if self.denies or is_unseen:
            return answer_recursively(query, lambda _: Found(rcode=dns.rcode.NXDOMAIN))
        response = answer_recursively(query, self._follow)
        if self.faked is not None and query.question[0].rdtype == dns.rdatatype.A:
            response.answer.clear()
            _invent(response, self.faked)
        if self.invented is not None and response.rcode() == dns.rcode.NXDOMAIN:
            _invent(response, self.invented)
        return response

    def recover(self) -> None:
        """Turn every switch back."""
        super().recover()
        self.bogus.clear()
        self.invented = None
        self.faked = None
        self.denies = False
        self.unseen.clear()

    def _is_bogus(self, name: str) -> bool:
        return any(name == zone or name.endswith(f".{zone}") for zone in self.bogus)

    def _follow(self, question: dns.rrset.RRset) -> Found:
        key = (to_text(question.name), int(question.rdtype))
        now = self._zones.clock()
        until, found = self._missing.get(key, (now, Found()))
        if now < until and found.soa is not None:
            # The answer carries the time left (RFC 2308 §5).
            left = replace(found.soa, ttl=int(until - now))
            return replace(found, soa=left)
        found = self._lookup.follow(question.name, question.rdtype)
        if found.soa is not None:
            self._missing[key] = (now + self.negative_caching, found)
        return found

    def _seat(self, name: str) -> Seat:
        above = self._zones.zones_above(name)
        zone = above[0] if above else ROOT
        return Seat(zone, self._moment(zone))

    def _moment(self, zone: Zone) -> float:
        servers = [self._servers[host] for host in zone.nameservers if host in self._servers]
        if not servers:
            return self._zones.clock()
        return next((one for one in servers if not one.is_down), servers[0]).moment()


class DnsService:
    """The authoritative servers and the resolver, listening together on one port.

    Before they listen, their host names get A records, in a zone made for them if need be.
    """

    def __init__(
        self, zones: Zones, servers: Sequence[NameServer], resolver: Resolver, *, port: int = 0
    ) -> None:
        self.servers = tuple(servers)
        self.resolver = resolver
        self._zones = zones
        all_of_them = (*self.servers, resolver)
        self._daemon = DnsDaemon({one.address: one.handle for one in all_of_them}, port=port)

    @property
    def port(self) -> int:
        """The port of all of them. Raises RuntimeError while they are stopped."""
        return self._daemon.port

    @property
    def resolver_endpoint(self) -> str:
        """Where the resolver listens, as `address:port`."""
        return f"{self.resolver.address}:{self.port}"

    def start(self) -> Self:
        """Listen. Raises OSError when the wanted port is taken on one of the addresses."""
        for server in self.servers:
            self._publish_address(server)
        self._daemon.start()
        return self

    def _publish_address(self, server: NameServer) -> None:
        if not self._zones.zones_above(server.hostname):
            _, _, parent = server.hostname.partition(".")
            self._zones.add_zone(parent, [one.hostname for one in self.servers])
        if not self._zones.records(name=server.hostname, rtype="A"):
            self._zones.seed(server.hostname, "A", server.address)

    def stop(self) -> None:
        """Stop listening; a second call does nothing."""
        self._daemon.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _invent(response: dns.message.Message, address: str) -> None:
    """Make "no such name" an address."""
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
    """Return FORMERR with the query's id and nothing else."""
    return wire[:2] + bytes([0x80, dns.rcode.FORMERR]) + bytes(HEADER - 4)
