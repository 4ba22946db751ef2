"""Name servers that are down, refuse, are slow or lame, and the service as a whole."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time

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
from tests.sandbox.nameserver.questions import CHALLENGE, PATIENCE, Ask

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
