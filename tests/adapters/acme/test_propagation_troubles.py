"""Propagation with slow, silent, refusing, or unreachable name servers."""

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
from tests.adapters.acme.test_propagation import NET_NAME, silent, txt_queries

LONGER_WAIT = timedelta(seconds=1)

UNROUTABLE = "255.255.255.255"  # an address of no host, to which the system refuses to send


def lame(server: DnsServer) -> None:
    server.lame()


def refusing(server: DnsServer) -> None:
    server.refusing()


def failing(server: DnsServer) -> None:
    server.refusing(dns.rcode.SERVFAIL)


# --- Timeouts


def test_timeout_lists_complete_and_missing_servers(world: NameServers, reports: Reports) -> None:
    """The error has a reason for each missing server, and the hint has the remedies."""
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


def test_timeout_names_only_missing_challenges(world: NameServers, reports: Reports) -> None:
    """A challenge at every server is left out of the message."""
    world.zones.create(NAME, "TXT", "value")

    with pytest.raises(PropagationTimeout) as late:
        world.propagation().wait(values_at(NAME) | values_at(NET_NAME), reports)

    assert f"{NET_NAME} was seen at none; missing at ns3.dns.test" in str(late.value)
    assert NAME not in str(late.value)


@pytest.mark.parametrize(
    ("trouble", "why"), [(lame, "not authoritative"), (refusing, "REFUSED"), (failing, "SERVFAIL")]
)
def test_server_without_the_zone_counts_as_missing(
    world: NameServers, reports: Reports, trouble: Callable[[DnsServer], None], why: str
) -> None:
    """Even a correct value does not help, and the hint names the registrar."""
    world.zones.create(NAME, "TXT", "value")
    trouble(world.servers[1])

    with pytest.raises(PropagationTimeout) as late:
        world.propagation().wait(values_at(), reports)

    assert f"missing at ns2.dns.test ({why})" in str(late.value)
    assert "ns2.dns.test should serve example.com" in str(late.value.hint)
    assert "registrar" in str(late.value.hint)


def test_every_server_is_silent(world: NameServers, reports: Reports) -> None:
    """Servers of several zones rarely fail together, so the hint blames this host's network."""
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
def test_other_host_answers_in_place_of_every_server(
    dead: list[int], world: NameServers, reports: Reports
) -> None:
    """The answering host lacks the zones: the hint suspects a router, not the registrar."""
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


def test_unserved_zone_beside_a_served_zone(world: NameServers, reports: Reports) -> None:
    """This host's queries reach name servers, so the zone is at fault."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[2].lame()

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0)).wait(values_at(NAME) | values_at(NET_NAME), reports)

    assert "ns3.dns.test should serve example.net" in str(late.value.hint)


@pytest.mark.parametrize("trouble", [failing, silent])
def test_failed_lookup_of_an_address_is_repeated(
    trouble: Callable[[DnsServer], None], world: NameServers, reports: Reports
) -> None:
    """A resolver's short failure costs a single round."""
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


