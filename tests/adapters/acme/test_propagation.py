"""Propagation, asked of real name servers: what is seen, odd answers, and where it is looked."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import dns.flags
import dns.rcode
import pytest

from certferry.adapters.acme.propagation import DnsPropagation
from certferry.errors import (
    DnsRejected,
    DnsUnavailable,
    PropagationTimeout,
    Retry,
    ZoneNotFound,
)
from certferry_sandbox.nameserver.daemon import Transport
from certferry_sandbox.nameserver.service import DnsServer
from tests.adapters.acme.name_servers import (
    ANSWER_WITHIN,
    IMPATIENT,
    NAME,
    START,
    TIMEOUT,
    NameServers,
    OddServer,
    Reports,
    odd_servers,
    one,
)
from tests.adapters.waits import Waits

NET_NAME = "_acme-challenge.example.net"


def asked_for_txt(server: DnsServer) -> list[str]:
    """Give the transports over which TXT was asked for."""
    return [query.transport.value for query in server.queries if query.type == "TXT"]


def silent(server: DnsServer) -> None:
    """Answer nothing."""
    server.down()


# seen


def test_value_that_is_everywhere_is_not_waited_for(world: NameServers, reports: Reports) -> None:
    """Each server of the zone is asked once, over UDP, and no other, without a pause."""
    world.zones.create(NAME, "TXT", "value")

    world.propagation().wait(one(), reports)

    assert [["udp"], ["udp"], []] == [asked_for_txt(server) for server in world.servers]
    assert [] == world.waits.seconds
    assert [] == reports.sentences


def test_slowest_server_decides(world: NameServers, reports: Reports) -> None:
    """The wait ends when the last server shows the value, and says which one it is waiting for."""
    world.servers[1].lag = 12
    world.zones.create(NAME, "TXT", "value")

    world.propagation().wait(one(), reports)

    assert 12 <= world.waits.clock() < 18
    assert {"waiting for the challenge to appear at ns2.dns.test (value absent)"} == set(
        reports.sentences
    )
    assert {(START, START + TIMEOUT)} == reports.moments
    assert ["udp"] == asked_for_txt(world.servers[0])


def test_looks_begin_close_together_and_grow_apart(world: NameServers, reports: Reports) -> None:
    """The first pause is short, no pause is shorter than the one before or longer than 5 s."""
    world.servers[1].lag = 55
    world.zones.create(NAME, "TXT", "value")

    world.propagation().wait(one(), reports)

    pauses = world.waits.seconds
    assert 0.2 == pauses[0]
    assert pauses == sorted(pauses)
    assert 5.0 == max(pauses)
    assert len(pauses) < 22


def test_apex_and_wildcard_are_both_waited_for(world: NameServers, reports: Reports) -> None:
    """One of two values at a name is not enough."""
    world.servers[0].lag = world.servers[1].lag = 3
    world.zones.create(NAME, "TXT", "of-apex")
    world.waits(20)
    world.zones.create(NAME, "TXT", "of-wildcard")

    world.propagation().wait(one(NAME, "of-apex", "of-wildcard"), reports)

    assert 23 <= world.waits.clock() < 26


def test_each_name_is_asked_of_its_own_zone(world: NameServers, reports: Reports) -> None:
    """A run waits for names of several zones together."""
    world.servers[2].lag = 4
    world.zones.create(NAME, "TXT", "value")
    world.zones.create(NET_NAME, "TXT", "value")

    world.propagation().wait(one(NAME) | one(NET_NAME), reports)

    assert {"waiting for the challenge to appear at ns3.dns.test (value absent)"} == set(
        reports.sentences
    )
    assert 4 <= world.waits.clock() < 6


def test_sub_zone_has_servers_of_its_own(world: NameServers, reports: Reports) -> None:
    """The zone cut decides whom to ask, not the registered domain."""
    world.zones.add_zone("dev.example.com", ["ns3.dns.test"])
    world.zones.create("_acme-challenge.img.dev.example.com", "TXT", "value")

    world.propagation().wait(one("_acme-challenge.img.dev.example.com"), reports)

    assert [[], [], ["udp"]] == [asked_for_txt(server) for server in world.servers]


def test_many_values_come_over_tcp(world: NameServers, reports: Reports) -> None:
    """What does not fit a UDP answer is asked for again over TCP."""
    values = [f"value-{number:040}" for number in range(40)]
    for value in values:
        world.zones.create(NAME, "TXT", value)

    world.propagation().wait(one(NAME, *values), reports)

    assert [["udp", "tcp"]] * 2 == [asked_for_txt(server) for server in world.servers[:2]]


def test_long_value_is_put_together(world: NameServers, reports: Reports) -> None:
    """A record's strings of 255 bytes are one value."""
    world.zones.create(NAME, "TXT", "x" * 600)

    world.propagation().wait(one(NAME, "x" * 600), reports)

    assert [] == reports.sentences


