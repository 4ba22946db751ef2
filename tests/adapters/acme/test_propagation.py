"""Propagation, asked of real name servers: slow, dead, lame, refusing, and overfull ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import dns.flags
import dns.rcode
import pytest

from certferry.adapters.acme.propagation import Propagation
from certferry.adapters.acme.propagation_advice import advice
from certferry.adapters.acme.propagation_status import PropagationStatus, Sought
from certferry.errors import (
    DnsRejected,
    DnsUnavailable,
    Interrupted,
    PropagationTimeout,
    Retry,
    ZoneNotFound,
)
from certferry.sandbox.dnsd import DnsDaemon, Transport
from certferry.sandbox.nameserver import DnsServer
from certferry.text import Text
from tests.adapters.acme.name_servers import (
    ANSWER_WITHIN,
    IMPATIENT,
    NAME,
    START,
    TIMEOUT,
    NameServers,
    OddServer,
    Reports,
    name_servers,
    odd_servers,
    one,
)
from tests.adapters.clients.waits import Waits

NET_NAME = "_acme-challenge.example.net"
PATIENT = timedelta(seconds=1)
UNROUTABLE = "255.255.255.255"  # no host's address: the system refuses to send there


@pytest.fixture
def world() -> Iterator[NameServers]:
    """Three name servers and a resolver."""
    with name_servers() as world:
        yield world


@pytest.fixture
def reports() -> Reports:
    """What is told while waiting."""
    return Reports()


def asked_for_txt(server: DnsServer) -> list[str]:
    """Give the transports over which TXT was asked for."""
    return [query.transport.value for query in server.queries if query.type == "TXT"]


def lame(server: DnsServer) -> None:
    """Take the AA flag away."""
    server.lame()


def refusing(server: DnsServer) -> None:
    """Refuse everything."""
    server.refusing()


def silent(server: DnsServer) -> None:
    """Answer nothing."""
    server.down()


def failing(server: DnsServer) -> None:
    """Fail at everything."""
    server.refusing(dns.rcode.SERVFAIL)


# seen


def test_value_that_is_everywhere_is_not_waited_for(world: NameServers, reports: Reports) -> None:
    """Each server of the zone is asked once, over UDP, and no other; nobody pauses."""
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
    """Names of several zones are waited for together."""
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


# not seen


def test_timeout_says_where_it_was_seen_and_where_not(world: NameServers, reports: Reports) -> None:
    """With the reason for each server, and what to look at."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[1].lag = float("inf")

    with pytest.raises(PropagationTimeout) as late:
        world.propagation().wait(one(), reports)

    assert (
        "not every name server showed the challenge within 1 minute: "
        "_acme-challenge.example.com was seen at ns1.dns.test; "
        "missing at ns2.dns.test (value absent)"
    ) == str(late.value)
    assert "delegated" in str(late.value.hint)
    assert "[dns].propagation_timeout" in str(late.value.hint)
    assert "example.com" in str(late.value.hint)
    assert Retry.LATER == late.value.retry
    assert TIMEOUT.total_seconds() == pytest.approx(world.waits.clock())


def test_timeout_names_only_what_is_missing(world: NameServers, reports: Reports) -> None:
    """A name that was seen everywhere is not in the message."""
    world.zones.create(NAME, "TXT", "value")

    with pytest.raises(PropagationTimeout) as late:
        world.propagation().wait(one(NAME) | one(NET_NAME), reports)

    assert f"{NET_NAME} was seen at none; missing at ns3.dns.test" in str(late.value)
    assert NAME not in str(late.value)


@pytest.mark.parametrize(
    ("trouble", "why"), [(lame, "not authoritative"), (refusing, "REFUSED"), (failing, "SERVFAIL")]
)
def test_server_that_does_not_serve_the_zone_counts_as_missing(
    world: NameServers, reports: Reports, trouble: Callable[[DnsServer], None], why: str
) -> None:
    """Even when it shows the value, and the hint points to the registrar."""
    world.zones.create(NAME, "TXT", "value")
    trouble(world.servers[1])

    with pytest.raises(PropagationTimeout) as late:
        world.propagation().wait(one(), reports)

    assert f"missing at ns2.dns.test ({why})" in str(late.value)
    assert "ns2.dns.test should serve example.com" in str(late.value.hint)
    assert "registrar" in str(late.value.hint)


