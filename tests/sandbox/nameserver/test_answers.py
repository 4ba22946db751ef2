"""The name servers, asked over real sockets: what they answer."""

from __future__ import annotations

import contextlib
import socket

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest

from certferry_sandbox.nameserver.daemon import Transport
from certferry_sandbox.nameserver.service import DnsService
from certferry_sandbox.zones import Zones
from tests.sandbox.nameserver.questions import (
    CHALLENGE,
    PATIENCE,
    Ask,
    answers_of,
    authority,
    is_authoritative,
)

# --- what an authoritative server answers


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
def test_missing_name_and_missing_type_are_told_apart(
    service: DnsService, zones: Zones, ask: Ask, name: str, rtype: str, rcode: dns.rcode.Rcode
) -> None:
    """NXDOMAIN is for names that do not exist, and nothing above a record does not exist."""
    zones.seed("a.b.example.com", "TXT", "deep")

    response = ask(service.servers[0], name, rtype)

    assert (rcode, True) == (response.rcode(), is_authoritative(response))
    if not response.answer:
        assert ["example.com. SOA"] == authority(response)


def test_alias_to_a_foreign_zone_is_answered_alone(service: DnsService, ask: Ask) -> None:
    """What the server is not responsible for is the client's to ask for."""
    response = ask(service.servers[0], "img.example.com", "A")

    assert ["img.example.com. CNAME img.example.com.qiniudns.com."] == answers_of(response)
    assert dns.rcode.NOERROR == response.rcode()


def test_wildcard_answers_for_names_that_are_not_there(
    service: DnsService, zones: Zones, ask: Ask
) -> None:
    """A wildcard reaches any depth below, but no name that exists (RFC 4592 §3.3.1)."""
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
    """An authoritative server speaks for its own zones only, also when others are in the store."""
    response = ask(service.servers[0], name, "A")

    assert (dns.rcode.REFUSED, False) == (response.rcode(), is_authoritative(response))


def test_delegated_name_is_referred_to_its_servers(service: DnsService, ask: Ask) -> None:
    """The parent's server names the child's servers, without AA and without an answer."""
    response = ask(service.servers[0], "x.lab.example.com")

    assert (dns.rcode.NOERROR, False) == (response.rcode(), is_authoritative(response))
    assert ([], ["lab.example.com. NS"]) == (response.answer, authority(response))
    assert ["127.0.53.3"] == [str(rrset[0]) for rrset in response.additional]


# --- sizes and transports


@pytest.mark.parametrize(("count", "edns_version"), [(9, -1), (22, 0)], ids=["512", "1232"])
def test_answer_that_does_not_fit_is_truncated_on_udp_and_whole_on_tcp(
    service: DnsService, zones: Zones, count: int, edns_version: int
) -> None:
    """512 bytes without EDNS, 1232 with it; beyond that TC is set and TCP has everything."""
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
    """One question of class IN for one type is all that is answered."""
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
    """Half a message gets FORMERR; less than a header gets nothing, and neither does an answer."""
    good = dns.message.make_query("example.com", "TXT").to_wire()
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.connect((service.servers[0].address, service.port))
        client.settimeout(PATIENCE)
        client.send(good[:5])
        client.send(good[:2] + bytes([good[2] | 0x80]) + good[3:])
        client.send(good[:20])
        answer = client.recv(512)

    assert (good[:2], dns.rcode.FORMERR, 12) == (answer[:2], answer[3], len(answer))


# --- the resolver


def test_alias_loop_is_a_server_failure(service: DnsService, zones: Zones, ask: Ask) -> None:
    """A chain that comes back to itself ends."""
    zones.seed("a.example.com", "CNAME", "b.example.com")
    zones.seed("b.example.com", "CNAME", "a.example.com")

    for server in (service.servers[0], service.resolver):
        assert dns.rcode.SERVFAIL == ask(server, "a.example.com", "A").rcode()
