"""Answers of resolvers, and the network path of requests to a CA."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest
import trustme

from certferry.adapters.acme.account import AcmeCaAccount
from certferry.adapters.acme.acme_client import read_directory
from certferry.adapters.acme.propagation import DnsPropagation
from certferry.adapters.acme.resolvers import Resolvers, at_urls, system_resolvers
from certferry.adapters.probe.tls import TlsProbe
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.observed.observation import Served
from certferry.errors import CaUnavailable, ConfigError, DnsUnavailable, ZoneNotFound
from certferry_sandbox.nameserver.daemon import DnsDaemon, HttpsDns, Reply, Transport
from certferry_sandbox.nameserver.service import NameServer, Resolver
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.name_servers import (
    ANSWER_WITHIN,
    SHORT_WAIT,
    OddServer,
    name_servers,
    odd_servers,
)
from tests.adapters.http.peers import peer, tunnel
from tests.adapters.probe.edge import serving
from tests.adapters.probe.test_problems import must_have

# --- Resolvers, including silent resolvers and unusual answers


SOA = "ns.example.com. hostmaster.example.com. 1 2 3 4 5"


def code(rcode: dns.rcode.Rcode) -> Callable[..., bytes]:
    """Answer with a response code and an empty message."""

    def act(response: Any, transport: object) -> bytes:
        response.set_rcode(rcode)
        return bytes(response.to_wire())

    return act


def ask(server: OddServer, question: Callable[[Resolvers], object]) -> object:
    """Send a query to a server as the only resolver."""
    with odd_servers(server) as port:
        return question(Resolvers([(server.address, port)], ANSWER_WITHIN))


def test_next_resolver_replaces_a_silent_resolver() -> None:
    """The silent resolver gets a single query."""
    dead = OddServer({("example.com", "CNAME"): lambda _, __: None}, "127.0.53.7")
    server = OddServer(
        {("example.com", "CNAME"): [("answer", "example.com.", 5, "IN", "CNAME", "b.")]}
    )

    with odd_servers(dead, server) as port:
        resolvers = Resolvers([(dead.address, port), (server.address, port)], SHORT_WAIT)
        assert "b" == resolvers.alias("example.com")

    assert 1 == len(dead.queries)


def test_each_resolver_is_named_with_its_problem() -> None:
    """The operator can find the resolver with the problem."""
    dead = OddServer({("example.com", "CNAME"): lambda _, __: None})
    failing = OddServer({("example.com", "CNAME"): code(dns.rcode.SERVFAIL)}, "127.0.53.7")

    with odd_servers(dead, failing) as port:
        resolvers = Resolvers([(failing.address, port), (dead.address, port)], SHORT_WAIT)
        with pytest.raises(DnsUnavailable) as trouble:
            resolvers.alias("example.com")

    assert (
        "no resolver answered the query for example.com: "
        f"127.0.53.7:{port} (SERVFAIL), 127.0.53.8:{port} (no answer)"
    ) == str(trouble.value)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (code(dns.rcode.SERVFAIL), "SERVFAIL"),
        (code(dns.rcode.REFUSED), "REFUSED"),
        (code(dns.rcode.YXDOMAIN), "YXDOMAIN"),
    ],
)
def test_failed_lookup_differs_from_silence(act: Callable[..., bytes], why: str) -> None:
    """The domain's delegation may be at fault, as the hint explains."""
    with pytest.raises(DnsUnavailable, match=f"could look up example.com: .*{why}") as refused:
        ask(OddServer({("example.com", "CNAME"): act}), lambda r: r.alias("example.com"))

    assert "delegation" in str(refused.value.hint)
    assert "[dns].resolvers" in str(refused.value.hint)


def test_unreachable_resolver_is_reported() -> None:
    """The error quotes the system, for example in a network that is down."""
    resolvers = Resolvers([("255.255.255.255", 53)], ANSWER_WITHIN)

    with pytest.raises(DnsUnavailable, match=r"255\.255\.255\.255 \(Permission denied\)"):
        resolvers.alias("example.com")


def test_truncated_answer_over_tcp_is_reported() -> None:
    """Half a message over TCP makes the resolver unusable."""

    def act(response: Any, transport: Any) -> bytes:
        if transport.value == "tcp":
            return b"\x00" * 5
        response.flags |= dns.flags.TC
        return bytes(response.to_wire())

    with pytest.raises(DnsUnavailable, match="an unreadable answer"):
        ask(OddServer({("example.com", "CNAME"): act}), lambda r: r.alias("example.com"))