def test_server_without_a_known_address_is_left_out(
    world: NameServers, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    """After a while the server is left out with a warning, because the CA cannot find it either."""
    world.zones.add_zone("example.org", ["ns1.dns.test", "ns.broken.test"])
    world.zones.create("a.example.org", "TXT", "value")
    world.zones.add_zone("broken.test", ["ns3.dns.test"])
    world.servers[2].refusing(dns.rcode.SERVFAIL)

    world.propagation(answer_within=SHORT_WAIT).wait(values_at("a.example.org"), reports)

    assert 30 <= world.waits.clock() < 45
    assert "every name server shows the challenge except ns.broken.test" in caplog.text


def test_dead_server_is_named_beside_answering_servers(
    world: NameServers, reports: Reports
) -> None:
    """The silent server counts as missing, and other servers' answers count in the same round."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[0].down()
    world.resolver.unseen.add(NAME)

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(seconds=1), answer_within=SHORT_WAIT).wait(
            values_at(), reports
        )

    assert "was seen at ns2.dns.test; missing at ns1.dns.test (no answer)" in str(late.value)
    assert ["udp"] == txt_queries(world.servers[1])
    hint = str(late.value.hint)
    assert "ns1.dns.test do not answer this host, but other name servers of example.com do" in hint
    assert "port 53, UDP and TCP" in hint


def test_dead_servers_are_queried_concurrently(world: NameServers, reports: Reports) -> None:
    """Addresses are queried concurrently, and a silent address gets no query for a second name. In
    sequence, each query would wait for the timeout of the query before.
    """
    dead = [f"127.0.53.{number}" for number in range(20, 27)]
    for address in dead:
        world.zones.seed("ns3.dns.test", "A", address)
    names = [f"_acme-challenge.{label}.example.net" for label in "abcd"]
    wanted = {name: frozenset(["value"]) for name in names}
    times: list[float] = []

    def stay_silent(wire: bytes, transport: Transport) -> None:
        del wire
        if transport is Transport.UDP:
            times.append(time.monotonic())

    world.servers[2].down()
    silent = DnsDaemon(dict.fromkeys(dead, stay_silent), port=world.port).start()
    try:
        with pytest.raises(PropagationTimeout):
            world.propagation(timeout=timedelta(0), answer_within=LONGER_WAIT).wait(wanted, reports)
    finally:
        silent.stop()

    assert len(dead) == len(times)
    assert max(times) - min(times) < len(dead) / 2 * LONGER_WAIT.total_seconds()
    assert ["udp", "tcp"] == txt_queries(world.servers[2])


def test_recovered_server_is_noticed(world: NameServers, reports: Reports) -> None:
    """Short silence over UDP and TCP costs a single round."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[0].drop(2)

    world.propagation(answer_within=SHORT_WAIT).wait(values_at(), reports)

    assert ["waiting for the challenge to appear at ns1.dns.test (no answer)"] == reports.sentences


def test_silent_address_of_an_answering_server_is_tolerated(
    world: NameServers, reports: Reports
) -> None:
    """A single answering address per server is enough."""
    world.zones.create(NAME, "TXT", "value")
    world.zones.seed("ns1.dns.test", "A", "127.0.53.77")

    world.propagation(answer_within=SHORT_WAIT).wait(values_at(), reports)

    assert [] == reports.sentences


def test_address_without_a_route_is_left_out(world: NameServers, reports: Reports) -> None:
    """The address may be IPv6 on a host without IPv6, so the run does not wait."""
    world.zones.create(NAME, "TXT", "value")
    world.zones.seed("ns1.dns.test", "A", UNROUTABLE)

    world.propagation().wait(values_at(), reports)

    assert [] == reports.sentences


def test_server_without_a_route_is_named(world: NameServers, reports: Reports) -> None:
    """The server can never answer here; the error names the server beside a missing server."""
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


def test_unreachable_zone_is_a_timeout(world: NameServers, reports: Reports) -> None:
    """Without a single reachable server the challenge counts as unseen."""
    world.zones.add_zone("example.org", ["ns.far.test"])
    world.zones.add_zone("far.test", ["ns1.dns.test"])
    world.zones.seed("ns.far.test", "A", UNROUTABLE)

    with pytest.raises(PropagationTimeout, match="was seen at none; not reachable from here"):
        world.propagation(timeout=timedelta(seconds=1)).wait(values_at("a.example.org"), reports)

    assert {"this host cannot reach any name server"} == set(reports.sentences)


def test_server_without_an_address_is_missing(world: NameServers, reports: Reports) -> None:
    """An NS record without an address is a fault of the delegation."""
    world.zones.add_zone("example.org", ["ns1.dns.test", "ns.gone.test"])
    world.zones.create("a.example.org", "TXT", "value")

    with pytest.raises(PropagationTimeout, match=r"missing at ns.gone.test \(has no address\)"):
        world.propagation(timeout=timedelta(0)).wait(values_at("a.example.org"), reports)


def test_invented_addresses_are_recognised() -> None:
    """Proxies that answer DNS queries use a range of addresses that no server has."""
    sought = Sought(NAME, "example.com", frozenset(["value"]), ("ns1.dns.test",))
    status = PropagationStatus([sought], {"ns1.dns.test": ("198.18.0.7",)})

    assert "made-up addresses (198.18.0.7)" in str(advice(status, {}))


def test_stopped_run_stops_waiting(world: NameServers, reports: Reports) -> None:
    """The exception of the pause reaches the caller."""

    def pause(seconds: float) -> None:
        raise Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        world.propagation(pause=pause).wait(values_at(), reports)


# --- Dead servers beside servers with the challenge


def test_order_goes_on_without_a_dead_server(
    world: NameServers, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    """A silent server gets as much time as a restart may take, and is named, because a CA may ask
    any server. The next order of the run does not wait again.
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
    """A short timeout for the challenge also limits the wait for a silent server."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[1].down()

    propagation = world.propagation(timeout=timedelta(seconds=9), answer_within=SHORT_WAIT)
    propagation.wait(values_at(), reports)

    assert 9 == pytest.approx(world.waits.clock())


def test_dead_server_does_not_excuse_a_server_without_the_value(
    world: NameServers, reports: Reports
) -> None:
    """The CA may ask the server that lacks the value."""
    world.zones.add_zone("example.org", HOSTS)
    world.zones.create("a.example.org", "TXT", "value")
    world.servers[0].down()
    world.servers[2].lag = float("inf")

    with pytest.raises(PropagationTimeout, match=r"ns1.dns.test \(no answer\), ns3.dns.test \("):
        world.propagation(answer_within=SHORT_WAIT).wait(values_at("a.example.org"), reports)


def test_dead_server_is_ignored_only_when_resolvers_see_the_value(
    world: NameServers, reports: Reports
) -> None:
    """A server that is silent here may answer elsewhere without the value."""
    world.zones.create(NAME, "TXT", "value")
    world.servers[1].down()
    world.resolver.unseen.add(NAME)

    with pytest.raises(PropagationTimeout, match=r"missing at ns2\.dns\.test"):
        world.propagation(answer_within=SHORT_WAIT).wait(values_at(), reports)


@pytest.mark.parametrize("dead", [[], [1], [0, 1]])
def test_silent_name_servers_are_listed(world: NameServers, dead: list[int]) -> None:
    """The list has the zone, and whether other servers answer."""
    for number in dead:
        world.servers[number].down()

    listed = list(world.propagation(answer_within=SHORT_WAIT).silent_servers([NAME, NET_NAME]))

    hosts = tuple(HOSTS[number] for number in dead)
    wanted = [SilentServers(NAME, "example.com", hosts, len(dead) < 2)] if dead else []
    assert wanted == listed