def test_every_server_is_silent(world: NameServers, reports: Reports) -> None:
    """The hint is about what this host may do, for several zones' servers are hardly all dead."""
    for server in world.servers:
        server.down()

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0), answer_within=timedelta(seconds=2)).wait(
            one(NAME) | one(NET_NAME), reports
        )

    hint = str(late.value.hint)
    assert "this host may not be allowed to ask them directly" in hint
    assert "port 53 outbound, UDP and TCP" in hint
    assert "example.com, example.net" in hint


@pytest.mark.parametrize("dead", [[], [0], [1, 2]])
def test_something_answers_in_place_of_every_server(
    dead: list[int], world: NameServers, reports: Reports
) -> None:
    """Whoever answers does not hold the zone: not a word about the registrar."""
    for number, server in enumerate(world.servers):
        if number in dead:
            server.down()
        else:
            server.lame()

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0), answer_within=timedelta(seconds=2)).wait(
            one(NAME) | one(NET_NAME), reports
        )

    hint = str(late.value.hint)
    assert "a router or a proxy seems to answer in place of the name servers" in hint
    assert "registrar" not in hint


def test_zone_that_nobody_serves_beside_one_that_is_served(
    world: NameServers, reports: Reports
) -> None:
    """This host's questions do get through, so the fault is the zone's."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[2].lame()

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0)).wait(one(NAME) | one(NET_NAME), reports)

    assert "ns3.dns.test should serve example.net" in str(late.value.hint)


@pytest.mark.parametrize("trouble", [failing, silent])
def test_address_that_could_not_be_looked_up_once(
    trouble: Callable[[DnsServer], None], world: NameServers, reports: Reports
) -> None:
    """A resolver that fails, or falls silent, for a moment costs a round and not the whole wait."""
    world.zones.add_zone("example.org", ["ns1.dns.test", "ns.late.test"])
    world.zones.create("a.example.org", "TXT", "value")
    rounds: list[float] = []

    def pause(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 1:
            trouble(world.resolver)
        else:
            world.resolver.recover()
            world.zones.add_zone("late.test", ["ns1.dns.test"])
            world.zones.seed("ns.late.test", "A", world.servers[0].address)
        world.waits(seconds)

    world.propagation(pause=pause, answer_within=IMPATIENT).wait(one("a.example.org"), reports)

    assert 2 == len(rounds)
    assert {"waiting for the challenge to appear at ns.late.test (has no address)"} == set(
        reports.sentences
    )


def test_server_that_no_resolver_can_find_holds_up_nothing(
    world: NameServers, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    """It is looked for, and then left out with a word about it: the CA cannot ask it either."""
    world.zones.add_zone("example.org", ["ns1.dns.test", "ns.broken.test"])
    world.zones.create("a.example.org", "TXT", "value")
    world.zones.add_zone("broken.test", ["ns3.dns.test"])
    world.servers[2].refusing(dns.rcode.SERVFAIL)

    world.propagation(answer_within=IMPATIENT).wait(one("a.example.org"), reports)

    assert 30 <= world.waits.clock() < 45
    assert "everywhere but at ns.broken.test" in caplog.text


def test_dead_server_is_named_and_the_others_are_noticed(
    world: NameServers, reports: Reports
) -> None:
    """A server without an answer is missing; what the others show is known in the same round."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[0].down()

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(seconds=1), answer_within=IMPATIENT).wait(
            one(), reports
        )

    assert "was seen at ns2.dns.test; missing at ns1.dns.test (no answer)" in str(late.value)
    assert ["udp"] == asked_for_txt(world.servers[1])


def test_dead_servers_do_not_add_up(world: NameServers, reports: Reports) -> None:
    """Addresses are asked side by side, and a silent one is not asked for a second name: one after
    the other, each question would come when the one before was given up.
    """
    dead = [f"127.0.53.{number}" for number in range(20, 27)]
    for address in dead:
        world.zones.seed("ns3.dns.test", "A", address)
    names = [f"_acme-challenge.{label}.example.net" for label in "abcd"]
    wanted = {name: frozenset(["value"]) for name in names}
    asked: list[float] = []

    def stay_silent(wire: bytes, transport: Transport) -> None:
        del wire
        if transport is Transport.UDP:
            asked.append(time.monotonic())

    world.servers[2].down()
    silent = DnsDaemon(dict.fromkeys(dead, stay_silent), port=world.port).start()
    try:
        with pytest.raises(PropagationTimeout):
            world.propagation(timeout=timedelta(0), answer_within=PATIENT).wait(wanted, reports)
    finally:
        silent.stop()

    assert len(dead) == len(asked)
    assert max(asked) - min(asked) < len(dead) / 2 * PATIENT.total_seconds()
    assert ["udp", "tcp"] == asked_for_txt(world.servers[2])