def test_zone_without_an_soa_in_the_authority_section() -> None:
    """Some resolvers omit the zone's SOA in negative answers; the zone itself has the SOA."""
    server = OddServer({("example.com", "SOA"): [("answer", "example.com.", 5, "IN", "SOA", SOA)]})

    assert "example.com" == ask(server, lambda r: r.zone_of("a.b.example.com"))


def test_zone_of_an_aliased_name() -> None:
    """The SOA of the alias's target belongs to another zone."""
    server = OddServer(
        {
            ("a.example.com", "SOA"): [
                ("answer", "a.example.com.", 5, "IN", "CNAME", "edge.example.net."),
                ("authority", "example.net.", 5, "IN", "SOA", SOA),
            ],
            ("example.com", "SOA"): [("answer", "example.com.", 5, "IN", "SOA", SOA)],
        }
    )

    assert "example.com" == ask(server, lambda r: r.zone_of("a.example.com"))


@pytest.mark.parametrize(
    "script", [{}, {("com", "SOA"): [("answer", "com.", 5, "IN", "SOA", SOA)]}]
)
def test_registrys_zone_is_not_the_zone_of_the_domain(script: dict[tuple[str, str], Any]) -> None:
    """The domain is unregistered or undelegated."""
    with pytest.raises(ZoneNotFound, match=r"holds a\.example\.com"):
        ask(OddServer(script), lambda r: r.zone_of("a.example.com"))


def test_zone_without_name_servers_is_undelegated() -> None:
    """No name server could answer for the zone."""
    with pytest.raises(ZoneNotFound, match=r"holds example\.com"):
        ask(OddServer({}), lambda r: r.name_servers("example.com"))


def test_addresses_of_one_family_are_enough() -> None:
    """Broken servers fail for AAAA, and the A records remain usable."""
    server = OddServer(
        {
            ("ns.example.com", "A"): [("answer", "ns.example.com.", 5, "IN", "A", "127.0.53.1")],
            ("ns.example.com", "AAAA"): code(dns.rcode.SERVFAIL),
            ("ns2.example.com", "AAAA"): [("answer", "ns2.example.com.", 5, "IN", "AAAA", "::1")],
        }
    )

    assert ("127.0.53.1",) == ask(server, lambda r: r.addresses("ns.example.com"))
    assert ("::1",) == ask(server, lambda r: r.addresses("ns2.example.com"))


def test_resolver_must_be_an_address() -> None:
    """The lookup of a host name would need a resolver."""
    with pytest.raises(ConfigError, match=r"'dns\.example\.com' is not an IP address") as wrong:
        Resolvers([("dns.example.com", 53)], ANSWER_WITHIN)

    assert "[dns].resolvers" in str(wrong.value.hint)


def test_systems_resolvers_are_read_from_resolv_conf(tmp_path: Path) -> None:
    """The resolvers use the usual port."""
    file = tmp_path / "resolv.conf"
    file.write_text("search example.com\nnameserver 127.0.53.9\nnameserver ::1\n")

    assert [("127.0.53.9", 53), ("::1", 53)] == system_resolvers(str(file))


@pytest.mark.parametrize("content", [None, "", "search example.com\n"])
def test_system_without_a_resolver_is_reported(tmp_path: Path, content: str | None) -> None:
    """A minimal container may lack resolvers."""
    file = tmp_path / "resolv.conf"
    if content is not None:
        file.write_text(content)

    with pytest.raises(DnsUnavailable, match="no DNS resolver") as nothing:
        system_resolvers(str(file))

    assert "[dns].resolvers" in str(nothing.value.hint)


def test_names_have_a_uniform_form() -> None:
    """Names come back in lower case and without a final dot, whatever form the zone has."""
    with name_servers() as world:
        world.zones.seed("shout.example.com", "CNAME", "EDGE.Example.NET.")
        resolvers = Resolvers([(world.resolver.address, world.port)], ANSWER_WITHIN)

        assert "edge.example.net" == resolvers.alias("Shout.Example.COM.")
        assert ("ns1.dns.test", "ns2.dns.test") == resolvers.name_servers("example.com")
        assert "example.com" == resolvers.zone_of("a.b.Example.com")


# --- Network paths to a directory: proxies and IPv6


NOWHERE = "http://127.0.0.1:9"
V6 = "::1"
ZONE, HOST = "six.test", "ns1.six.test"