def test_question_is_plain(reports: Reports) -> None:
    """No recursion is desired, and EDNS makes room for a long answer."""
    act = authoritative("a.example.com", "value")
    server = OddServer(DELEGATION | {("a.example.com", "TXT"): act})

    with odd_servers(server) as port:
        odd_propagation(port).wait(one("a.example.com"), reports)

    [query] = [query for query in server.queries if "TXT" in query.question[0].to_text()]
    assert 0 == query.flags & dns.flags.RD
    assert (0, 1232) == (query.edns, query.payload)


# odd answers

SOA = "ns.example.com. hostmaster.example.com. 1 2 3 4 5"
DELEGATION = {
    ("a.example.com", "SOA"): [("authority", "example.com.", 5, "IN", "SOA", SOA)],
    ("example.com", "NS"): [("answer", "example.com.", 5, "IN", "NS", "ns.example.com.")],
    ("ns.example.com", "A"): [("answer", "ns.example.com.", 5, "IN", "A", "127.0.53.8")],
}


def odd_propagation(port: int, answer_within: timedelta = ANSWER_WITHIN) -> DnsPropagation:
    """Look once at the server that is everything: resolver and only name server."""
    return DnsPropagation(
        resolvers=[("127.0.53.8", port)],
        port=port,
        timeout=timedelta(0),
        pause=Waits(),
        now=lambda: START,
        answer_within=answer_within,
    )


def authoritative(name: str, value: str) -> list[tuple[str, Any]] | Callable[..., bytes]:
    """Answer with a TXT value, with authority."""

    def act(response: Any, transport: Transport) -> bytes:
        response.flags |= dns.flags.AA
        response.answer.append(dns.rrset.from_text(f"{name}.", 5, "IN", "TXT", value))
        return bytes(response.to_wire())

    return act


def truncated_then(over_tcp: bytes | None) -> Callable[..., bytes | None]:
    """Say over UDP that the answer is too long, and over TCP this."""

    def act(response: Any, transport: Transport) -> bytes | None:
        if transport is Transport.TCP:
            return over_tcp
        response.flags |= dns.flags.TC
        return bytes(response.to_wire())

    return act


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (truncated_then(b"\x00" * 7), "an answer that cannot be read"),
        (truncated_then(b"\x00" * 30), "an answer that cannot be read"),
        (truncated_then(None), "no answer"),
        (lambda _, __: b"junk", "no answer"),
        (lambda _, __: None, "no answer"),
    ],
)
def test_answer_that_is_none_counts_as_silence(
    reports: Reports, act: Callable[..., bytes | None], why: str
) -> None:
    """Junk over UDP may have any sender and does not count; over TCP it is the server's."""
    server = OddServer(DELEGATION | {("a.example.com", "TXT"): act})

    with (
        odd_servers(server) as port,
        pytest.raises(PropagationTimeout, match=rf"ns.example.com \({why}\)"),
    ):
        odd_propagation(port, IMPATIENT).wait(one("a.example.com"), reports)


# where the challenge lives


def test_name_without_an_alias_is_where_the_challenge_lives(world: NameServers) -> None:
    """Whether or not anything exists there."""
    world.zones.create(NAME, "TXT", "value")

    assert NAME == world.propagation().follow(NAME)
    assert NET_NAME == world.propagation().follow(NET_NAME)


def test_alias_leads_into_another_zone(world: NameServers, reports: Reports) -> None:
    """A chain is followed to its end, and the end is asked of its own zone's servers."""
    world.zones.seed(NAME, "CNAME", "Example-Com.Challenges.example.net.")
    world.zones.seed("example-com.challenges.example.net", "CNAME", "real.example.net.")
    world.zones.create("real.example.net", "TXT", "value")

    end = world.propagation().follow(NAME)
    world.propagation().wait(one(end), reports)

    assert "real.example.net" == end
    assert [[], [], ["udp"]] == [asked_for_txt(server) for server in world.servers]


