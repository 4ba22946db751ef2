"""Handshakes with edges, and where their addresses come from."""

from __future__ import annotations

import hashlib
import itertools
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.message
import pytest

from certferry.adapters.probe.edge_addresses import ResolverCheck
from certferry.adapters.probe.tls import ADDRESSES_AT_ONCE, DOMAINS_AT_ONCE, TlsProbe
from certferry.adapters.probe.trust import Trust
from certferry.core.findings import Code
from certferry.core.observed.observation import Served, is_served
from certferry.errors import ConfigError, Interrupted, Severity
from certferry.ports.progress import Pause
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry_sandbox.authority import Authority
from certferry_sandbox.nameserver.daemon import DnsDaemon, Reply, Transport
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.qiniu.service import QiniuService
from certferry_sandbox.zones import Zones
from tests.adapters.probe.odd_edge import Edit, odd_edge, replacing

# --- Looking at edges from outside: real name servers, real handshakes


DOMAIN = "img.example.com"
NAMESERVER = "ns1.example.com"


def now() -> datetime:
    """The real clock: certificates are made for it."""
    return datetime.now(UTC)


class Edges:
    """A CDN with two edges, the zone that points at them, and a CA."""

    def __init__(self, qiniu: QiniuService, dns: DnsService, zones: Zones, directory: Path) -> None:
        self.qiniu = qiniu
        self.dns = dns
        self.zones = zones
        self.authority = Authority("Edge CA")
        self.roots = directory / "roots.pem"
        self.roots.write_text(self.authority.root_pem)
        self.pause: Pause = lambda _: None

    def serve(self, domain: str, *names: str, days: int = 60) -> str:
        """Serve a certificate under a domain, and point the domain at the edges."""
        issued = self.authority.issue(
            names or (domain,), now() - timedelta(days=90 - days), now() + timedelta(days=days)
        )
        spelled = domain.removeprefix("*")
        self.qiniu.add_domain(spelled, https=self.qiniu.add_certificate(issued, domain))
        self.point(domain)
        return issued.fingerprint

    def point(self, domain: str) -> None:
        for address in self.qiniu.edges.addresses:
            self.zones.seed(domain, "A", address)

    def probe(self, *resolvers: tuple[str, int], port: int | None = None) -> TlsProbe:
        """Observe through the zone's resolver unless others are named."""
        ours = (self.dns.resolver.address, self.dns.port)
        return TlsProbe(
            resolvers or (ours,),
            now,
            pause=self.pause,
            port=port or self.qiniu.edges.port,
            ca_bundle=self.roots,
            answer_within=timedelta(seconds=1),
        )

    def look(self, domain: str, *resolvers: tuple[str, int]) -> tuple[Served, ...]:
        return self.probe(*resolvers).served([domain])[domain]


@pytest.fixture
def edges(tmp_path: Path) -> Iterator[Edges]:
    """Two edges that serve nothing yet."""
    zones = Zones()
    servers = [NameServer(zones, NAMESERVER, "127.0.0.2")]
    zones.add_zone("example.com", [NAMESERVER])
    resolver = Resolver(zones, servers, "127.0.0.1")
    with QiniuService() as qiniu, DnsService(zones, servers, resolver) as dns:
        qiniu.add_account("ak", "sk")
        yield Edges(qiniu, dns, zones, tmp_path)


def test_every_address_is_looked_at_once(edges: Edges) -> None:
    """Each address of the domain gives what it presents: fingerprint, validity, end."""
    fingerprint = edges.serve(DOMAIN)

    seen = edges.look(DOMAIN)

    assert sorted(edges.qiniu.edges.addresses) == sorted(address.address for address in seen)
    assert is_served(seen, fingerprint)
    assert all(address.problem is None for address in seen)
    assert all(address.not_after is not None for address in seen)


def test_wildcard_domain_is_looked_at_under_a_label(edges: Edges) -> None:
    """A wildcard domain is served under any label; ours stands for them."""
    fingerprint = edges.serve("*.cdn.example.com")
    edges.point("certferry-probe.cdn.example.com")

    assert is_served(edges.look("*.cdn.example.com"), fingerprint)


