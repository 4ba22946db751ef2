"""The name servers, asked over real sockets: what they answer."""

from __future__ import annotations

import contextlib
import math
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
from certferry_sandbox.nameserver.service import DnsServer, DnsService
from certferry_sandbox.zones import Zones
from tests.sandbox.nameserver.questions import (
    BOTH,
    CHALLENGE,
    PATIENCE,
    Ask,
    authority,
    is_authoritative,
    told,
)
from tests.support.manual_clock import ManualClock

# --- what an authoritative server answers


def test_existing_record_is_answered_with_authority(
    service: DnsService, zones: Zones, ask: Ask
) -> None:
    """The answer has AA and not RA, the zone's NS records and the servers' addresses."""
    zones.seed(CHALLENGE, "TXT", "v", ttl=120)

    response = ask(service.servers[0], CHALLENGE)

    assert [f'{CHALLENGE}. TXT "v"'] == told(response)
    assert 120 == response.answer[0].ttl
    assert (True, False) == (is_authoritative(response), bool(response.flags & dns.flags.RA))
    assert ["example.com. NS"] == authority(response)
    assert ["127.0.53.1", "127.0.53.2"] == [str(rrset[0]) for rrset in response.additional]


def test_several_values_at_one_name_come_as_one_set(
    service: DnsService, zones: Zones, ask: Ask
) -> None:
    """Apex and wildcard share a challenge name, so both values are shown (RFC 8555 §8.4)."""
    zones.seed(CHALLENGE, "TXT", "a")
    zones.seed(CHALLENGE, "TXT", "b")

    response = ask(service.servers[0], CHALLENGE)

    assert [f'{CHALLENGE}. TXT "a"', f'{CHALLENGE}. TXT "b"'] == told(response)


def test_each_server_shows_a_new_record_after_its_own_lag(
    service: DnsService, zones: Zones, clock: ManualClock, ask: Ask
) -> None:
    """Propagation is uneven; the serial tells which server has the change."""
    fast, slow, _ = service.servers
    before = {server.address: serial_at(ask, server) for server in (fast, slow)}

    zones.create(CHALLENGE, "TXT", "v")

    assert [1, 0] == [len(told(ask(server, CHALLENGE))) for server in (fast, slow)]
    assert [1, 0] == [serial_at(ask, s) - before[s.address] for s in (fast, slow)]
    clock.advance(5)
    assert [1, 1] == [len(told(ask(server, CHALLENGE))) for server in (fast, slow)]


def serial_at(ask: Ask, server: DnsServer) -> int:
    """The serial in the SOA that a server answers."""
    response = ask(server, "example.com", "SOA")
    assert is_authoritative(response)
    return int(response.answer[0][0].serial)


def test_lag_can_be_changed_while_running(service: DnsService, zones: Zones, ask: Ask) -> None:
    """A server that never catches up shows the change as soon as its lag is taken away."""
    slow = service.servers[1]
    slow.lag = math.inf
    zones.create(CHALLENGE, "TXT", "v")

    assert dns.rcode.NXDOMAIN == ask(slow, CHALLENGE).rcode()
    slow.lag = 0
    assert [f'{CHALLENGE}. TXT "v"'] == told(ask(slow, CHALLENGE))


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


def test_ns_and_soa_at_the_apex(service: DnsService, ask: Ask) -> None:
    """The zone names its servers, with addresses, and its primary."""
    ns = ask(service.servers[0], "example.com", "NS")
    soa = ask(service.servers[0], "example.com", "SOA")

    assert [f"example.com. NS {host}." for host in BOTH] == told(ns)
    assert ([], 2) == (ns.authority, len(ns.additional))
    assert ("ns1.dns.test.", 600) == (str(soa.answer[0][0].mname), soa.answer[0][0].minimum)


@pytest.mark.parametrize(
    ("rtype", "value"), [("AAAA", "2001:db8::1"), ("CAA", '0 issue "letsencrypt.org"')]
)
def test_other_types_are_served(
    service: DnsService, zones: Zones, ask: Ask, rtype: str, value: str
) -> None:
    """Records of any type are answered as a zone file would say them."""
    zones.seed("www.example.com", rtype, value)

    response = ask(service.servers[0], "www.example.com", rtype)
    assert [f"www.example.com. {rtype} {value}"] == told(response)


def test_alias_is_followed_inside_the_servers_own_zones(
    service: DnsService, zones: Zones, ask: Ask
) -> None:
    """The chain is in one answer, across zones of the same server, to the end or to NXDOMAIN."""
    zones.seed(CHALLENGE, "CNAME", "hop.example.com.")
    zones.seed("hop.example.com", "CNAME", "end.dev.example.com")
    missing = ask(service.servers[0], CHALLENGE)
    zones.seed("end.dev.example.com", "TXT", "v")
    present = ask(service.servers[0], CHALLENGE)

    assert (dns.rcode.NXDOMAIN, 2) == (missing.rcode(), len(missing.answer))
    assert ["dev.example.com. SOA"] == authority(missing)
    assert (dns.rcode.NOERROR, 3) == (present.rcode(), len(present.answer))
    assert 'end.dev.example.com. TXT "v"' in told(present)


def test_alias_to_a_foreign_zone_is_answered_alone(service: DnsService, ask: Ask) -> None:
    """What the server is not responsible for is the client's to ask for."""
    response = ask(service.servers[0], "img.example.com", "A")

    assert ["img.example.com. CNAME img.example.com.qiniudns.com."] == told(response)
    assert dns.rcode.NOERROR == response.rcode()


