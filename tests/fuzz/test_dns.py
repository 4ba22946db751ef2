"""DNS services and servers with altered answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from random import Random
from typing import cast
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certferry.adapters.acme.examination import NamesLook
from certferry.adapters.acme.nameservers import ask, opinions_of
from certferry.adapters.acme.resolvers import HttpsResolver, Resolvers
from certferry.adapters.probe.edge_addresses import ResolverCheck, resolve
from certferry.core.network import Applicant
from certferry.ports.adapter import NO_HEADERS, Answer
from certferry.ports.examination import Delegated, Reporting, Timed
from certferry.ports.survey import ZoneKeeper
from certferry_sandbox.nameserver.daemon import DnsDaemon, Handler, Reply, Transport
from certferry_sandbox.nameserver.service import DnsServer
from certferry_sandbox.testing.contracts.dns import VALUE
from tests.adapters.acme.name_servers import RESOLVER, NameServers
from tests.adapters.acme_dns.account import AcmeDnsAccount, acme_dns_account
from tests.adapters.dns.by_id.any_account import SERVICES, AnAccount, opened
from tests.adapters.dnspod.account import DnspodAccount
from tests.adapters.lexicon.account import at
from tests.adapters.rfc2136.account import connected
from tests.adapters.rfc2136.scripted_server import Scripted, scripted
from tests.fuzz.altered_answers import Alteration, Altered, alterations
from tests.fuzz.outcomes import only_ours, over_sockets
from tests.support.powerdns import PowerDns
from tests.support.tiers import examples

# --- Adapters of DNS services raise only certferry's own errors


CHALLENGE = "_acme-challenge.www.example.com"


@dataclass(frozen=True, repr=False)
class AlteredAccount:
    """An account with two zones, and the front before its service."""

    account: AnAccount
    front: Altered

    @property
    def api(self) -> str:
        """The address of the API, behind the front."""
        return self.front.url + urlsplit(self.account.service.url).path


@pytest.fixture(scope="module", params=SERVICES)
def altered(request: pytest.FixtureRequest) -> Iterator[AlteredAccount]:
    with opened(request.param) as account, Altered(account.service.http.url) as front:
        account.add_zone("example.com")
        account.add_zone("example.org")
        yield AlteredAccount(account, front)


@over_sockets
@given(alteration=alterations())
def test_a_dns_service_is_asked(altered: AlteredAccount, alteration: Alteration) -> None:
    """Zones are read, and a record is written and removed, with its handle and without."""
    provider = altered.account.connect(api=altered.api)
    fresh = altered.account.connect(api=altered.api)  # without a stored list of zones
    for call in (
        cast("ZoneKeeper", provider).zones,
        cast("Timed", provider).clock_ahead,
        partial(cast("Delegated", provider).name_servers, "example.com"),
        partial(provider.add_txt, CHALLENGE, "a value"),
        partial(fresh.add_txt, CHALLENGE, "another value"),
        partial(provider.remove_txt, CHALLENGE, "a value", None),
        partial(provider.remove_txt, CHALLENGE, "another value", "1|2"),
        partial(provider.add_txt, "_acme-challenge.example.net", "a value"),
    ):
        altered.front.turn = alteration.turns()
        only_ours(call)
    if isinstance(altered.account, DnspodAccount):
        altered.front.turn = alteration.turns()
        assert not any(
            "example" in str(report_line) for report_line in cast("Reporting", fresh).report().lines
        )


# --- The port of an acme-dns server raises only certferry's own errors


@pytest.fixture(scope="module")
def account() -> Iterator[AcmeDnsAccount]:
    with acme_dns_account() as account:
        yield account


@pytest.fixture(scope="module")
def front(account: AcmeDnsAccount) -> Iterator[Altered]:
    with Altered(account.service.url) as front:
        yield front


@over_sockets
@given(alteration=alterations())
def test_an_acme_dns_server_is_asked(
    account: AcmeDnsAccount, front: Altered, alteration: Alteration
) -> None:
    """A value is written, and the server's health is read."""
    registration = account.service.register()
    provider = account.connect(registration, api=front.url)
    for call in (partial(provider.add_txt, registration.fulldomain, VALUE), provider.clock_ahead):
        front.turn = alteration.turns()
        only_ours(call)


# --- The port of the library lexicon raises only certferry's own errors


NAME = "_acme-challenge.www.example.com"


@pytest.fixture(scope="module")
def lexicon_front(one_powerdns: PowerDns) -> Iterator[Altered]:
    with Altered(one_powerdns.url) as lexicon_front:
        yield lexicon_front


@over_sockets
@given(alteration=alterations())
def test_a_service_is_asked_by_lexicon(lexicon_front: Altered, alteration: Alteration) -> None:
    """A record is written and removed, and the zone of a name is read."""
    provider = at(lexicon_front.url)
    for call in (
        partial(provider.add_txt, NAME, VALUE),
        partial(provider.remove_txt, NAME, VALUE, None),
        partial(at(lexicon_front.url).zone_of, NAME),
    ):
        lexicon_front.turn = alteration.turns()
        only_ours(call)


# --- Altered DNS answers raise only certferry's own errors


SERVER = "127.0.53.1"
WITHIN = timedelta(seconds=0.05)  # for missing answers: most altered answers are ignored
US = Applicant(frozenset({"ca.test"}))
HEADER = 12  # bytes (RFC 1035 §4.1.1)