def test_edge_that_is_down_is_reported_and_does_not_count(edges: Edges) -> None:
    """An address that does not answer is reported; those that do decide."""
    fingerprint = edges.serve(DOMAIN)
    edges.qiniu.edges[0].down = True

    seen = edges.look(DOMAIN)

    silent = [address for address in seen if not address.answered]
    assert [edges.qiniu.edges[0].address] == [address.address for address in silent]
    assert silent[0].problem is not None
    assert is_served(seen, fingerprint)


def test_name_that_the_edge_does_not_serve_is_no_certificate(edges: Edges) -> None:
    """An alert is an answer: a visitor there gets an error, so it counts as not served."""
    edges.point("other.example.com")

    seen = edges.look("other.example.com")

    assert 2 == len(seen)
    assert all(address.answered for address in seen)
    assert not any(address.fingerprint for address in seen)
    assert "handshake" in str(seen[0].problem)


def test_certificate_for_another_name_is_seen_and_not_valid(edges: Edges) -> None:
    """The name is judged as a client would, and the fingerprint still reported."""
    fingerprint = edges.serve(DOMAIN, "other.example.com")

    seen = edges.look(DOMAIN)

    assert {fingerprint} == {address.fingerprint for address in seen}
    assert not any(address.valid for address in seen)
    assert not is_served(seen, fingerprint)


def test_expired_certificate_is_seen_and_not_valid(edges: Edges) -> None:
    """An expired certificate is reported as such, with its end."""
    fingerprint = edges.serve(DOMAIN, days=-1)

    seen = edges.look(DOMAIN)

    assert {fingerprint} == {address.fingerprint for address in seen}
    assert not any(address.valid for address in seen)


def test_leaf_without_its_issuer_is_not_valid(edges: Edges) -> None:
    """A chain that a client could not complete is a fault even when the leaf is right."""
    fingerprint = edges.serve(DOMAIN)
    for edge in edges.qiniu.edges:
        edge.wrong_chain = True

    seen = edges.look(DOMAIN)

    assert {fingerprint} == {address.fingerprint for address in seen}
    assert not is_served(seen, fingerprint)


def test_untrusted_root_is_not_valid(edges: Edges) -> None:
    """Trust is in the configured roots only."""
    fingerprint = edges.serve(DOMAIN)
    edges.roots.write_text(Authority("Somebody else").root_pem)

    assert not is_served(edges.look(DOMAIN), fingerprint)


@pytest.mark.parametrize(
    "edit",
    [
        replacing(bytes.fromhex("a003020102"), bytes.fromhex("a003020107")),
        replacing(bytes.fromhex("0603551d0e"), bytes.fromhex("0603551d23")),
        replacing(b"\x82\x0fimg.example.com", b"\x83\x0fimg.example.com"),
        replacing(b"\x82\x0fimg.example.com", b"\x82\x0fimg.example.c\xff\xfe"),
        replacing(b"20550101000000Z", b"00000101000000Z"),
        replacing(b"20550101000000Z", b"99999999999999Z"),
        replacing(bytes.fromhex("0603551d13"), bytes.fromhex("0603551d1e")),
    ],
    ids=["version", "extension twice", "name kind", "name bytes", "year 0", "no date", "nonsense"],
)
def test_certificate_that_no_library_reads_is_one_addresss_problem(
    edges: Edges, tmp_path: Path, edit: Edit
) -> None:
    """The others are judged as ever, and what it presents is known by its fingerprint."""
    fingerprint = edges.serve(DOMAIN)
    odd = "127.0.59.1"
    edges.zones.seed(DOMAIN, "A", odd)

    with odd_edge(odd, edges.qiniu.edges.port, DOMAIN, edit, tmp_path) as der:
        seen = {address.address: address for address in edges.look(DOMAIN)}

    there = seen.pop(odd)
    assert hashlib.sha256(der).hexdigest() == there.fingerprint
    assert there.answered
    assert not there.valid
    assert there.problem is not None
    assert is_served(tuple(seen.values()), fingerprint)