def test_wildcard_answers_for_names_that_are_not_there(
    service: DnsService, zones: Zones, ask: Ask
) -> None:
    """A wildcard reaches any depth below, but no name that exists (RFC 4592 §3.3.1)."""
    zones.seed("*.example.com", "CNAME", "img.example.com.qiniudns.com")
    zones.seed("here.example.com", "TXT", "v")
    server = service.servers[0]

    assert ["x.example.com. CNAME img.example.com.qiniudns.com."] == told(
        ask(server, "x.example.com", "A")
    )
    assert ["_acme-challenge.y.example.com. CNAME img.example.com.qiniudns.com."] == told(
        ask(server, "_acme-challenge.y.example.com")
    )
    assert [] == told(ask(server, "here.example.com", "A"))
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


def test_name_is_found_whatever_its_case(service: DnsService, zones: Zones, ask: Ask) -> None:
    """Case makes no difference, and the answer keeps the asker's spelling."""
    zones.seed(CHALLENGE, "TXT", "v")

    assert ['_ACME-challenge.Example.COM. TXT "v"'] == told(
        ask(service.servers[0], "_ACME-challenge.Example.COM")
    )


def test_long_text_is_split_into_strings(service: DnsService, zones: Zones, ask: Ask) -> None:
    """Text of more than 255 bytes comes in several strings that join to the value."""
    zones.seed(CHALLENGE, "TXT", "x" * 300)

    rdata = ask(service.servers[0], CHALLENGE).answer[0][0]
    assert ([255, 45], b"x" * 300) == ([len(s) for s in rdata.strings], b"".join(rdata.strings))


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

    assert (8, [], []) == (
        len(response.answer[0]),
        response.authority,
        response.additional,
    )
    assert not response.flags & dns.flags.TC


def test_several_questions_on_one_connection(service: DnsService, zones: Zones) -> None:
    """A TCP connection is answered until the client hangs up (RFC 7766 §6.2.1)."""
    zones.seed(CHALLENGE, "TXT", "v")
    query = dns.message.make_query(CHALLENGE, "TXT")
    address = (service.servers[0].address, service.port)
    with socket.create_connection(address, PATIENCE) as connection:
        for _ in range(3):
            response = dns.query.tcp(query, address[0], PATIENCE, sock=connection)
            assert 1 == len(response.answer)


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


def test_resolver_follows_aliases_across_zones(service: DnsService, ask: Ask) -> None:
    """The whole chain comes in one answer, with RA and without AA."""
    response = ask(service.resolver, "img.example.com", "A")

    assert [
        "img.example.com. CNAME img.example.com.qiniudns.com.",
        "img.example.com.qiniudns.com. A 127.0.54.1",
        "img.example.com.qiniudns.com. A 127.0.54.2",
    ] == told(response)
    assert (False, True) == (is_authoritative(response), bool(response.flags & dns.flags.RA))


def test_resolver_sees_what_the_first_server_shows(
    service: DnsService, zones: Zones, clock: ManualClock, ask: Ask
) -> None:
    """The resolver lags exactly as the zone's first server does."""
    service.servers[0].lag = 2
    zones.create(CHALLENGE, "TXT", "v")

    assert dns.rcode.NXDOMAIN == ask(service.resolver, CHALLENGE).rcode()
    clock.advance(2)
    assert [f'{CHALLENGE}. TXT "v"'] == told(ask(service.resolver, CHALLENGE))


def test_resolver_believes_a_missing_name_for_as_long_as_it_caches(
    service: DnsService, zones: Zones, clock: ManualClock, ask: Ask
) -> None:
    """Asking too early hides the record until the negative answer has expired."""
    service.resolver.negative_caching = 60
    assert dns.rcode.NXDOMAIN == ask(service.resolver, CHALLENGE).rcode()
    zones.create(CHALLENGE, "TXT", "v")

    clock.advance(59)
    assert dns.rcode.NXDOMAIN == ask(service.resolver, CHALLENGE).rcode()
    clock.advance(1)
    assert [f'{CHALLENGE}. TXT "v"'] == told(ask(service.resolver, CHALLENGE))


@pytest.mark.parametrize(
    ("name", "rcode"), [("example.org", dns.rcode.NXDOMAIN), ("com", dns.rcode.NOERROR)]
)
def test_resolver_says_that_the_rest_of_the_world_is_empty(
    service: DnsService, ask: Ask, name: str, rcode: dns.rcode.Rcode
) -> None:
    """The root is empty but for what leads to the zones."""
    response = ask(service.resolver, name)

    assert (rcode, [". SOA"]) == (response.rcode(), authority(response))


def test_alias_loop_is_a_server_failure(service: DnsService, zones: Zones, ask: Ask) -> None:
    """A chain that comes back to itself ends."""
    zones.seed("a.example.com", "CNAME", "b.example.com")
    zones.seed("b.example.com", "CNAME", "a.example.com")

    for server in (service.servers[0], service.resolver):
        assert dns.rcode.SERVFAIL == ask(server, "a.example.com", "A").rcode()


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        (CHALLENGE, "example.com."),
        ("_acme-challenge.a.b.dev.example.com", "dev.example.com."),
        ("img.example.com.qiniudns.com", "qiniudns.com."),
    ],
)
def test_stub_resolver_finds_the_zone_cut_and_the_servers(
    service: DnsService, name: str, zone: str
) -> None:
    """An ordinary client library walks from a name to its zone, its servers and their addresses."""
    stub = dns.resolver.Resolver(configure=False)
    stub.nameservers = [service.resolver.address]
    stub.port = service.port

    cut = dns.resolver.zone_for_name(name, resolver=stub)
    hosts = [rdata.target for rdata in stub.resolve(cut, "NS")]
    addresses = {str(a) for host in hosts for a in stub.resolve(host, "A")}

    assert zone == str(cut)
    assert addresses
    assert addresses <= {server.address for server in service.servers}