class AlteredDns:
    """The name servers of a small world, with a resolver and altered answers.

    An answer keeps its number; with another number it would be ignored unread.
    """

    def __init__(self) -> None:
        self.world = NameServers()
        self.chance = Random(0)  # noqa: S311 - for alterations, not for security
        zones = self.world.zones
        zones.seed("www.example.com", "A", "127.0.0.1")
        zones.seed("www.example.com", "AAAA", "::1")
        zones.seed(NAME, "CNAME", "other.example.net.")
        zones.seed("other.example.net", "TXT", "a value")
        zones.seed("example.com", "CAA", '0 issue "ca.test; validationmethods=dns-01"')
        servers: list[DnsServer] = [*self.world.servers, self.world.resolver]
        handlers: dict[str, Handler] = {
            name_server.address: self._bending(name_server) for name_server in servers
        }
        self.daemon = DnsDaemon(handlers)

    def _bending(self, server: DnsServer) -> Handler:
        def handle(wire: bytes, transport: Transport) -> Reply | None:
            reply = server.handle(wire, transport)
            return reply and Reply(altered_wire(reply.wire, self.chance))

        return handle


def altered_wire(wire: bytes, chance: Random) -> bytes:
    """Overwrite some bytes of an answer, cut the answer, or point a name elsewhere."""
    altered = bytearray(wire)
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(2, len(altered))
        match chance.randrange(5):
            case 0:
                altered[at] = chance.randrange(256)
            case 1:
                altered[at : at + 2] = bytes((0xC0, chance.randrange(len(altered)) & 0xFF))
            case 2:
                del altered[max(at, HEADER) :]
            case 3:
                altered[2] |= 0x02  # truncated: asked again over TCP (RFC 1035 §4.1.1)
            case _:
                altered[at:at] = chance.randbytes(chance.randint(1, 4))
    return bytes(altered)


@pytest.fixture(scope="module")
def servers() -> Iterator[AlteredDns]:
    made = AlteredDns()
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
    lambda _, port: ResolverCheck([(RESOLVER, port)], WITHIN).honesty(),
    lambda _, port: ResolverCheck([(RESOLVER, port)], WITHIN).domains(
        {"www.example.com": "a.test"}
    ),
)
"""Aliases, zones, name servers, addresses, the values of a challenge, and the questions of
`doctor`.
"""


@settings(over_sockets, max_examples=examples(80))
@given(seed=st.integers(0, 2**32 - 1), question=st.sampled_from(range(len(QUESTIONS))))
def test_an_answer_of_dns(servers: AlteredDns, seed: int, question: int) -> None:
    """The answer is understood, or reported as an error."""
    servers.chance.seed(seed)
    port = servers.daemon.port

    only_ours(partial(QUESTIONS[question], Resolvers([(RESOLVER, port)], WITHIN), port))


class AlteredHttps:
    """An `Http` before the resolver, with altered answers."""

    def __init__(self, servers: AlteredDns) -> None:
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
        del method, url, repeatable
        reply = self._servers.world.resolver.handle(body or b"", Transport.TCP)
        assert reply is not None
        answer_headers = {"Content-Type": headers["Accept"]}
        return Answer(200, answer_headers, altered_wire(reply.wire, self._servers.chance))


OVER_HTTPS: tuple[Callable[[HttpsResolver], object], ...] = (
    lambda resolver: opinions_of([resolver], [NAME, "other.example.net"]),
    lambda resolver: Resolvers((), WITHIN, [resolver], plain=False).zone_of(NAME),
    lambda resolver: Resolvers((), WITHIN, [resolver], plain=False).addresses("www.example.com"),
)
"""The values of a challenge, zones, addresses."""


@settings(max_examples=examples(200))
@given(seed=st.integers(0, 2**32 - 1), question=st.sampled_from(range(len(OVER_HTTPS))))
def test_an_answer_over_https(servers: AlteredDns, seed: int, question: int) -> None:
    """The answer is understood, or reported as an error."""
    servers.chance.seed(seed)
    resolver = HttpsResolver("https://127.0.0.1/dns-query", AlteredHttps(servers))

    only_ours(partial(OVER_HTTPS[question], resolver))


# --- Altered answers to a signed update raise only certferry's own errors


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@over_sockets
@given(seed=st.integers(0, 2**32 - 1), is_signed=st.booleans())
@example(seed=556534448, is_signed=False)
def test_an_answer_to_an_update(server: Scripted, seed: int, *, is_signed: bool) -> None:
    """The answer is altered before its signature by the server, or afterwards on the way."""
    chance = Random(seed)  # noqa: S311 - for alterations, not for security

    def alteration(wire: bytes) -> bytes:
        return altered_wire(wire, chance)

    def none(wire: bytes) -> bytes:
        return wire

    server.bend, server.turn = (alteration, none) if is_signed else (none, alteration)
    provider = connected(server.address, timeout=timedelta(seconds=1))

    only_ours(
        partial(provider.add_txt, NAME, "a value"),
        partial(provider.remove_txt, NAME, "a value", None),
        provider.clock_ahead,
        partial(connected(server.address, zones=("example.com",)).zone_of, NAME),
    )
