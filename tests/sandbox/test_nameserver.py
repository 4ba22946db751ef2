"""The name servers and the resolver of the sandbox, over real sockets."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest
import requests
import trustme

from certferry_sandbox.nameserver.daemon import MESSAGE, HttpsDns, Reply, Transport
from certferry_sandbox.nameserver.service import DnsServer, DnsService, NameServer, Query, Resolver
from certferry_sandbox.zones import Zones
from tests.support.manual_clock import ManualClock

# --- Questions to name servers, and the contents of answers


CHALLENGE = "_acme-challenge.example.com"
BOTH = ("ns1.dns.test", "ns2.dns.test")
PATIENCE = 5.0
Ask = Callable[..., dns.message.Message]


def answers_of(message: dns.message.Message) -> list[str]:
    """Return the answer section, as text without TTLs."""
    return sorted(
        f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} {rdata}"
        for rrset in message.answer
        for rdata in rrset
    )


def authority(message: dns.message.Message) -> list[str]:
    """Return the authority section, as owner and type."""
    return [f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)}" for rrset in message.authority]


def is_authoritative(message: dns.message.Message) -> bool:
    return bool(message.flags & dns.flags.AA)


# --- Fixtures


@pytest.fixture
def zones(clock: ManualClock) -> Zones:
    """Return a DNS provider's zone, a delegated zone, a sub-zone and a CDN's zone."""
    store = Zones(clock)
    store.add_zone("example.com", BOTH)
    store.add_zone("dev.example.com", BOTH)
    store.add_zone("lab.example.com", ["ns3.dns.test"])
    store.add_zone("qiniudns.com", ["ns3.dns.test"], negative_ttl=60)
    store.seed("img.example.com", "CNAME", "img.example.com.qiniudns.com")
    for edge in ("127.0.54.1", "127.0.54.2"):
        store.seed("img.example.com.qiniudns.com", "A", edge)
    return store


@pytest.fixture
def service(zones: Zones) -> Iterator[DnsService]:
    """Run two servers of example.com, the second 5 s behind, a server of the CDN, and the
    resolver.
    """
    servers = [
        NameServer(zones, "ns1.dns.test", "127.0.53.1"),
        NameServer(zones, "ns2.dns.test", "127.0.53.2", lag=5),
        NameServer(zones, "ns3.dns.test", "127.0.53.3"),
    ]
    with DnsService(zones, servers, Resolver(zones, servers, "127.0.53.9")) as running:
        yield running


@pytest.fixture
def ask(service: DnsService) -> Ask:
    def ask(
        server: DnsServer, name: str, rtype: str = "TXT", timeout: float = PATIENCE
    ) -> dns.message.Message:
        query = dns.message.make_query(name, rtype)
        return dns.query.udp(query, server.address, timeout=timeout, port=service.port)

    return ask


# --- Answers of the name servers


@pytest.mark.parametrize(
    ("name", "rtype", "rcode"),
    [
        ("nowhere.example.com", "TXT", dns.rcode.NXDOMAIN),
        ("example.com", "TXT", dns.rcode.NOERROR),
        ("img.example.com", "CNAME", dns.rcode.NOERROR),
        ("b.example.com", "TXT", dns.rcode.NOERROR),
    ],
    ids=["no such name", "no such type", "alias itself", "only names below"],
)
def test_missing_name_and_missing_type_are_distinguished(
    service: DnsService, zones: Zones, ask: Ask, name: str, rtype: str, rcode: dns.rcode.Rcode
) -> None:
    """NXDOMAIN is for missing names; every name above a record exists."""
    zones.seed("a.b.example.com", "TXT", "deep")

    response = ask(service.servers[0], name, rtype)

    assert (rcode, True) == (response.rcode(), is_authoritative(response))
    if not response.answer:
        assert ["example.com. SOA"] == authority(response)


def test_alias_to_a_foreign_zone_is_answered_alone(service: DnsService, ask: Ask) -> None:
    """The client asks the other server for the foreign name."""
    response = ask(service.servers[0], "img.example.com", "A")

    assert ["img.example.com. CNAME img.example.com.qiniudns.com."] == answers_of(response)
    assert dns.rcode.NOERROR == response.rcode()


def test_wildcard_answers_for_missing_names(service: DnsService, zones: Zones, ask: Ask) -> None:
    """A wildcard reaches any depth below, but no existing name (RFC 4592 §3.3.1)."""
    zones.seed("*.example.com", "CNAME", "img.example.com.qiniudns.com")
    zones.seed("here.example.com", "TXT", "v")
    server = service.servers[0]

    assert ["x.example.com. CNAME img.example.com.qiniudns.com."] == answers_of(
        ask(server, "x.example.com", "A")
    )
    assert ["_acme-challenge.y.example.com. CNAME img.example.com.qiniudns.com."] == answers_of(
        ask(server, "_acme-challenge.y.example.com")
    )
    assert [] == answers_of(ask(server, "here.example.com", "A"))
    assert dns.rcode.NXDOMAIN == ask(server, "z.here.example.com", "A").rcode()


@pytest.mark.parametrize("name", ["example.org", "com", "img.example.com.qiniudns.com"])
def test_foreign_name_is_refused(service: DnsService, ask: Ask, name: str) -> None:
    """An authoritative server answers for its own zones alone, whatever other zones the store
    has.
    """
    response = ask(service.servers[0], name, "A")

    assert (dns.rcode.REFUSED, False) == (response.rcode(), is_authoritative(response))


def test_delegated_name_is_referred_to_its_servers(service: DnsService, ask: Ask) -> None:
    """The parent's server names the child's servers, without AA and without an answer."""
    response = ask(service.servers[0], "x.lab.example.com")

    assert (dns.rcode.NOERROR, False) == (response.rcode(), is_authoritative(response))
    assert ([], ["lab.example.com. NS"]) == (response.answer, authority(response))
    assert ["127.0.53.3"] == [str(rrset[0]) for rrset in response.additional]


@pytest.mark.parametrize(("count", "edns_version"), [(9, -1), (22, 0)], ids=["512", "1232"])
def test_answer_that_does_not_fit_is_truncated_on_udp_and_whole_on_tcp(
    service: DnsService, zones: Zones, count: int, edns_version: int
) -> None:
    """The limit is 512 bytes without EDNS and 1232 with EDNS; beyond the limit TC is set and TCP
    has the whole answer.
    """
    for number in range(count):
        zones.seed(CHALLENGE, "TXT", f"{number:043}")
    query = dns.message.make_query(CHALLENGE, "TXT", use_edns=edns_version, payload=4096)
    server = service.servers[0]

    cut = dns.query.udp(query, server.address, PATIENCE, service.port)
    whole, used_tcp = dns.query.udp_with_fallback(query, server.address, PATIENCE, service.port)

    assert (True, []) == (bool(cut.flags & dns.flags.TC), cut.answer)
    assert (count, True) == (len(whole.answer[0]), used_tcp)
    assert [Transport.UDP, Transport.UDP, Transport.TCP] == [q.transport for q in server.queries]


def test_optional_sections_are_left_out_before_truncating(
    service: DnsService, zones: Zones, ask: Ask
) -> None:
    """An answer that fits without the servers and their addresses is sent whole."""
    for number in range(8):
        zones.seed(CHALLENGE, "TXT", f"{number:043}")

    response = ask(service.servers[0], CHALLENGE)

    assert (8, [], []) == (len(response.answer[0]), response.authority, response.additional)
    assert not response.flags & dns.flags.TC


@pytest.mark.parametrize(
    ("query", "rcode"),
    [
        (dns.message.make_query("example.com", "ANY"), dns.rcode.REFUSED),
        (dns.message.make_query("example.com", "TXT", "CH"), dns.rcode.REFUSED),
        (dns.message.make_query("example.com", "AXFR"), dns.rcode.REFUSED),
    ],
    ids=["ANY", "class CH", "AXFR"],
)
def test_unusual_question_is_refused(
    service: DnsService, query: dns.message.Message, rcode: dns.rcode.Rcode
) -> None:
    """Only a single question of class IN for a single type is answered."""
    for server in (*service.servers, service.resolver):
        response = dns.query.udp(query, server.address, PATIENCE, service.port)
        assert (rcode, []) == (response.rcode(), response.answer)


def test_notify_is_not_implemented(service: DnsService) -> None:
    """Only queries are answered."""
    query = dns.message.make_query("example.com", "SOA")
    query.set_opcode(dns.opcode.NOTIFY)

    response = dns.query.udp(query, service.servers[0].address, PATIENCE, service.port)
    assert dns.rcode.NOTIMP == response.rcode()


def test_garbage_is_answered_with_a_format_error(service: DnsService) -> None:
    """Half a message gets FORMERR; less than a header, and an answer, get silence."""
    good = dns.message.make_query("example.com", "TXT").to_wire()
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.connect((service.servers[0].address, service.port))
        client.settimeout(PATIENCE)
        client.send(good[:5])
        client.send(good[:2] + bytes([good[2] | 0x80]) + good[3:])
        client.send(good[:20])
        answer = client.recv(512)

    assert (good[:2], dns.rcode.FORMERR, 12) == (answer[:2], answer[3], len(answer))


def test_alias_loop_is_a_server_failure(service: DnsService, zones: Zones, ask: Ask) -> None:
    """A chain of aliases that returns to its start ends."""
    zones.seed("a.example.com", "CNAME", "b.example.com")
    zones.seed("b.example.com", "CNAME", "a.example.com")

    for server in (service.servers[0], service.resolver):
        assert dns.rcode.SERVFAIL == ask(server, "a.example.com", "A").rcode()


# --- Name servers with failures, and the service as a whole


IMPATIENCE = 0.15


def test_server_that_is_down_answers_on_no_transport(service: DnsService, ask: Ask) -> None:
    """UDP and TCP stay silent, and the question is in the journal."""
    server = service.servers[0]
    server.down()

    with pytest.raises(dns.exception.Timeout):
        ask(server, CHALLENGE, timeout=IMPATIENCE)
    query = dns.message.make_query(CHALLENGE, "TXT")
    with pytest.raises(dns.exception.Timeout):
        dns.query.tcp(query, server.address, IMPATIENCE, service.port)
    assert [Query(t, CHALLENGE, "TXT") for t in (Transport.UDP, Transport.TCP)] == server.queries

    server.recover()
    assert dns.rcode.NXDOMAIN == ask(server, CHALLENGE).rcode()


def test_slow_server_answers_late(service: DnsService, ask: Ask) -> None:
    """The answer comes after the given time, and other servers answer meanwhile."""
    slow, fast, _ = service.servers
    slow.slow(1.0)
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(PATIENCE)
        started = time.monotonic()
        query = dns.message.make_query(CHALLENGE, "TXT").to_wire()
        client.sendto(query, (slow.address, service.port))
        assert dns.rcode.NXDOMAIN == ask(fast, CHALLENGE).rcode()
        assert ([], [], []) == select.select([client], [], [], 0)
        assert query[:2] == client.recv(512)[:2]
    assert time.monotonic() - started >= 1.0


# Other workers use other addresses, so that the ports of these two stay free.


def test_all_listen_on_the_same_port_and_release_it(zones: Zones) -> None:
    """The port is the same on all addresses, and free again afterwards; a fixed port in use is an
    error.
    """
    servers = [NameServer(zones, "ns1.dns.test", "127.0.55.1")]
    resolver = Resolver(zones, servers, "127.0.55.9")
    before = threading.active_count()
    with DnsService(zones, servers, resolver) as first:
        port = first.port
        assert f"127.0.55.9:{port}" == first.resolver_endpoint
        with pytest.raises(OSError, match="in use"):
            DnsService(zones, servers, resolver, port=port).start()
    assert before == threading.active_count()
    with pytest.raises(RuntimeError):
        _ = first.port
    with DnsService(zones, servers, resolver, port=port) as second:
        assert port == second.port
    second.stop()


def test_port_in_use_on_an_address_leaves_the_others_free(zones: Zones) -> None:
    """Either all servers listen or none."""
    servers = [NameServer(zones, "ns1.dns.test", "127.0.56.1")]
    with socket.create_server(("127.0.56.9", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            DnsService(zones, servers, Resolver(zones, servers, "127.0.56.9"), port=port).start()
    with socket.create_server(("127.0.56.1", port)):
        pass


# --- The resolver behind HTTPS takes requests of RFC 8484 alone


QUESTION = dns.message.make_query("a.example.com", "TXT", id=0)
HEADERS = {"Content-Type": MESSAGE, "Accept": MESSAGE}


def answer_any(wire: bytes, transport: Transport) -> Reply | None:
    """Answer any question; stay silent for a malformed message."""
    del transport
    if len(wire) < len(QUESTION.to_wire()):
        return None
    return Reply(dns.message.make_response(dns.message.from_wire(wire)).to_wire())


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/dns-query", {}, QUESTION.to_wire(), 200),
        ("POST", "/", {}, QUESTION.to_wire(), 404),
        ("GET", "/dns-query", {}, b"", 405),
        ("POST", "/dns-query", {"Content-Type": "text/plain"}, QUESTION.to_wire(), 415),
        ("POST", "/dns-query", {"Accept": "*/*"}, QUESTION.to_wire(), 406),
        ("POST", "/dns-query", {}, b"\x00\x01" + QUESTION.to_wire()[2:], 400),
        ("POST", "/dns-query", {}, bytes(3), 504),
    ],
)
def test_requests_to_a_resolver_behind_https(
    tmp_path: Path, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    """The request is a message by POST, with both headers and the id 0."""
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with HttpsDns(answer_any, context) as service:
        answer = requests.request(
            method,
            service.url + path,
            headers={**HEADERS, **headers},
            data=body,
            verify=str(tmp_path / "ca.pem"),
            timeout=10,
        )

    assert status == answer.status_code
    if answer.ok:
        assert MESSAGE == answer.headers["Content-Type"]
        assert QUESTION.is_response(dns.message.from_wire(answer.content))
