"""Propagation where name servers are slow, dead, lame, refusing or out of reach."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import dns.flags
import dns.rcode
import pytest

from certferry.adapters.acme.nameservers import PropagationStatus, Sought, advice
from certferry.adapters.acme.propagation import SILENT, SilentServers
from certferry.errors import Interrupted, PropagationTimeout, Retry
from certferry.text import Text
from certferry_sandbox.nameserver.daemon import DnsDaemon, Transport
from certferry_sandbox.nameserver.service import DnsServer
from tests.adapters.acme.name_servers import (
    HOSTS,
    NAME,
    SHORT_WAIT,
    TIMEOUT,
    NameServers,
    Reports,
    values_at,
)
from tests.adapters.acme.test_propagation import NET_NAME, asked_for_txt, silent

PATIENT = timedelta(seconds=1)

UNROUTABLE = "255.255.255.255"  # no host's address: the system refuses to send there


def lame(server: DnsServer) -> None:
    server.lame()


def refusing(server: DnsServer) -> None:
    server.refusing()


def failing(server: DnsServer) -> None:
    server.refusing(dns.rcode.SERVFAIL)


# not seen


def test_timeout_says_where_it_was_seen_and_where_not(world: NameServers, reports: Reports) -> None:
    """With the reason for each server, and what to look at."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[1].lag = float("inf")

    with pytest.raises(PropagationTimeout) as late:
        world.propagation().wait(values_at(), reports)

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
        world.propagation().wait(values_at(NAME) | values_at(NET_NAME), reports)

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
        world.propagation().wait(values_at(), reports)

    assert f"missing at ns2.dns.test ({why})" in str(late.value)
    assert "ns2.dns.test should serve example.com" in str(late.value.hint)
    assert "registrar" in str(late.value.hint)


def test_every_server_is_silent(world: NameServers, reports: Reports) -> None:
    """The hint is about what this host may do, for several zones' servers are hardly all dead."""
    for server in world.servers:
        server.down()

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0), answer_within=timedelta(seconds=2)).wait(
            values_at(NAME) | values_at(NET_NAME), reports
        )

    hint = str(late.value.hint)
    assert "this host may be blocked from asking name servers directly" in hint
    assert "port 53, UDP and TCP" in hint
    assert "example.com, example.net" in hint


@pytest.mark.parametrize("dead", [[], [0], [1, 2]])
def test_something_answers_in_place_of_every_server(
    dead: list[int], world: NameServers, reports: Reports
) -> None:
    """The server that answers does not hold the zone: not a word about the registrar."""
    for number, server in enumerate(world.servers):
        if number in dead:
            server.down()
        else:
            server.lame()

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0), answer_within=timedelta(seconds=2)).wait(
            values_at(NAME) | values_at(NET_NAME), reports
        )

    hint = str(late.value.hint)
    assert "a router or proxy seems to answer in place of the name servers" in hint
    assert "registrar" not in hint


def test_unserved_zone_beside_one_that_is_served(world: NameServers, reports: Reports) -> None:
    """This host's questions do get through, so the fault is the zone's."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[2].lame()

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0)).wait(values_at(NAME) | values_at(NET_NAME), reports)

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

    propagation = world.propagation(pause=pause, answer_within=SHORT_WAIT)
    propagation.wait(values_at("a.example.org"), reports)

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

    world.propagation(answer_within=SHORT_WAIT).wait(values_at("a.example.org"), reports)

    assert 30 <= world.waits.clock() < 45
    assert "every name server shows the challenge except ns.broken.test" in caplog.text


def test_dead_server_is_named_and_the_others_are_noticed(
    world: NameServers, reports: Reports
) -> None:
    """A server without an answer is missing; what the others show is known in the same round."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[0].down()
    world.resolver.unseen.add(NAME)

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(seconds=1), answer_within=SHORT_WAIT).wait(
            values_at(), reports
        )

    assert "was seen at ns2.dns.test; missing at ns1.dns.test (no answer)" in str(late.value)
    assert ["udp"] == asked_for_txt(world.servers[1])
    hint = str(late.value.hint)
    assert "ns1.dns.test do not answer this host, but other name servers of example.com do" in hint
    assert "port 53, UDP and TCP" in hint


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

    world.propagation(answer_within=SHORT_WAIT).wait(values_at(), reports)

    assert ["waiting for the challenge to appear at ns1.dns.test (no answer)"] == reports.sentences


def test_silent_address_of_a_server_that_answers_is_forgiven(
    world: NameServers, reports: Reports
) -> None:
    """One address of a server is enough to have asked it."""
    world.zones.create(NAME, "TXT", "value")
    world.zones.seed("ns1.dns.test", "A", "127.0.53.77")

    world.propagation(answer_within=SHORT_WAIT).wait(values_at(), reports)

    assert [] == reports.sentences


