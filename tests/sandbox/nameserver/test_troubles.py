"""Name servers that are down, refuse, are slow or lame, and the service as a whole."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest

from certferry_sandbox.nameserver.daemon import Transport
from certferry_sandbox.nameserver.service import DnsService, NameServer, Query, Resolver
from certferry_sandbox.zones import Zones
from tests.sandbox.nameserver.questions import CHALLENGE, PATIENCE, Ask, is_authoritative, told

IMPATIENCE = 0.15


# --- troubles


def test_server_that_is_down_answers_on_no_transport(service: DnsService, ask: Ask) -> None:
    """Neither UDP nor TCP says anything, and the question is in the journal."""
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


@pytest.mark.parametrize("rcode", [dns.rcode.REFUSED, dns.rcode.SERVFAIL])
def test_server_that_refuses_says_so(
    service: DnsService, zones: Zones, ask: Ask, rcode: dns.rcode.Rcode
) -> None:
    """Every question gets the code, also one that has an answer."""
    zones.seed(CHALLENGE, "TXT", "v")
    service.servers[0].refusing(rcode)

    response = ask(service.servers[0], CHALLENGE)
    assert (rcode, []) == (response.rcode(), response.answer)


def test_slow_server_answers_late(service: DnsService, ask: Ask) -> None:
    """The answer comes after the given time, and meanwhile other servers are not held up."""
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


def test_lost_questions_are_counted(service: DnsService, ask: Ask) -> None:
    """Exactly the next N questions get no answer."""
    service.resolver.drop(2)

    for _ in range(2):
        with pytest.raises(dns.exception.Timeout):
            ask(service.resolver, CHALLENGE, timeout=IMPATIENCE)
    assert dns.rcode.NXDOMAIN == ask(service.resolver, CHALLENGE).rcode()


def test_lame_server_answers_without_authority(service: DnsService, zones: Zones, ask: Ask) -> None:
    """The data is there and the AA flag is not."""
    zones.seed(CHALLENGE, "TXT", "v")
    service.servers[0].lame()

    response = ask(service.servers[0], CHALLENGE)
    assert ([f'{CHALLENGE}. TXT "v"'], False) == (told(response), is_authoritative(response))


# --- running


# Other workers use other addresses, so that no port is taken from under these two.


def test_all_listen_on_one_port_and_leave_it_at_the_end(zones: Zones) -> None:
    """The same port everywhere, free again afterwards; a fixed port that is taken is an error."""
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


def test_port_taken_on_one_address_leaves_the_others_free(zones: Zones) -> None:
    """All listen or none does."""
    servers = [NameServer(zones, "ns1.dns.test", "127.0.56.1")]
    with socket.create_server(("127.0.56.9", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            DnsService(zones, servers, Resolver(zones, servers, "127.0.56.9"), port=port).start()
    with socket.create_server(("127.0.56.1", port)):
        pass


def test_twenty_orders_at_once_lose_no_answer(service: DnsService, zones: Zones) -> None:
    """Bursts of lookups from many threads are all answered, whatever else the process does."""
    for number in range(20):
        zones.seed(f"_acme-challenge.h{number}.example.com", "TXT", str(number))

    def order(number: int) -> set[str]:
        query = dns.message.make_query(f"_acme-challenge.h{number}.example.com", "TXT")
        asked = [*service.servers[:2], service.resolver] * 10
        return {
            str(dns.query.udp(query, server.address, PATIENCE, service.port).answer[0][0])
            for server in asked
        }

    with ThreadPoolExecutor(20) as pool:
        assert [{f'"{number}"'} for number in range(20)] == list(pool.map(order, range(20)))