def test_domains_are_looked_at_side_by_side(edges: Edges) -> None:
    """One that is silent takes its time beside the others: here none is answered before the last
    has asked.
    """
    domains = [f"n{number}.example.com" for number in range(DOMAINS_AT_ONCE)]
    meeting = "127.0.57.1"
    for domain in domains:
        edges.zones.seed(domain, "A", meeting)
    with socket.create_server((meeting, 0)) as server, ThreadPoolExecutor(1) as host:
        server.settimeout(20)
        met = host.submit(see_off_together, server, len(domains))
        seen = edges.probe(port=server.getsockname()[1]).served(domains)
        met.result()

    assert domains == list(seen)
    problems = [str(address.problem) for looked in seen.values() for address in looked]
    assert DOMAINS_AT_ONCE == len(problems)
    assert not any("no answer within" in problem for problem in problems)


def see_off_together(server: socket.socket, count: int) -> None:
    with ExitStack() as guests:
        for _ in range(count):
            guests.enter_context(server.accept()[0])


def test_stopped_run_looks_no_further(edges: Edges) -> None:
    """The run need not wait for the rest of a thousand domains."""

    def stopped(seconds: float) -> None:
        raise Interrupted(Text("stopped"))

    edges.serve(DOMAIN)
    edges.pause = stopped

    with pytest.raises(Interrupted):
        edges.look(DOMAIN)


@pytest.mark.parametrize(
    ("domains", "addresses", "at_once"),
    [(4 * DOMAINS_AT_ONCE, 1, DOMAINS_AT_ONCE), (1, 3 * ADDRESSES_AT_ONCE, ADDRESSES_AT_ONCE)],
    ids=["domains", "addresses"],
)
def test_nothing_is_begun_after_the_end(
    edges: Edges, domains: int, addresses: int, at_once: int
) -> None:
    """A thread reports it only once: that must not be of one domain or address, and the next
    one be looked at as if nothing had happened, as long as the first one is silent.
    """
    names = [f"n{number}.example.com" for number in range(domains)]
    hosts = [f"127.0.58.{number + 1}" for number in range(addresses)]
    for name, host in itertools.product(names, hosts):
        edges.zones.seed(name, "A", host)
    stopping, reported = Run(), threading.Semaphore(0)

    def pause(seconds: float) -> None:
        try:
            stopping.pause(seconds)
        except Interrupted:
            reported.release()
            raise

    edges.pause = pause
    with listening_at(hosts) as servers, ThreadPoolExecutor(1) as other:
        look = other.submit(edges.probe(port=servers[0].getsockname()[1]).served, names)
        silent, *answering = [guest_of(servers, within=20) for _ in range(at_once)]
        stopping.stop()
        for guest in answering:
            assert guest is not None
            guest.close()
        assert reported.acquire(timeout=20)
        assert guest_of(servers, within=1) is None
        assert silent is not None
        silent.close()
        with pytest.raises(Interrupted):
            look.result()


@contextmanager
def listening_at(hosts: Sequence[str]) -> Iterator[list[socket.socket]]:
    """Listen at these addresses, at one port."""
    with ExitStack() as servers:
        first = servers.enter_context(socket.create_server((hosts[0], 0)))
        port = first.getsockname()[1]
        rest = [servers.enter_context(socket.create_server((host, port))) for host in hosts[1:]]
        yield [first, *rest]


def guest_of(servers: Sequence[socket.socket], within: float) -> socket.socket | None:
    """Return the next connection to any of them, if there is one within so many seconds."""
    ready, _, _ = select.select(servers, [], [], within)
    return ready[0].accept()[0] if ready else None


WITHOUT_FILES = """
import os, resource, sys
from certferry.adapters.probe.tls import served_chain
from certferry.adapters.probe.tls import NoHandshake

free = os.open(os.devnull, os.O_RDONLY)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
try:
    served_chain(sys.argv[1], int(sys.argv[2]), "img.example.com")
except NoHandshake as failure:
    print("silent:", failure.silent)
"""


def test_address_that_could_not_be_asked_is_not_taken_for_silent() -> None:
    """Where nothing more can be opened, that is our trouble: what the address serves is unknown,
    and must not be left out of the account.
    """
    with socket.create_server(("127.0.57.1", 0)) as server:
        address, port = server.getsockname()
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_FILES, address, str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    assert "silent: False\n" == done.stdout


