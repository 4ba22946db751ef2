"""Propagation of a challenge: at every server of its zone, or after a fixed wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.acme.nameservers import (
    Heard,
    PropagationStatus,
    Reading,
    ServerVerdict,
    Sought,
    ask,
    judged_server,
    read,
)
from certferry.adapters.acme.propagation import DnsPropagation, FixedWait
from certferry.errors import (
    DnsRejected,
    DnsUnavailable,
    Interrupted,
    PropagationTimeout,
    Retry,
    ZoneNotFound,
)
from certferry.text import Text
from certferry_sandbox.nameserver.daemon import Transport
from certferry_sandbox.nameserver.service import DnsServer
from tests.adapters.acme.name_servers import (
    ANSWER_WITHIN,
    NAME,
    SHORT_WAIT,
    START,
    TIMEOUT,
    NameServers,
    OddServer,
    Reports,
    odd_servers,
    values_at,
)
from tests.adapters.recorded_pauses import RecordedPauses
from tests.support.tiers import long

# --- DnsPropagation, at real name servers


NET_NAME = "_acme-challenge.example.net"


def txt_queries(server: DnsServer) -> list[str]:
    return [query.transport.value for query in server.queries if query.type == "TXT"]


def silent(server: DnsServer) -> None:
    """Let the server ignore all queries."""
    server.down()


# --- Challenges at all servers


def test_value_at_every_server_needs_no_wait(world: NameServers, reports: Reports) -> None:
    """Each server of the zone gets a single query over UDP, and other servers get none."""
    world.zones.create(NAME, "TXT", "value")

    world.propagation().wait(values_at(), reports)

    assert [["udp"], ["udp"], []] == [txt_queries(server) for server in world.servers]
    assert [] == world.waits.seconds
    assert [] == reports.sentences


def test_slowest_server_decides(world: NameServers, reports: Reports) -> None:
    """The wait ends when the last server shows the value, and the reports name this server."""
    world.servers[1].lag = 12
    world.zones.create(NAME, "TXT", "value")

    world.propagation().wait(values_at(), reports)

    assert 12 <= world.waits.clock() < 18
    assert {"waiting for the challenge to appear at ns2.dns.test (value absent)"} == set(
        reports.sentences
    )
    assert {(START, START + TIMEOUT)} == reports.moments
    assert ["udp"] == txt_queries(world.servers[0])


def test_pauses_between_queries_grow(world: NameServers, reports: Reports) -> None:
    """The first pause is short, and later pauses grow up to 5 s."""
    world.servers[1].lag = 55
    world.zones.create(NAME, "TXT", "value")

    world.propagation().wait(values_at(), reports)

    pauses = world.waits.seconds
    assert 0.2 == pauses[0]
    assert pauses == sorted(pauses)
    assert 5.0 == max(pauses)
    assert len(pauses) < 22


def test_apex_and_wildcard_are_both_waited_for(world: NameServers, reports: Reports) -> None:
    """A single value of the two is insufficient."""
    world.servers[0].lag = world.servers[1].lag = 3
    world.zones.create(NAME, "TXT", "of-apex")
    world.waits(20)
    world.zones.create(NAME, "TXT", "of-wildcard")

    world.propagation().wait(values_at(NAME, "of-apex", "of-wildcard"), reports)

    assert 23 <= world.waits.clock() < 26


def test_each_name_is_queried_in_its_own_zone(world: NameServers, reports: Reports) -> None:
    """A run waits for names in several zones together."""
    world.servers[2].lag = 4
    world.zones.create(NAME, "TXT", "value")
    world.zones.create(NET_NAME, "TXT", "value")

    world.propagation().wait(values_at(NAME) | values_at(NET_NAME), reports)

    assert {"waiting for the challenge to appear at ns3.dns.test (value absent)"} == set(
        reports.sentences
    )
    assert 4 <= world.waits.clock() < 6


def test_sub_zone_has_its_own_servers(world: NameServers, reports: Reports) -> None:
    """The zone cut, and not the registered domain, selects the servers."""
    world.zones.add_zone("dev.example.com", ["ns3.dns.test"])
    world.zones.create("_acme-challenge.img.dev.example.com", "TXT", "value")

    world.propagation().wait(values_at("_acme-challenge.img.dev.example.com"), reports)

    assert [[], [], ["udp"]] == [txt_queries(server) for server in world.servers]


def test_many_values_come_over_tcp(world: NameServers, reports: Reports) -> None:
    """A truncated answer over UDP leads to a query over TCP."""
    values = [f"value-{number:040}" for number in range(40)]
    for value in values:
        world.zones.create(NAME, "TXT", value)

    world.propagation().wait(values_at(NAME, *values), reports)

    assert [["udp", "tcp"]] * 2 == [txt_queries(server) for server in world.servers[:2]]


def test_long_value_is_joined(world: NameServers, reports: Reports) -> None:
    """The strings of 255 bytes in a record form a single value."""
    world.zones.create(NAME, "TXT", "x" * 600)

    world.propagation().wait(values_at(NAME, "x" * 600), reports)

    assert [] == reports.sentences


def test_query_is_not_recursive(reports: Reports) -> None:
    """The query desires no recursion, and EDNS allows a long answer."""
    act = txt_answer("a.example.com", "value")
    server = OddServer(DELEGATION | {("a.example.com", "TXT"): act})

    with odd_servers(server) as port:
        odd_propagation(port).wait(values_at("a.example.com"), reports)

    [query] = [query for query in server.queries if "TXT" in query.question[0].to_text()]
    assert 0 == query.flags & dns.flags.RD
    assert (0, 1232) == (query.edns, query.payload)


# --- Unusual answers

SOA = "ns.example.com. hostmaster.example.com. 1 2 3 4 5"
DELEGATION = {
    ("a.example.com", "SOA"): [("authority", "example.com.", 5, "IN", "SOA", SOA)],
    ("example.com", "NS"): [("answer", "example.com.", 5, "IN", "NS", "ns.example.com.")],
    ("ns.example.com", "A"): [("answer", "ns.example.com.", 5, "IN", "A", "127.0.53.8")],
}


def odd_propagation(port: int, answer_within: timedelta = ANSWER_WITHIN) -> DnsPropagation:
    """Return a check without a wait. The server is the resolver and the only name server."""
    return DnsPropagation(
        resolvers=[("127.0.53.8", port)],
        port=port,
        timeout=timedelta(0),
        pause=RecordedPauses(),
        now=lambda: START,
        answer_within=answer_within,
    )


def txt_answer(name: str, value: str) -> list[tuple[str, Any]] | Callable[..., bytes]:
    """Answer authoritatively with a TXT value."""

    def act(response: Any, transport: Transport) -> bytes:
        response.flags |= dns.flags.AA
        response.answer.append(dns.rrset.from_text(f"{name}.", 5, "IN", "TXT", value))
        return bytes(response.to_wire())

    return act


def truncated_then(over_tcp: bytes | None) -> Callable[..., bytes | None]:
    """Answer over UDP with a truncated message, and over TCP with given bytes."""

    def act(response: Any, transport: Transport) -> bytes | None:
        if transport is Transport.TCP:
            return over_tcp
        response.flags |= dns.flags.TC
        return bytes(response.to_wire())

    return act


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (truncated_then(b"\x00" * 7), "an unreadable answer"),
        (truncated_then(b"\x00" * 30), "an unreadable answer"),
        (truncated_then(None), "no answer"),
        (lambda _, __: b"junk", "no answer"),
        (lambda _, __: None, "no answer"),
    ],
)
def test_malformed_answer_counts_as_silence(
    reports: Reports, act: Callable[..., bytes | None], why: str
) -> None:
    """Malformed bytes over UDP may have any sender and are ignored; over TCP they count."""
    server = OddServer(DELEGATION | {("a.example.com", "TXT"): act})

    with (
        odd_servers(server) as port,
        pytest.raises(PropagationTimeout, match=rf"ns.example.com \({why}\)"),
    ):
        odd_propagation(port, SHORT_WAIT).wait(values_at("a.example.com"), reports)


# --- Aliases


def test_challenge_name_without_an_alias(world: NameServers) -> None:
    """The name stays the same, whether the name exists or not."""
    world.zones.create(NAME, "TXT", "value")

    assert NAME == world.propagation().follow(NAME)
    assert NET_NAME == world.propagation().follow(NET_NAME)


def test_alias_into_another_zone(world: NameServers, reports: Reports) -> None:
    """A chain of aliases is followed, and the servers of the last zone get the query."""
    world.zones.seed(NAME, "CNAME", "Example-Com.Challenges.example.net.")
    world.zones.seed("example-com.challenges.example.net", "CNAME", "real.example.net.")
    world.zones.create("real.example.net", "TXT", "value")

    end = world.propagation().follow(NAME)
    world.propagation().wait(values_at(end), reports)

    assert "real.example.net" == end
    assert [[], [], ["udp"]] == [txt_queries(server) for server in world.servers]


def test_wildcard_alias_is_ignored(world: NameServers, reports: Reports) -> None:
    """When a wildcard leads to a CDN, the challenge is still written at its own name."""
    world.zones.seed("*.example.com", "CNAME", "edge.example.net.")

    assert NAME == world.propagation().follow(NAME)
    assert "edge.example.net" == world.propagation().wildcard_alias(NAME)

    world.zones.create(NAME, "TXT", "value")
    world.propagation().wait(values_at(NAME), reports)


def test_alias_beside_a_wildcard_is_followed(world: NameServers) -> None:
    """The operator's own alias for the challenge takes precedence over the wildcard."""
    world.zones.seed("*.example.com", "CNAME", "edge.example.net.")
    world.zones.seed(NAME, "CNAME", "challenges.example.net.")

    assert "challenges.example.net" == world.propagation().follow(NAME)
    assert world.propagation().wildcard_alias(NAME) is None


