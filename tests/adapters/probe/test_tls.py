"""Handshakes with edges, and the name resolution before the handshakes."""

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

# --- Checks of edges, with real name servers and real handshakes


DOMAIN = "img.example.com"
NAMESERVER = "ns1.example.com"


def now() -> datetime:
    """Return the real time, because the certificates are made for the real time."""
    return datetime.now(UTC)


class Edges:
    """A CDN with two edges, a zone that points at the edges, and a CA."""

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
        suffix = domain.removeprefix("*")
        self.qiniu.add_domain(suffix, https=self.qiniu.add_certificate(issued, domain))
        self.point(domain)
        return issued.fingerprint

    def point(self, domain: str) -> None:
        for address in self.qiniu.edges.addresses:
            self.zones.seed(domain, "A", address)

    def probe(self, *resolvers: tuple[str, int], port: int | None = None) -> TlsProbe:
        """Observe through the zone's resolver, or through the given resolvers."""
        usual = (self.dns.resolver.address, self.dns.port)
        return TlsProbe(
            resolvers or (usual,),
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
    """Two edges without a certificate."""
    zones = Zones()
    servers = [NameServer(zones, NAMESERVER, "127.0.0.2")]
    zones.add_zone("example.com", [NAMESERVER])
    resolver = Resolver(zones, servers, "127.0.0.1")
    with QiniuService() as qiniu, DnsService(zones, servers, resolver) as dns:
        qiniu.add_account("ak", "sk")
        yield Edges(qiniu, dns, zones, tmp_path)


def test_every_address_is_checked_once(edges: Edges) -> None:
    """Each address of the domain gives its fingerprint, its validity and its end."""
    fingerprint = edges.serve(DOMAIN)

    served = edges.look(DOMAIN)

    assert sorted(edges.qiniu.edges.addresses) == sorted(address.address for address in served)
    assert is_served(served, fingerprint)
    assert all(address.problem is None for address in served)
    assert all(address.not_after is not None for address in served)


def test_wildcard_domain_is_checked_under_a_label(edges: Edges) -> None:
    """A single label stands for every label of a wildcard domain."""
    fingerprint = edges.serve("*.cdn.example.com")
    edges.point("certferry-probe.cdn.example.com")

    assert is_served(edges.look("*.cdn.example.com"), fingerprint)


def test_silent_edge_is_reported_and_ignored(edges: Edges) -> None:
    """A silent address is reported; the answering addresses decide."""
    fingerprint = edges.serve(DOMAIN)
    edges.qiniu.edges[0].down = True

    served = edges.look(DOMAIN)

    silent = [address for address in served if not address.answered]
    assert [edges.qiniu.edges[0].address] == [address.address for address in silent]
    assert silent[0].problem is not None
    assert is_served(served, fingerprint)


def test_alert_for_an_unknown_name_counts_as_an_answer(edges: Edges) -> None:
    """A visitor gets an error from an edge with an alert, so the domain counts as unserved."""
    edges.point("other.example.com")

    served = edges.look("other.example.com")

    assert 2 == len(served)
    assert all(address.answered for address in served)
    assert not any(address.fingerprint for address in served)
    assert "handshake" in str(served[0].problem)


def test_certificate_for_another_name_is_invalid(edges: Edges) -> None:
    """The name is judged as in a client, and the fingerprint is still reported."""
    fingerprint = edges.serve(DOMAIN, "other.example.com")

    served = edges.look(DOMAIN)

    assert {fingerprint} == {address.fingerprint for address in served}
    assert not any(address.valid for address in served)
    assert not is_served(served, fingerprint)


def test_expired_certificate_is_invalid(edges: Edges) -> None:
    """The fingerprint of an expired certificate is still reported."""
    fingerprint = edges.serve(DOMAIN, days=-1)

    served = edges.look(DOMAIN)

    assert {fingerprint} == {address.fingerprint for address in served}
    assert not any(address.valid for address in served)


def test_leaf_without_its_issuer_is_invalid(edges: Edges) -> None:
    """A chain that clients cannot complete is a fault even with the right leaf."""
    fingerprint = edges.serve(DOMAIN)
    for edge in edges.qiniu.edges:
        edge.wrong_chain = True

    served = edges.look(DOMAIN)

    assert {fingerprint} == {address.fingerprint for address in served}
    assert not is_served(served, fingerprint)


def test_untrusted_root_is_invalid(edges: Edges) -> None:
    """Only the configured roots are trusted."""
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
def test_unreadable_certificate_is_a_problem_of_its_address(
    edges: Edges, tmp_path: Path, edit: Edit
) -> None:
    """Other addresses are judged as usual, and the entry has the fingerprint of the certificate."""
    fingerprint = edges.serve(DOMAIN)
    odd = "127.0.59.1"
    edges.zones.seed(DOMAIN, "A", odd)

    with odd_edge(odd, edges.qiniu.edges.port, DOMAIN, edit, tmp_path) as der:
        served = {address.address: address for address in edges.look(DOMAIN)}

    entry = served.pop(odd)
    assert hashlib.sha256(der).hexdigest() == entry.fingerprint
    assert entry.answered
    assert not entry.valid
    assert entry.problem is not None
    assert is_served(tuple(served.values()), fingerprint)


def test_domains_are_checked_concurrently(edges: Edges) -> None:
    """The server answers after the last domain has connected, and no domain times out."""
    domains = [f"n{number}.example.com" for number in range(DOMAINS_AT_ONCE)]
    meeting = "127.0.57.1"
    for domain in domains:
        edges.zones.seed(domain, "A", meeting)
    with socket.create_server((meeting, 0)) as server, ThreadPoolExecutor(1) as host:
        server.settimeout(20)
        accepted = host.submit(accept_and_close_together, server, len(domains))
        served = edges.probe(port=server.getsockname()[1]).served(domains)
        accepted.result()

    assert domains == list(served)
    problems = [str(address.problem) for addresses in served.values() for address in addresses]
    assert DOMAINS_AT_ONCE == len(problems)
    assert not any("no answer within" in problem for problem in problems)


def accept_and_close_together(server: socket.socket, count: int) -> None:
    with ExitStack() as connections:
        for _ in range(count):
            connections.enter_context(server.accept()[0])


def test_stopped_run_checks_no_further_domain(edges: Edges) -> None:
    """The run ends without waiting for the remaining domains."""

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
def test_stopped_run_begins_no_further_check(
    edges: Edges, domains: int, addresses: int, at_once: int
) -> None:
    """A thread reports the stop only once. The report for one domain or address must also prevent
    the next check, as long as another check is still silent.
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
        silent, *answering = [next_connection(servers, within=20) for _ in range(at_once)]
        stopping.stop()
        for connection in answering:
            assert connection is not None
            connection.close()
        assert reported.acquire(timeout=20)
        assert next_connection(servers, within=1) is None
        assert silent is not None
        silent.close()
        with pytest.raises(Interrupted):
            look.result()


@contextmanager
def listening_at(hosts: Sequence[str]) -> Iterator[list[socket.socket]]:
    """Listen at several addresses, at the same port."""
    with ExitStack() as servers:
        first = servers.enter_context(socket.create_server((hosts[0], 0)))
        port = first.getsockname()[1]
        others = [servers.enter_context(socket.create_server((host, port))) for host in hosts[1:]]
        yield [first, *others]


def next_connection(servers: Sequence[socket.socket], within: float) -> socket.socket | None:
    """Return the next connection to any of the servers, or `None` after the given seconds."""
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


def test_lack_of_file_descriptors_is_not_silence() -> None:
    """The fault is this host's, and the address stays unjudged."""
    with socket.create_server(("127.0.57.1", 0)) as server:
        address, port = server.getsockname()
        ended = subprocess.run(
            [sys.executable, "-c", WITHOUT_FILES, address, str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    assert "silent: False\n" == ended.stdout


def test_missing_name_is_reported(edges: Edges) -> None:
    """A domain that does not exist or has no address gives a single entry with the problem."""
    edges.zones.seed("empty.example.com", "TXT", "no address here")

    (missing,) = edges.look("nowhere.example.com")
    (empty,) = edges.look("empty.example.com")

    assert "does not exist" in str(missing.problem)
    assert "no address" in str(empty.problem)
    assert not missing.answered
    assert not empty.answered


def test_silent_resolver_is_named(edges: Edges) -> None:
    """A silent resolver is named; another resolver's answer is enough."""
    fingerprint = edges.serve(DOMAIN)
    usual = (edges.dns.resolver.address, edges.dns.port)
    closed = ("127.0.0.9", edges.dns.port)

    served = edges.look(DOMAIN, usual, closed)

    assert is_served(served, fingerprint)
    assert "127.0.0.9" in str([address.problem for address in served])
    (alone,) = edges.look(DOMAIN, closed)
    assert "does not answer" in str(alone.problem)


def test_unreadable_bundle_is_a_configuration_error(tmp_path: Path) -> None:
    """A wrong `ca_bundle` is reported before the first check."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    for bundle in (nonsense, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError) as caught:
            Trust(bundle)

        assert str(bundle) in str(caught.value)


def test_system_trust_is_the_default() -> None:
    """Without a bundle the system's roots are trusted, and a private CA is untrusted."""
    authority = Authority("Private CA")
    issued = authority.issue([DOMAIN], now() - timedelta(days=1), now() + timedelta(days=60))

    assert Trust().problem([issued.leaf, authority.intermediate], DOMAIN, now()) is not None


# --- False and silent resolvers, and domains that point elsewhere, at real name servers


NS = "ns1.example.com"
ADDRESSES = ("127.0.55.1", "127.0.55.9")
HOST, CNAME = "img.example.com", "img.example.com.cdn.test"
ANSWER_WITHIN, SHORT = timedelta(seconds=5), timedelta(seconds=0.4)


@dataclass
class World:
    """A zone, the CDN's zone, and a resolver for both."""

    zones: Zones
    dns: DnsService

    @property
    def resolver(self) -> Resolver:
        """Return the resolver, whose faults a test can set."""
        return self.dns.resolver

    def look(self, *more: str, at_home: bool = False, patient: bool = True) -> ResolverCheck:
        """Observe through the usual resolver, and through further resolvers."""
        places = [(address, self.dns.port) for address in (ADDRESSES[1], *more)]
        within = ANSWER_WITHIN if patient else SHORT
        return ResolverCheck(places, within, at_home=at_home)

    def domain(self, *, at_home: bool = False) -> list[tuple[Code | str, Severity]]:
        findings = self.look(at_home=at_home).domains({HOST: CNAME})
        assert all(finding.subject == HOST for finding in findings)
        return [(finding.code, finding.severity) for finding in findings]


@pytest.fixture
def world() -> Iterator[World]:
    zones = Zones()
    zones.add_zone("example.com", [NS])
    zones.add_zone("cdn.test", [NS])
    zones.seed(CNAME, "A", "192.0.2.7")
    server = NameServer(zones, NS, ADDRESSES[0])
    with DnsService(zones, [server], Resolver(zones, [server], ADDRESSES[1])) as dns:
        yield World(zones, dns)


# --- Honesty


def test_honest_resolver(world: World) -> None:
    """An unknown name has no address."""
    assert [] == world.look().honesty()


def test_resolver_that_invents_an_answer(world: World) -> None:
    """The finding names the resolver and the invented address."""
    world.resolver.invented = "192.0.2.66"

    [finding] = world.look().honesty()

    assert (Code.RESOLVER_INVENTS, Severity.ERROR) == (finding.code, finding.severity)
    assert ADDRESSES[1] == finding.subject
    assert "192.0.2.66" in str(finding.message)


def test_silent_resolver(world: World) -> None:
    """A silent resolver is an error alone, and a warning beside an answering resolver."""
    world.dns.servers[0].down()
    [beside] = world.look(ADDRESSES[0], patient=False).honesty()
    assert (Code.RESOLVER_SILENT, Severity.WARNING) == (beside.code, beside.severity)
    assert ADDRESSES[0] == beside.subject

    world.resolver.down()
    [alone] = world.look(patient=False).honesty()
    assert (Code.RESOLVER_SILENT, Severity.ERROR) == (alone.code, alone.severity)


# --- Domains


def test_domain_that_points_at_the_target(world: World) -> None:
    """The path may pass through another name of the operator's."""
    world.zones.seed(HOST, "CNAME", "mine.example.com.")
    world.zones.seed("mine.example.com", "CNAME", f"{CNAME}.")

    assert [] == world.domain()


def test_wildcard_domain_is_resolved_below(world: World) -> None:
    """The check uses a label of certferry's."""
    world.zones.seed("*.w.example.com", "CNAME", f"{CNAME}.")

    assert [] == world.look().domains({"*.w.example.com": CNAME})


def test_unknown_domain(world: World) -> None:
    """An unknown domain is an error, with the CNAME to set."""
    [finding] = world.look().domains({HOST: CNAME})

    assert (Code.NOT_POINTED, Severity.ERROR) == (finding.code, finding.severity)
    assert f"set a CNAME of {HOST} to {CNAME}" in str(finding.hint)


def test_domain_that_points_elsewhere(world: World) -> None:
    """Elsewhere in the world the domain may point at the target, so the finding is a warning."""
    world.zones.seed(HOST, "A", "192.0.2.80")

    assert [(Code.POINTED_ELSEWHERE, Severity.WARNING)] == world.domain()


def test_end_of_an_alias_that_points_elsewhere_is_named(world: World) -> None:
    """The end of an alias tells more than an address."""
    world.zones.seed(HOST, "CNAME", "other.example.com.")
    world.zones.seed("other.example.com", "A", "192.0.2.80")

    [finding] = world.look().domains({HOST: CNAME})

    assert f"{HOST} resolves to other.example.com instead of {CNAME}" in str(finding.message)


def test_addresses_of_the_target_instead_of_a_cname(world: World) -> None:
    """Providers write the addresses at an apex, where a CNAME is forbidden."""
    world.zones.seed(HOST, "A", "192.0.2.7")

    assert [] == world.domain()


@pytest.mark.parametrize("address", ["198.18.0.5", "0.0.0.0", "127.0.0.2"])  # noqa: S104 - answers of filters
def test_invented_address(world: World, address: str) -> None:
    """A proxy on the host or a filter answers with the address, whatever the CNAME is."""
    world.zones.seed(HOST, "CNAME", "fake.example.com.")
    world.zones.seed("fake.example.com", "A", address)

    assert [(Code.ADDRESS_MADE_UP, Severity.ERROR)] == world.domain()


def test_loopback_is_a_real_address_in_the_sandbox(world: World) -> None:
    """The sandbox serves everything on loopback."""
    world.zones.seed(HOST, "A", "127.0.0.2")

    assert [(Code.POINTED_ELSEWHERE, Severity.WARNING)] == world.domain(at_home=True)


def test_record_of_another_class_is_no_address() -> None:
    """Records of another class have other fields (RFC 1035 §3.4.1 describes the Internet class)."""

    def handle(wire: bytes, _: Transport) -> Reply:
        response = dns.message.make_response(dns.message.from_wire(wire))
        response.answer += dns.message.from_text(
            f"id 1\n;ANSWER\n{HOST}. 60 CLASS77 A \\# 4 00000000\n{HOST}. 60 IN A 192.0.2.7\n"
        ).answer
        return Reply(response.to_wire())

    daemon = DnsDaemon({ADDRESSES[1]: handle})
    daemon.start()
    try:
        look = ResolverCheck([(ADDRESSES[1], daemon.port)], ANSWER_WITHIN)

        assert [] == look.domains({HOST: CNAME})
    finally:
        daemon.stop()


def test_silent_resolver_leaves_the_domain_unjudged(world: World) -> None:
    """The resolver's silence is a finding of its own."""
    world.resolver.down()

    assert [] == world.look(patient=False).domains({HOST: CNAME})
