"""Whatever comes in place of a DNS answer, nothing but certferry's errors gets out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.adapters.acme.examination import NamesLook
from certferry.adapters.acme.nameservers import ask, opinions_of
from certferry.adapters.acme.resolvers import HttpsResolver, Resolvers
from certferry.adapters.probe.addresses import resolve
from certferry.adapters.probe.resolver_look import ResolverLook
from certferry.core.network import Applicant
from certferry.ports.http import NO_HEADERS, Answer
from certferry_sandbox.nameserver.daemon import DnsDaemon, Handler, Reply, Transport
from certferry_sandbox.nameserver.service import DnsServer
from tests.adapters.acme.name_servers import RESOLVER, NameServers
from tests.fuzz.outcomes import only_ours, over_sockets
from tests.support.tiers import examples

NAME = "_acme-challenge.www.example.com"
SERVER = "127.0.53.1"
WITHIN = timedelta(seconds=0.05)  # for what is not there: most bent answers count as none
US = Applicant(frozenset({"ca.test"}))
HEADER = 12  # bytes (RFC 1035 §4.1.1)


class BentDns:
    """The name servers of a small world, with a resolver; what they send is bent.

    An answer keeps its number, or it would be a stranger's and not read at all.
    """

    def __init__(self) -> None:
        self.world = NameServers()
        self.chance = Random(0)  # noqa: S311 - it bends answers, and guards nothing
        zones = self.world.zones
        zones.seed("www.example.com", "A", "127.0.0.1")
        zones.seed("www.example.com", "AAAA", "::1")
        zones.seed(NAME, "CNAME", "other.example.net.")
        zones.seed("other.example.net", "TXT", "a value")
        zones.seed("example.com", "CAA", '0 issue "ca.test; validationmethods=dns-01"')
        servers: list[DnsServer] = [*self.world.servers, self.world.resolver]
        handlers: dict[str, Handler] = {one.address: self._bending(one) for one in servers}
        self.daemon = DnsDaemon(handlers)

    def _bending(self, server: DnsServer) -> Handler:
        def handle(wire: bytes, transport: Transport) -> Reply | None:
            reply = server.handle(wire, transport)
            return reply and Reply(bent_wire(reply.wire, self.chance))

        return handle


def bent_wire(wire: bytes, chance: Random) -> bytes:
    """Overwrite some bytes of an answer, cut it, or let a name point somewhere else."""
    bent = bytearray(wire)
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(2, len(bent))
        match chance.randrange(5):
            case 0:
                bent[at] = chance.randrange(256)
            case 1:
                bent[at : at + 2] = bytes((0xC0, chance.randrange(len(bent)) & 0xFF))
            case 2:
                del bent[max(at, HEADER) :]
            case 3:
                bent[2] |= 0x02  # truncated: asked again over TCP (RFC 1035 §4.1.1)
            case _:
                bent[at:at] = chance.randbytes(chance.randint(1, 4))
    return bytes(bent)


@pytest.fixture(scope="module")
def servers() -> Iterator[BentDns]:
    """Run them."""
    made = BentDns()
    made.daemon.start()
    yield made
    made.daemon.stop()


QUESTIONS: tuple[Callable[[Resolvers, int], object], ...] = (
    lambda resolvers, _: resolvers.alias(NAME),
    lambda resolvers, _: resolvers.zone_of(NAME),
    lambda resolvers, _: resolvers.name_servers("example.com"),
    lambda resolvers, _: resolvers.addresses("www.example.com"),
    lambda resolvers, _: resolvers.invented(),
    lambda _, port: ask(SERVER, port, NAME, WITHIN),
    lambda _, port: resolve("www.example.com", [(RESOLVER, port)], WITHIN),
    lambda resolvers, _: NamesLook(resolvers, US).look(["www.example.com"]),
    lambda _, port: ResolverLook([(RESOLVER, port)], WITHIN).honesty(),
    lambda _, port: ResolverLook([(RESOLVER, port)], WITHIN).domains({"www.example.com": "a.test"}),
)
"""Aliases, zones, name servers, addresses, the values of a challenge, and what `doctor` asks."""


@settings(over_sockets, max_examples=examples(80))
@given(seed=st.integers(0, 2**32 - 1), question=st.sampled_from(range(len(QUESTIONS))))
def test_an_answer_of_dns(servers: BentDns, seed: int, question: int) -> None:
    """It is understood, or told as none."""
    servers.chance.seed(seed)
    port = servers.daemon.port

    only_ours(partial(QUESTIONS[question], Resolvers([(RESOLVER, port)], WITHIN), port))


class BentHttps:
    """An `Http` behind which the resolver is; what it sends is bent."""

    def __init__(self, servers: BentDns) -> None:
        self._servers = servers

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        *,
        repeatable: bool = False,
    ) -> Answer:
        """Answer a question."""
        del method, url, repeatable
        reply = self._servers.world.resolver.handle(body or b"", Transport.TCP)
        assert reply is not None
        found = {"Content-Type": headers["Accept"]}
        return Answer(200, found, bent_wire(reply.wire, self._servers.chance))


OVER_HTTPS: tuple[Callable[[HttpsResolver], object], ...] = (
    lambda one: opinions_of([one], [NAME, "other.example.net"]),
    lambda one: Resolvers((), WITHIN, [one], plain=False).zone_of(NAME),
    lambda one: Resolvers((), WITHIN, [one], plain=False).addresses("www.example.com"),
)
"""The values of a challenge, zones, addresses."""


@settings(max_examples=examples(200))
@given(seed=st.integers(0, 2**32 - 1), question=st.sampled_from(range(len(OVER_HTTPS))))
def test_an_answer_over_https(servers: BentDns, seed: int, question: int) -> None:
    """It is understood, or told as none."""
    servers.chance.seed(seed)
    resolver = HttpsResolver("https://127.0.0.1/dns-query", BentHttps(servers))

    only_ours(partial(OVER_HTTPS[question], resolver))