@pytest.mark.parametrize("length", [1, 2, 5])
def test_loop_of_aliases_is_reported(world: NameServers, length: int) -> None:
    """The hint shows the whole loop, so that the operator can break the loop."""
    names = [NAME, *(f"alias-{number}.example.com" for number in range(1, length))]
    for name, target in zip(names, [*names[1:], NAME], strict=True):
        world.zones.seed(name, "CNAME", f"{target}.")

    with pytest.raises(DnsRejected, match=f"CNAME loop at {NAME}") as circle:
        world.propagation().follow(NAME)

    assert " → ".join([*names, NAME]) in str(circle.value.hint)


def test_length_of_a_chain_of_aliases_is_limited(world: NameServers) -> None:
    """Eight aliases are followed, and nine are an error."""
    names = [NAME, *(f"alias-{number}.example.com" for number in range(1, 10))]
    for name, target in pairwise(names):
        world.zones.seed(name, "CNAME", f"{target}.")

    assert names[-1] == world.propagation().follow(names[1])
    with pytest.raises(DnsRejected, match="too many aliases"):
        world.propagation().follow(NAME)


def test_name_too_long_for_dns_is_refused(world: NameServers) -> None:
    """A valid certificate name may leave too little room for the challenge's label."""
    name = "_acme-challenge." + ".".join(["a" * 60] * 4)

    with pytest.raises(DnsRejected, match="is too long or malformed for a DNS query"):
        world.propagation().follow(name)