def test_alias_by_a_wildcard_gives_way(world: NameServers, reports: Reports) -> None:
    """Where everything else leads to a CDN, the challenge lives at its own name."""
    world.zones.seed("*.example.com", "CNAME", "edge.example.net.")

    assert NAME == world.propagation().follow(NAME)
    assert "edge.example.net" == world.propagation().wildcard_alias(NAME)

    world.zones.create(NAME, "TXT", "value")
    world.propagation().wait(one(NAME), reports)


def test_alias_beside_a_wildcard_is_followed(world: NameServers) -> None:
    """An alias that the operator wrote for the challenge holds, whatever the wildcard says."""
    world.zones.seed("*.example.com", "CNAME", "edge.example.net.")
    world.zones.seed(NAME, "CNAME", "challenges.example.net.")

    assert "challenges.example.net" == world.propagation().follow(NAME)
    assert world.propagation().wildcard_alias(NAME) is None


@pytest.mark.parametrize("length", [1, 2, 5])
def test_aliases_in_a_circle_are_told(world: NameServers, length: int) -> None:
    """With the whole circle, so that it can be broken."""
    names = [NAME, *(f"alias-{number}.example.com" for number in range(1, length))]
    for name, target in zip(names, [*names[1:], NAME], strict=True):
        world.zones.seed(name, "CNAME", f"{target}.")

    with pytest.raises(DnsRejected, match=f"CNAME loop at {NAME}") as circle:
        world.propagation().follow(NAME)

    assert " → ".join([*names, NAME]) in str(circle.value.hint)


def test_chain_of_aliases_has_an_end(world: NameServers) -> None:
    """Eight aliases are followed, a ninth is not."""
    names = [NAME, *(f"alias-{number}.example.com" for number in range(1, 10))]
    for name, target in pairwise(names):
        world.zones.seed(name, "CNAME", f"{target}.")

    assert names[-1] == world.propagation().follow(names[1])
    with pytest.raises(DnsRejected, match="too many aliases"):
        world.propagation().follow(NAME)


def test_name_too_long_for_dns_is_refused(world: NameServers) -> None:
    """A name may be valid on a certificate and have no room for the challenge's label."""
    name = "_acme-challenge." + ".".join(["a" * 60] * 4)

    with pytest.raises(DnsRejected, match="cannot be asked for in DNS"):
        world.propagation().follow(name)


def test_domain_that_is_not_delegated_is_told_at_once(world: NameServers, reports: Reports) -> None:
    """No resolver would ever see the value."""
    with pytest.raises(ZoneNotFound, match=r"a\.unregistered\.test") as nowhere:
        world.propagation().wait(one("a.unregistered.test"), reports)

    assert "registered" in str(nowhere.value.hint)
    assert Retry.LATER == nowhere.value.retry


def test_resolver_that_is_silent_is_named(world: NameServers, reports: Reports) -> None:
    """With the setting that names another one."""
    world.resolver.down()

    with pytest.raises(DnsUnavailable) as silent:
        world.propagation(answer_within=IMPATIENT).wait(one(), reports)

    assert f"127.0.53.9:{world.port} (no answer)" in str(silent.value)
    assert "[dns].resolvers" in str(silent.value.hint)


# very many servers


def test_zone_with_very_many_servers(reports: Reports) -> None:
    """As many are asked as a zone may sensibly have, and the time for all is over when it is over,
    also in the middle of a round.
    """
    hosts = tuple(f"ns{number}.many.test" for number in range(400))
    world = NameServers()
    world.zones.add_zone("example.org", hosts)
    world.zones.add_zone("many.test", ["ns1.dns.test"])
    for number, host in enumerate(hosts):
        for last in range(30):
            world.zones.seed(host, "A", f"127.1.{number % 250}.{last + 1}")
    with world.service:
        began = time.monotonic()
        propagation = world.propagation(
            now=lambda: datetime.now(UTC), timeout=timedelta(0), answer_within=timedelta(seconds=2)
        )
        with pytest.raises(PropagationTimeout):
            propagation.wait(one("_acme-challenge.example.org"), reports)

    assert time.monotonic() - began < 20
    assert len([q for q in world.resolver.queries if q.type == "A"]) <= 40