def test_missing_name_is_reported(edges: Edges) -> None:
    """A domain that does not exist, or has no address, is one entry that says so."""
    edges.zones.seed("empty.example.com", "TXT", "no address here")

    (missing,) = edges.look("nowhere.example.com")
    (empty,) = edges.look("empty.example.com")

    assert "does not exist" in str(missing.problem)
    assert "no address" in str(empty.problem)
    assert not missing.answered
    assert not empty.answered


def test_silent_resolver_is_named(edges: Edges) -> None:
    """A resolver that does not answer is named; another one that does is enough."""
    fingerprint = edges.serve(DOMAIN)
    ours = (edges.dns.resolver.address, edges.dns.port)
    closed = ("127.0.0.9", edges.dns.port)

    seen = edges.look(DOMAIN, ours, closed)

    assert is_served(seen, fingerprint)
    assert "127.0.0.9" in str([address.problem for address in seen])
    (alone,) = edges.look(DOMAIN, closed)
    assert "does not answer" in str(alone.problem)


def test_unreadable_bundle_is_a_matter_of_configuration(tmp_path: Path) -> None:
    """A wrong `ca_bundle` is reported before anything is looked at."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    for bundle in (nonsense, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError) as caught:
            Trust(bundle)

        assert str(bundle) in str(caught.value)


def test_system_trust_is_the_default() -> None:
    """Without a bundle the system's roots are trusted, and a private CA is not."""
    authority = Authority("Private CA")
    issued = authority.issue([DOMAIN], now() - timedelta(days=1), now() + timedelta(days=60))

    assert Trust().problem([issued.leaf, authority.intermediate], DOMAIN, now()) is not None


# --- Resolvers that lie or keep silent, and domains that lead elsewhere: at real name servers


NS = "ns1.example.com"
ADDRESSES = ("127.0.55.1", "127.0.55.9")
ASKED, CNAME = "img.example.com", "img.example.com.cdn.test"
ANSWER_WITHIN, IMPATIENT = timedelta(seconds=5), timedelta(seconds=0.4)


@dataclass
class World:
    """A zone, the CDN's zone, and a resolver that knows both."""

    zones: Zones
    dns: DnsService

    @property
    def resolver(self) -> Resolver:
        """The resolver, and its switches."""
        return self.dns.resolver

    def look(self, *more: str, at_home: bool = False, patient: bool = True) -> ResolverCheck:
        """Observe through it, and through what else is named."""
        places = [(address, self.dns.port) for address in (ADDRESSES[1], *more)]
        within = ANSWER_WITHIN if patient else IMPATIENT
        return ResolverCheck(places, within, at_home=at_home)

    def domain(self, *, at_home: bool = False) -> list[tuple[Code | str, Severity]]:
        found = self.look(at_home=at_home).domains({ASKED: CNAME})
        assert all(finding.subject == ASKED for finding in found)
        return [(finding.code, finding.severity) for finding in found]


@pytest.fixture
def world() -> Iterator[World]:
    zones = Zones()
    zones.add_zone("example.com", [NS])
    zones.add_zone("cdn.test", [NS])
    zones.seed(CNAME, "A", "192.0.2.7")
    server = NameServer(zones, NS, ADDRESSES[0])
    with DnsService(zones, [server], Resolver(zones, [server], ADDRESSES[1])) as dns:
        yield World(zones, dns)


# --- honesty


def test_resolver_that_says_what_is_true(world: World) -> None:
    """A name that does not exist has no address."""
    assert [] == world.look().honesty()


def test_resolver_that_makes_up_an_answer(world: World) -> None:
    """It is named with the address that it gives."""
    world.resolver.invented = "192.0.2.66"

    [finding] = world.look().honesty()

    assert (Code.RESOLVER_INVENTS, Severity.ERROR) == (finding.code, finding.severity)
    assert ADDRESSES[1] == finding.subject
    assert "192.0.2.66" in str(finding.message)