def test_undelegated_domain_is_reported_at_once(world: NameServers, reports: Reports) -> None:
    """Resolvers would never see the value."""
    with pytest.raises(ZoneNotFound, match=r"a\.unregistered\.test") as nowhere:
        world.propagation().wait(values_at("a.unregistered.test"), reports)

    assert "registered" in str(nowhere.value.hint)
    assert Retry.LATER == nowhere.value.retry


def test_silent_resolver_is_named(world: NameServers, reports: Reports) -> None:
    """The hint names the setting for other resolvers."""
    world.resolver.down()

    with pytest.raises(DnsUnavailable) as silent:
        world.propagation(answer_within=SHORT_WAIT).wait(values_at(), reports)

    assert f"127.0.53.9:{world.port} (no answer)" in str(silent.value)
    assert "[dns].resolvers" in str(silent.value.hint)


# --- Many servers


@long
def test_zone_with_very_many_servers(reports: Reports) -> None:
    """The number of queried servers is limited, and the deadline also ends a round."""
    hosts = tuple(f"ns{number}.many.test" for number in range(400))
    world = NameServers()
    world.zones.add_zone("example.org", hosts)
    world.zones.add_zone("many.test", ["ns1.dns.test"])
    for number, host in enumerate(hosts):
        for last in range(30):
            world.zones.seed(host, "A", f"127.1.{number % 250}.{last + 1}")
    with world.service:
        started = time.monotonic()
        propagation = world.propagation(
            now=lambda: datetime.now(UTC), timeout=timedelta(0), answer_within=timedelta(seconds=2)
        )
        with pytest.raises(PropagationTimeout):
            propagation.wait(values_at("_acme-challenge.example.org"), reports)

    assert time.monotonic() - started < 20
    assert len([q for q in world.resolver.queries if q.type == "A"]) <= 40