@contextmanager
def counting_proxy() -> Iterator[tuple[str, list[str]]]:
    """Run a proxy; yield its URL and the requested destinations."""
    destinations: list[str] = []

    def counted(connection: socket.socket) -> None:
        destinations.extend(connection.recv(2**12, socket.MSG_PEEK).decode().split()[1:2])
        tunnel(connection)

    with peer(counted) as host:
        yield f"http://{host}", destinations


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"])
def test_directory_with_its_own_proxy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """All requests to the CA go through the proxy, whatever the environment says."""
    monkeypatch.setenv(variable, "127.0.0.1" if variable == "NO_PROXY" else NOWHERE)
    pause, now = bench.clock.pause, bench.clock.now
    with counting_proxy() as (proxy, destinations):
        issued = bench.issue(issuer=bench.issuer(proxy=proxy))
        count = len(destinations)
        settings = bench.settings(proxy=proxy)
        assert AcmeCaAccount(settings, bench.state, pause, now).facts() is not None
        assert read_directory(settings, pause, now).ahead is not None

    assert issued.key_matches
    host = bench.proxy.url.removeprefix("https://")
    assert {host} == set(destinations)
    assert count + 2 == len(destinations)


def test_unreachable_proxy_of_a_directory(bench: Bench) -> None:
    """The hint names the setting."""
    with pytest.raises(CaUnavailable) as failure:
        bench.issue(issuer=bench.issuer(proxy=NOWHERE))

    assert "`proxy` under [acme]" in str(failure.value.hint)
    assert [] == bench.proxy.requests()


class CombinedServer:
    """A name server and a resolver at the same address, selected by the query's recursion flag."""

    def __init__(self, zones: Zones) -> None:
        self.server = NameServer(zones, HOST, V6)
        self.resolver = Resolver(zones, [self.server], V6)

    def handle(self, wire: bytes, transport: Transport) -> Reply | None:
        recursive = dns.message.from_wire(wire).flags & dns.flags.RD
        return (self.resolver if recursive else self.server).handle(wire, transport)


@contextmanager
def only_v6(zones: Zones) -> Iterator[tuple[CombinedServer, int]]:
    """Serve a zone at an IPv6 address only; yield the server and its port."""
    zones.add_zone(ZONE, [HOST])
    for name in (HOST, ZONE):
        zones.seed(name, "AAAA", V6)
    server = CombinedServer(zones)
    daemon = DnsDaemon({V6: server.handle}).start()
    try:
        yield server, daemon.port
    finally:
        daemon.stop()


def test_host_with_ipv6_only(pebble: Pebble, zones: Zones, tmp_path: Path) -> None:
    """CA, name servers, resolvers and edges are reached at their IPv6 addresses."""
    must_have(V6)
    bench = Bench(pebble, zones, tmp_path, V6)
    with only_v6(zones) as (_, port), bench.proxy:
        bench.looks = DnsPropagation(
            resolvers=[(V6, port)],
            port=port,
            timeout=timedelta(seconds=30),
            pause=bench.clock.pause,
            now=bench.clock.now,
            answer_within=ANSWER_WITHIN,
        )
        issued = bench.issue(ZONE)
        served = served_at_ipv6(issued, [(V6, port)], pebble, tmp_path)

    assert bench.proxy.requests("POST /finalize-order/*")
    assert (V6, issued.certificate.fingerprint, True) == (
        served.address,
        served.fingerprint,
        served.valid,
    )


def served_at_ipv6(
    issued: CertificateBundle, resolvers: list[tuple[str, int]], pebble: Pebble, folder: Path
) -> Served:
    """Serve a certificate at the IPv6 address, and return the probe's result."""
    (folder / "roots.pem").write_bytes(pebble.root_pem())
    pem = issued.fullchain_pem + issued.privkey_pem.reveal()
    with serving(pem, folder, V6) as (_, port):
        probe = TlsProbe(
            resolvers,
            lambda: datetime.now(UTC),
            pause=lambda _: None,
            port=port,
            ca_bundle=folder / "roots.pem",
            answer_within=ANSWER_WITHIN,
        )
        [served] = probe.served([ZONE])[ZONE]
    return served


def test_resolver_over_https_at_an_ipv6_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver's certificate may be for an IP address."""
    must_have(V6)
    trust, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trust.issue_cert(V6).configure_cert(context)
    trust.cert_pem.write_to_path(tmp_path / "doh.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "doh.pem"))
    with only_v6(Zones()) as (server, _), HttpsDns(server.handle, context, host=V6) as doh:
        over_https = at_urls((doh.question_url,), ANSWER_WITHIN, lambda _: None)
        addresses = Resolvers((), ANSWER_WITHIN, over_https, plain=False).addresses(HOST)

    assert (V6,) == addresses