def test_resolver_that_is_silent(world: World) -> None:
    """An error where it is the only one; where another answers, a warning."""
    world.dns.servers[0].down()
    [beside] = world.look(ADDRESSES[0], patient=False).honesty()
    assert (Code.RESOLVER_SILENT, Severity.WARNING) == (beside.code, beside.severity)
    assert ADDRESSES[0] == beside.subject

    world.resolver.down()
    [alone] = world.look(patient=False).honesty()
    assert (Code.RESOLVER_SILENT, Severity.ERROR) == (alone.code, alone.severity)


# --- domains


def test_domain_that_leads_to_the_target(world: World) -> None:
    """Also by way of another name of the operator's."""
    world.zones.seed(ASKED, "CNAME", "mine.example.com.")
    world.zones.seed("mine.example.com", "CNAME", f"{CNAME}.")

    assert [] == world.domain()


def test_wildcard_domain_is_looked_at_below(world: World) -> None:
    """Under a label of ours."""
    world.zones.seed("*.w.example.com", "CNAME", f"{CNAME}.")

    assert [] == world.look().domains({"*.w.example.com": CNAME})


def test_domain_that_does_not_exist(world: World) -> None:
    """It is served by none: an error, with the CNAME to set."""
    [finding] = world.look().domains({ASKED: CNAME})

    assert (Code.NOT_POINTED, Severity.ERROR) == (finding.code, finding.severity)
    assert f"set a CNAME of {ASKED} to {CNAME}" in str(finding.hint)


def test_domain_that_leads_elsewhere(world: World) -> None:
    """It may lead to the target from other places, so it is a warning."""
    world.zones.seed(ASKED, "A", "192.0.2.80")

    assert [(Code.POINTED_ELSEWHERE, Severity.WARNING)] == world.domain()


def test_alias_that_leads_elsewhere_is_named(world: World) -> None:
    """Its end tells more than an address."""
    world.zones.seed(ASKED, "CNAME", "other.example.com.")
    world.zones.seed("other.example.com", "A", "192.0.2.80")

    [finding] = world.look().domains({ASKED: CNAME})

    assert f"{ASKED} resolves to other.example.com instead of {CNAME}" in str(finding.message)


def test_addresses_of_the_target_in_the_place_of_a_cname(world: World) -> None:
    """Providers write them there for an apex, where a CNAME may not stand."""
    world.zones.seed(ASKED, "A", "192.0.2.7")

    assert [] == world.domain()


@pytest.mark.parametrize("address", ["198.18.0.5", "0.0.0.0", "127.0.0.2"])  # noqa: S104 - what filters answer with
def test_address_that_is_made_up(world: World, address: str) -> None:
    """A proxy on the host answers so, or a filter, whatever the CNAME is."""
    world.zones.seed(ASKED, "CNAME", "fake.example.com.")
    world.zones.seed("fake.example.com", "A", address)

    assert [(Code.ADDRESS_MADE_UP, Severity.ERROR)] == world.domain()


def test_loopback_is_true_in_a_world_on_loopback(world: World) -> None:
    """As in the sandbox."""
    world.zones.seed(ASKED, "A", "127.0.0.2")

    assert [(Code.POINTED_ELSEWHERE, Severity.WARNING)] == world.domain(at_home=True)


def test_record_of_another_class_is_no_address() -> None:
    """Its fields are others (RFC 1035 §3.4.1 is of the Internet alone)."""

    def handle(wire: bytes, _: Transport) -> Reply:
        response = dns.message.make_response(dns.message.from_wire(wire))
        response.answer += dns.message.from_text(
            f"id 1\n;ANSWER\n{ASKED}. 60 CLASS77 A \\# 4 00000000\n{ASKED}. 60 IN A 192.0.2.7\n"
        ).answer
        return Reply(response.to_wire())

    daemon = DnsDaemon({ADDRESSES[1]: handle})
    daemon.start()
    try:
        look = ResolverCheck([(ADDRESSES[1], daemon.port)], ANSWER_WITHIN)

        assert [] == look.domains({ASKED: CNAME})
    finally:
        daemon.stop()


def test_silence_says_nothing_of_a_domain(world: World) -> None:
    """The resolver is reported by itself."""
    world.resolver.down()

    assert [] == world.look(patient=False).domains({ASKED: CNAME})