# --- The verdict about a server, for any addresses and answers


VALUES = st.frozensets(st.sampled_from(["a", "b", "c"]))
READINGS = st.builds(
    Reading,
    heard=st.sampled_from(Heard),
    why=st.sampled_from([Text("one reason"), Text("another")]),
    values=VALUES,
)
STATUS_NAME = "_acme-challenge.example.com"


@given(st.lists(READINGS, max_size=5), VALUES)
def test_server_shows_the_challenge_when_every_answer_does(
    readings: list[Reading], wanted: frozenset[str]
) -> None:
    """Silence beside a complete answer is tolerated; an incomplete or failed answer is decisive."""
    verdict, _ = judged_server(readings, wanted)

    answers = [r for r in readings if r.heard not in {Heard.SILENCE, Heard.NO_ROUTE}]
    assert (verdict is ServerVerdict.SEEN) == (
        bool(answers) and all(r.shows(wanted) for r in answers)
    )


@given(st.lists(READINGS, max_size=5), VALUES)
def test_only_an_unreachable_server_is_left_out(
    readings: list[Reading], wanted: frozenset[str]
) -> None:
    """A server without any address counts as missing."""
    verdict, _ = judged_server(readings, wanted)

    unreachable = [r.heard is Heard.NO_ROUTE for r in readings]
    assert (verdict is ServerVerdict.LEFT_OUT) == (bool(readings) and all(unreachable))


@given(st.lists(READINGS, min_size=1, max_size=5), VALUES)
def test_reason_comes_from_an_incomplete_address(
    readings: list[Reading], wanted: frozenset[str]
) -> None:
    """The operator reads the reason of an address with a problem."""
    verdict, why = judged_server(readings, wanted)

    reasons = [r.why for r in readings if not r.shows(wanted)]
    assert verdict is ServerVerdict.SEEN or why in reasons


@given(
    st.dictionaries(st.sampled_from(["1", "2", "3"]), READINGS),
    st.lists(st.lists(st.sampled_from(["1", "2", "3"]), unique=True), min_size=1, max_size=3),
    VALUES,
)
def test_incomplete_addresses_are_queried_again(
    readings: dict[str, Reading], servers: list[list[str]], wanted: frozenset[str]
) -> None:
    """An address without the complete values is queried again; other addresses are left alone."""
    hosts = {f"ns{i}": tuple(addresses) for i, addresses in enumerate(servers)}
    sought = Sought(STATUS_NAME, "example.com", wanted, tuple(hosts))
    status = PropagationStatus([sought], hosts)
    for address, reading in readings.items():
        status.note(address, STATUS_NAME, reading)

    to_ask = status.to_ask()
    verdicts = [verdict for verdict, _ in status.verdicts(sought).values()]
    assert bool(status.incomplete) == (
        ServerVerdict.MISSING in verdicts or ServerVerdict.SEEN not in verdicts
    )
    assert all([STATUS_NAME] == names for names in to_ask.values())
    for address in to_ask:
        assert not (address in readings and readings[address].shows(wanted))
    for host, (verdict, _) in status.verdicts(sought).items():
        if verdict is not ServerVerdict.SEEN:
            lacking = [a for a in hosts[host] if a not in readings or a in to_ask]
            assert bool(hosts[host]) == bool(lacking)


def answer(
    records: dict[str, list[bytes]],
    *,
    flags: int = dns.flags.AA,
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
) -> dns.message.Message:
    """Return a parsed response: name → the strings of a single TXT record."""
    query = dns.message.make_query(STATUS_NAME, "TXT")
    response = dns.message.make_response(query)
    response.flags |= flags
    response.set_rcode(rcode)
    for name, strings in records.items():
        data = dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
        response.answer.append(dns.rrset.from_rdata(f"{name}.", 60, data))
    return dns.message.from_wire(response.to_wire())


STRINGS = st.lists(st.binary(max_size=255), min_size=1, max_size=4)


@given(STRINGS)
def test_strings_of_a_record_form_a_value(strings: list[bytes]) -> None:
    """The division into strings is irrelevant, and any bytes are allowed."""
    reading = read(answer({STATUS_NAME: strings}), STATUS_NAME)

    assert Heard.ANSWER is reading.heard
    assert frozenset([b"".join(strings).decode(errors="replace")]) == reading.values


