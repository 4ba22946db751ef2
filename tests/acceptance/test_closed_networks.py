"""The main job from networks in which DNS, or the way to the CA, is not what it is elsewhere."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from certferry_sandbox.nameserver.daemon import HttpsDns
from certferry_sandbox.nameserver.service import Query, Resolver
from certferry_sandbox.world import World
from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host, certificate
from tests.adapters.http.peers import peer, tunnel

FAKE = "198.18.0.7"
FAILED = 1


@pytest.fixture
def host(world: World, tmp_path: Path, name: str) -> Host:
    """A machine that only keeps its certificate."""
    return Host(world, tmp_path, certificate(name, to=None))


@pytest.fixture
def doh(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpsDns]:
    """An honest resolver behind HTTPS, whose certificate the machine trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "doh.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "doh.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    resolver = Resolver(world.zones, world.dns.servers, "127.0.0.9")
    with HttpsDns(resolver.handle, context) as service:
        yield service


def with_dns(host: Host, lines: str) -> None:
    """Add settings to [dns]."""
    host.rewrite("[dns]\n", f"[dns]\n{lines}\n")


def questions(world: World) -> list[Query]:
    """Give what the world's servers were asked so far, but by the CA: that asks for TXT and CAA."""
    servers = [world.dns.resolver, *world.dns.servers]
    of_ca = {"TXT", "CAA"}
    asked = [query for server in servers for query in server.queries]
    return [query for query in asked if query.type not in of_ca]


def test_host_that_may_ask_no_question(world: World, host: Host) -> None:
    """It waits for a time that the operator chose, and the CA sees the challenge."""
    with_dns(host, "wait = 1")
    before = questions(world)
    of_servers = [len(server.queries) for server in world.dns.servers]

    ended = host.run("sync")

    assert 0 == ended.code
    assert before == questions(world)
    assert of_servers == [len(server.queries) for server in world.dns.servers]


def test_doctor_on_a_host_that_may_ask_no_question(world: World, host: Host) -> None:
    """It looks for edges alone, for which [verify] has resolvers of its own."""
    with_dns(host, "wait = 1")
    before = [query.type for query in world.dns.resolver.queries]

    host.run("doctor")

    asked = [query.type for query in world.dns.resolver.queries][len(before) :]
    assert {"A"} == set(asked)


def test_proxy_that_answers_dns_itself(world: World, host: Host, doh: HttpsDns) -> None:
    """With made-up addresses, and in the place of every name server. A resolver over HTTPS tells
    where things are and whether the challenge is seen.
    """
    with_dns(host, f'doh = ["{doh.question_url}"]')
    host.rewrite("[dns]\n", "[dns]\npropagation_timeout = 1\n")
    world.dns.resolver.faked = FAKE
    for server in world.dns.servers:
        server.lame()

    ended = host.run("sync")

    assert 0 == ended.code
    assert f"is at {FAKE}; other resolvers are asked over HTTPS" in ended.err
    assert "resolvers asked over HTTPS show the challenge" in ended.err


def test_proxy_that_answers_dns_itself_and_no_other_resolver(world: World, host: Host) -> None:
    """What is wrong and what helps is said; nothing is issued, and nothing is left in DNS."""
    host.rewrite("[dns]\n", "[dns]\npropagation_timeout = 1\n")
    world.dns.resolver.faked = FAKE

    ended = host.run("-q", "sync")

    assert f"made-up addresses ({FAKE})" in ended.complaint.hint
    assert "[dns].doh" in ended.complaint.hint
    assert (0, 0) == (ended.left.certificates, ended.left.challenges)


def test_delegation_on_a_host_that_may_ask_no_question(world: World, tmp_path: Path) -> None:
    """The CNAME is not seen; that is said, and nothing is ordered."""
    host = Host(world, tmp_path, certificate("img.elsewhere.net", to=None))
    with_dns(host, "wait = 1")

    ended = host.run("-q", "sync")

    assert (FAILED, 0) == (ended.code, ended.left.orders)
    assert "whether a CNAME leads elsewhere is not known" in ended.complaint.error
    assert "`doh` under [dns] in the place of `wait`" in ended.complaint.hint


def test_doctor_asks_the_resolvers_over_https(world: World, host: Host, doh: HttpsDns) -> None:
    """One that is silent is named, as a warning; one that says what is true is no finding."""
    with_dns(host, f'doh = ["{doh.question_url}", "https://127.0.0.1:9/dns-query"]')

    run = host.run("doctor", "--json")

    found = [one for one in run.document["findings"] if one["code"].startswith("resolver_")]
    assert [("warning", "resolver_silent", "https://127.0.0.1:9")] == [
        (one["severity"], one["code"], one["subject"]) for one in found
    ]
    assert 0 == run.code
    assert doh.requests()


def test_ca_behind_a_proxy_of_its_own(world: World, host: Host) -> None:
    """DNSPod and Qiniu are asked without it."""
    ways: list[str] = []

    def counted(connection: socket.socket) -> None:
        ways.extend(connection.recv(2**12, socket.MSG_PEEK).decode().split()[1:2])
        tunnel(connection)

    with peer(counted) as place:
        host.rewrite("[acme]\n", f'[acme]\nproxy = "http://{place}"\n')
        ended = host.run("sync")

    assert 0 == ended.code
    assert {world.pebble.directory_url.split("/")[2]} == set(ways)


def test_ca_behind_a_proxy_that_is_not_there(host: Host) -> None:
    """Nothing is written into DNS, and the setting is named."""
    host.rewrite("[acme]\n", '[acme]\nproxy = "http://127.0.0.1:9"\n')

    ended = host.run("-q", "sync")

    assert FAILED == ended.code
    assert "`proxy` under [acme]" in ended.complaint.hint
    assert_nothing_written(ended.left)