def test_server_that_comes_back_is_noticed(world: NameServers, reports: Reports) -> None:
    """Silence for a moment, over UDP and TCP, costs one round."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[0].drop(2)

    world.propagation(answer_within=IMPATIENT).wait(one(), reports)

    assert ["waiting for the challenge to appear at ns1.dns.test (no answer)"] == reports.sentences


def test_silent_address_of_a_server_that_answers_is_forgiven(
    world: NameServers, reports: Reports
) -> None:
    """One address of a server is enough to have asked it."""
    world.zones.create(NAME, "TXT", "value")
    world.zones.seed("ns1.dns.test", "A", "127.0.53.77")

    world.propagation(answer_within=IMPATIENT).wait(one(), reports)

    assert [] == reports.sentences


def test_address_without_a_route_is_left_out(world: NameServers, reports: Reports) -> None:
    """As IPv6 on a host that has none: it is not waited for."""
    world.zones.create(NAME, "TXT", "value")
    world.zones.seed("ns1.dns.test", "A", UNROUTABLE)

    world.propagation().wait(one(), reports)

    assert [] == reports.sentences


def test_server_without_a_route_is_left_out_and_named(world: NameServers, reports: Reports) -> None:
    """It would never be seen; while another server is waited for, the operator reads of it."""
    world.zones.add_zone("example.org", ["ns1.dns.test", "ns.far.test"])
    world.zones.add_zone("far.test", ["ns1.dns.test"])
    world.zones.seed("ns.far.test", "A", UNROUTABLE)
    name = "_acme-challenge.example.org"

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0)).wait(one(name), reports)
    world.zones.create(name, "TXT", "value")
    world.propagation().wait(one(name), reports)

    assert (
        "missing at ns1.dns.test (value absent); "
        "not reachable from here: ns.far.test (Permission denied)"
    ) in str(late.value)


def test_zone_out_of_reach_is_never_taken_for_seen(world: NameServers, reports: Reports) -> None:
    """When no server can be asked at all, nothing has been shown."""
    world.zones.add_zone("example.org", ["ns.far.test"])
    world.zones.add_zone("far.test", ["ns1.dns.test"])
    world.zones.seed("ns.far.test", "A", UNROUTABLE)

    with pytest.raises(PropagationTimeout, match="was seen at none; not reachable from here"):
        world.propagation(timeout=timedelta(seconds=1)).wait(one("a.example.org"), reports)

    assert {"no name server can be reached from here"} == set(reports.sentences)


def test_server_without_an_address_is_missing(world: NameServers, reports: Reports) -> None:
    """A name in the NS records that leads nowhere is a fault of the delegation."""
    world.zones.add_zone("example.org", ["ns1.dns.test", "ns.gone.test"])
    world.zones.create("a.example.org", "TXT", "value")

    with pytest.raises(PropagationTimeout, match=r"missing at ns.gone.test \(has no address\)"):
        world.propagation(timeout=timedelta(0)).wait(one("a.example.org"), reports)


def test_made_up_addresses_are_recognised() -> None:
    """A proxy that fakes DNS hands out addresses of a range that no server has."""
    sought = Sought(NAME, "example.com", frozenset(["value"]), ("ns1.dns.test",))
    status = PropagationStatus([sought], {"ns1.dns.test": ("198.18.0.7",)})

    assert "made-up addresses (198.18.0.7)" in str(advice(status, {}))


def test_stopped_run_stops_waiting(world: NameServers, reports: Reports) -> None:
    """What the pause raises comes through."""

    def pause(seconds: float) -> None:
        raise Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        world.propagation(pause=pause).wait(one(), reports)


# odd answers

SOA = "ns.example.com. hostmaster.example.com. 1 2 3 4 5"
DELEGATION = {
    ("a.example.com", "SOA"): [("authority", "example.com.", 5, "IN", "SOA", SOA)],
    ("example.com", "NS"): [("answer", "example.com.", 5, "IN", "NS", "ns.example.com.")],
    ("ns.example.com", "A"): [("answer", "ns.example.com.", 5, "IN", "A", "127.0.53.8")],
}


def odd_propagation(port: int, answer_within: timedelta = ANSWER_WITHIN) -> Propagation:
    """Look once at the server that is everything: resolver and only name server."""
    return Propagation(
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
    """Junk over UDP may come from anybody and is not listened to; over TCP it is the server's."""
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
    """An alias that somebody wrote for the challenge holds, whatever the wildcard says."""
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
    """Nobody would ever see the value."""
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