@given(STRINGS, st.sampled_from(sorted(dns.rcode.Rcode)), st.booleans())
def test_only_an_authoritative_answer_counts(
    strings: list[bytes], rcode: dns.rcode.Rcode, is_authoritative: object
) -> None:
    """Answers from a cache and answers with an error are no evidence."""
    if rcode > dns.rcode.YXRRSET:
        return  # rcodes above YXRRSET need EDNS, and are failures like the others
    flags = dns.flags.AA if is_authoritative else 0
    reading = read(answer({STATUS_NAME: strings}, flags=flags, rcode=rcode), STATUS_NAME)

    fine = bool(is_authoritative) and rcode in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
    refused = rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
    other = Heard.REFUSAL if refused else Heard.HEARSAY
    assert (Heard.ANSWER if fine else other) is reading.heard
    assert fine or not reading.shows(frozenset())


def test_values_of_another_name_do_not_count() -> None:
    """The target of an alias in the same answer is another name."""
    reading = read(answer({"elsewhere.example.com": [b"value"]}), STATUS_NAME)

    assert frozenset() == reading.values
    assert Heard.ANSWER is reading.heard


@pytest.mark.parametrize("silent", [True, False])
def test_server_that_only_answers_over_tcp(*, silent: bool) -> None:
    """Networks that block or intercept UDP often let TCP pass."""

    def act(response: dns.message.Message, transport: Transport) -> bytes | None:
        if transport is Transport.TCP:
            response.flags |= dns.flags.AA
            response.answer.append(dns.rrset.from_text(f"{STATUS_NAME}.", 60, "IN", "TXT", "value"))
        return None if silent and transport is Transport.UDP else response.to_wire()

    server = OddServer({(STATUS_NAME, "TXT"): act})
    with odd_servers(server) as port:
        reading = ask(server.address, port, STATUS_NAME, timedelta(seconds=1))

    assert (Heard.ANSWER, frozenset(["value"])) == (reading.heard, reading.values)
    assert 2 == len(server.queries)


def test_failed_query_over_udp_and_tcp() -> None:
    """The reason describes the answer over UDP, and not the refused TCP connection."""

    def act(response: dns.message.Message, transport: Transport) -> bytes | None:
        return response.to_wire() if transport is Transport.UDP else None

    server = OddServer({(STATUS_NAME, "TXT"): act})
    with odd_servers(server) as port:
        reading = ask(server.address, port, STATUS_NAME, timedelta(seconds=0.3))

    assert (Heard.HEARSAY, "not authoritative") == (reading.heard, str(reading.why))


def test_unroutable_address() -> None:
    """The system refuses to send the query, and gives a reason."""
    reading = ask("255.255.255.255", 53, STATUS_NAME, timedelta(seconds=1))

    assert (Heard.NO_ROUTE, "Permission denied") == (reading.heard, str(reading.why))


def test_refused_connection_is_silence() -> None:
    """A host that refuses connections can be reached, so its server counts as silent."""
    reading = ask("127.0.53.99", 1, STATUS_NAME, timedelta(seconds=0.1))

    assert Heard.SILENCE is reading.heard


# --- A fixed wait, for hosts without DNS queries


def test_fixed_wait_sends_no_query() -> None:
    """The wait has neither resolvers nor a port for queries."""
    waits, reports = RecordedPauses(), Reports()

    FixedWait(timedelta(seconds=120), waits, lambda: START).wait(values_at(), reports)

    assert 120 == waits.clock()
    assert ["waiting 2 minutes for the challenge to appear, without checking"] == reports.sentences
    assert {(START, START + timedelta(seconds=120))} == reports.moments


def test_fixed_wait_follows_no_alias() -> None:
    """Without queries a CNAME is invisible."""
    wait = FixedWait(timedelta(seconds=1), RecordedPauses(), lambda: START)

    assert NAME == wait.follow(NAME)
    assert wait.wildcard_alias(NAME) is None


def test_stopped_run_stops_waiting() -> None:
    """The exception of the pause reaches the caller."""

    def pause(seconds: float) -> None:
        raise Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        FixedWait(timedelta(seconds=120), pause, lambda: START).wait(values_at(), Reports())