def test_address_without_a_route_is_left_out(world: NameServers, reports: Reports) -> None:
    """As IPv6 on a host that has none: the run does not wait for it."""
    world.zones.create(NAME, "TXT", "value")
    world.zones.seed("ns1.dns.test", "A", UNROUTABLE)

    world.propagation().wait(values_at(), reports)

    assert [] == reports.sentences


def test_server_without_a_route_is_left_out_and_named(world: NameServers, reports: Reports) -> None:
    """It would never be seen; while the run waits for another server, the operator reads of it."""
    world.zones.add_zone("example.org", ["ns1.dns.test", "ns.far.test"])
    world.zones.add_zone("far.test", ["ns1.dns.test"])
    world.zones.seed("ns.far.test", "A", UNROUTABLE)
    name = "_acme-challenge.example.org"

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0)).wait(values_at(name), reports)
    world.zones.create(name, "TXT", "value")
    world.propagation().wait(values_at(name), reports)

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
        world.propagation(timeout=timedelta(seconds=1)).wait(values_at("a.example.org"), reports)

    assert {"this host cannot reach any name server"} == set(reports.sentences)


def test_server_without_an_address_is_missing(world: NameServers, reports: Reports) -> None:
    """A name in the NS records that leads nowhere is a fault of the delegation."""
    world.zones.add_zone("example.org", ["ns1.dns.test", "ns.gone.test"])
    world.zones.create("a.example.org", "TXT", "value")

    with pytest.raises(PropagationTimeout, match=r"missing at ns.gone.test \(has no address\)"):
        world.propagation(timeout=timedelta(0)).wait(values_at("a.example.org"), reports)


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
        world.propagation(pause=pause).wait(values_at(), reports)


# a dead name server beside others that show the challenge


def test_order_goes_on_without_a_dead_server(
    world: NameServers, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    """One that never answers is waited for as long as a restart may take, and named: CAs ask any
    server. The next order of the run does not wait for it again.
    """
    world.zones.create(NAME, "TXT", "value")
    world.zones.create(f"_acme-challenge.www.{NAME}", "TXT", "value")
    world.servers[0].down()
    propagation = world.propagation(timeout=timedelta(minutes=5), answer_within=SHORT_WAIT)

    propagation.wait(values_at(), reports)
    first = world.waits.clock()
    propagation.wait(values_at(f"_acme-challenge.www.{NAME}"), reports)

    assert SILENT.total_seconds() <= first < SILENT.total_seconds() + 6
    assert first == world.waits.clock()
    assert "ns1.dns.test gave no answer about _acme-challenge.example.com" in caplog.text
    assert "NS records of example.com" in caplog.text


def test_short_propagation_timeout_bounds_the_wait_for_a_dead_server(
    world: NameServers, reports: Reports
) -> None:
    """An operator who gives the challenge less time waits no longer for a dead server either."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[1].down()

    propagation = world.propagation(timeout=timedelta(seconds=9), answer_within=SHORT_WAIT)
    propagation.wait(values_at(), reports)

    assert 9 == pytest.approx(world.waits.clock())


def test_dead_server_excuses_no_server_that_answers_without_the_value(
    world: NameServers, reports: Reports
) -> None:
    """The CA may ask the server that lacks the value."""
    world.zones.add_zone("example.org", HOSTS)
    world.zones.create("a.example.org", "TXT", "value")
    world.servers[0].down()
    world.servers[2].lag = float("inf")

    with pytest.raises(PropagationTimeout, match=r"ns1.dns.test \(no answer\), ns3.dns.test \("):
        world.propagation(answer_within=SHORT_WAIT).wait(values_at("a.example.org"), reports)


def test_order_does_not_go_on_without_a_dead_server_before_resolvers_see_it(
    world: NameServers, reports: Reports
) -> None:
    """A server that is silent here may answer the world, without the value."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[1].down()
    world.resolver.unseen.add(NAME)

    with pytest.raises(PropagationTimeout, match=r"missing at ns2\.dns\.test"):
        world.propagation(answer_within=SHORT_WAIT).wait(values_at(), reports)


@pytest.mark.parametrize("dead", [[], [1], [0, 1]])
def test_name_servers_that_do_not_answer_are_named(world: NameServers, dead: list[int]) -> None:
    """With the zone, and whether others answer."""
    for number in dead:
        world.servers[number].down()

    found = list(world.propagation(answer_within=SHORT_WAIT).silent_servers([NAME, NET_NAME]))

    hosts = tuple(HOSTS[number] for number in dead)
    wanted = [SilentServers(NAME, "example.com", hosts, len(dead) < 2)] if dead else []
    assert wanted == found
