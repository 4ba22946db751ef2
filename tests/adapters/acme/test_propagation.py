"""When a challenge counts as seen: by every server of its zone, or after a fixed wait."""

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

# --- DnsPropagation, asked of real name servers: what is seen, odd answers, and where it is looked


NET_NAME = "_acme-challenge.example.net"


def asked_for_txt(server: DnsServer) -> list[str]:
    return [query.transport.value for query in server.queries if query.type == "TXT"]


def silent(server: DnsServer) -> None:
    """Answer nothing."""
    server.down()


# seen


def test_value_that_is_everywhere_is_not_waited_for(world: NameServers, reports: Reports) -> None:
    """Each server of the zone is asked once, over UDP, and no other, without a pause."""
    world.zones.create(NAME, "TXT", "value")

    world.propagation().wait(values_at(), reports)

    assert [["udp"], ["udp"], []] == [asked_for_txt(server) for server in world.servers]
    assert [] == world.waits.seconds
    assert [] == reports.sentences


def test_slowest_server_decides(world: NameServers, reports: Reports) -> None:
    """The wait ends when the last server shows the value, and says which one it is waiting for."""
    world.servers[1].lag = 12
    world.zones.create(NAME, "TXT", "value")

    world.propagation().wait(values_at(), reports)

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

    world.propagation().wait(values_at(), reports)

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

    world.propagation().wait(values_at(NAME, "of-apex", "of-wildcard"), reports)

    assert 23 <= world.waits.clock() < 26


def test_each_name_is_asked_of_its_own_zone(world: NameServers, reports: Reports) -> None:
    """A run waits for names of several zones together."""
    world.servers[2].lag = 4
    world.zones.create(NAME, "TXT", "value")
    world.zones.create(NET_NAME, "TXT", "value")

    world.propagation().wait(values_at(NAME) | values_at(NET_NAME), reports)

    assert {"waiting for the challenge to appear at ns3.dns.test (value absent)"} == set(
        reports.sentences
    )
    assert 4 <= world.waits.clock() < 6


def test_sub_zone_has_servers_of_its_own(world: NameServers, reports: Reports) -> None:
    """The zone cut decides whom to ask, not the registered domain."""
    world.zones.add_zone("dev.example.com", ["ns3.dns.test"])
    world.zones.create("_acme-challenge.img.dev.example.com", "TXT", "value")

    world.propagation().wait(values_at("_acme-challenge.img.dev.example.com"), reports)

    assert [[], [], ["udp"]] == [asked_for_txt(server) for server in world.servers]


def test_many_values_come_over_tcp(world: NameServers, reports: Reports) -> None:
    """What does not fit a UDP answer is asked for again over TCP."""
    values = [f"value-{number:040}" for number in range(40)]
    for value in values:
        world.zones.create(NAME, "TXT", value)

    world.propagation().wait(values_at(NAME, *values), reports)

    assert [["udp", "tcp"]] * 2 == [asked_for_txt(server) for server in world.servers[:2]]


def test_long_value_is_put_together(world: NameServers, reports: Reports) -> None:
    """A record's strings of 255 bytes are one value."""
    world.zones.create(NAME, "TXT", "x" * 600)

    world.propagation().wait(values_at(NAME, "x" * 600), reports)

    assert [] == reports.sentences


def test_question_is_plain(reports: Reports) -> None:
    """No recursion is desired, and EDNS makes room for a long answer."""
    act = authoritative("a.example.com", "value")
    server = OddServer(DELEGATION | {("a.example.com", "TXT"): act})

    with odd_servers(server) as port:
        odd_propagation(port).wait(values_at("a.example.com"), reports)

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
    """Ask once the server that is everything: resolver and only name server."""
    return DnsPropagation(
        resolvers=[("127.0.53.8", port)],
        port=port,
        timeout=timedelta(0),
        pause=RecordedPauses(),
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
    """Answer over UDP that it is too long, and over TCP with this."""

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
def test_answer_that_is_none_counts_as_silence(
    reports: Reports, act: Callable[..., bytes | None], why: str
) -> None:
    """Junk over UDP may have any sender and does not count; over TCP it is the server's."""
    server = OddServer(DELEGATION | {("a.example.com", "TXT"): act})

    with (
        odd_servers(server) as port,
        pytest.raises(PropagationTimeout, match=rf"ns.example.com \({why}\)"),
    ):
        odd_propagation(port, SHORT_WAIT).wait(values_at("a.example.com"), reports)


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
    world.propagation().wait(values_at(end), reports)

    assert "real.example.net" == end
    assert [[], [], ["udp"]] == [asked_for_txt(server) for server in world.servers]


def test_alias_by_a_wildcard_gives_way(world: NameServers, reports: Reports) -> None:
    """Where everything else leads to a CDN, the challenge lives at its own name."""
    world.zones.seed("*.example.com", "CNAME", "edge.example.net.")

    assert NAME == world.propagation().follow(NAME)
    assert "edge.example.net" == world.propagation().wildcard_alias(NAME)

    world.zones.create(NAME, "TXT", "value")
    world.propagation().wait(values_at(NAME), reports)


def test_alias_beside_a_wildcard_is_followed(world: NameServers) -> None:
    """An alias that the operator wrote for the challenge holds, whatever the wildcard says."""
    world.zones.seed("*.example.com", "CNAME", "edge.example.net.")
    world.zones.seed(NAME, "CNAME", "challenges.example.net.")

    assert "challenges.example.net" == world.propagation().follow(NAME)
    assert world.propagation().wildcard_alias(NAME) is None


@pytest.mark.parametrize("length", [1, 2, 5])
def test_aliases_in_a_circle_are_reported(world: NameServers, length: int) -> None:
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

    with pytest.raises(DnsRejected, match="is too long or malformed for a DNS query"):
        world.propagation().follow(name)


def test_domain_that_is_not_delegated_is_reported_at_once(
    world: NameServers, reports: Reports
) -> None:
    """No resolver would ever see the value."""
    with pytest.raises(ZoneNotFound, match=r"a\.unregistered\.test") as nowhere:
        world.propagation().wait(values_at("a.unregistered.test"), reports)

    assert "registered" in str(nowhere.value.hint)
    assert Retry.LATER == nowhere.value.retry


def test_resolver_that_is_silent_is_named(world: NameServers, reports: Reports) -> None:
    """With the setting that names another one."""
    world.resolver.down()

    with pytest.raises(DnsUnavailable) as silent:
        world.propagation(answer_within=SHORT_WAIT).wait(values_at(), reports)

    assert f"127.0.53.9:{world.port} (no answer)" in str(silent.value)
    assert "[dns].resolvers" in str(silent.value.hint)


# very many servers


@long
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
            propagation.wait(values_at("_acme-challenge.example.org"), reports)

    assert time.monotonic() - began < 20
    assert len([q for q in world.resolver.queries if q.type == "A"]) <= 40


# --- What a server's answers mean, for every mixture of addresses and answers


VALUES = st.frozensets(st.sampled_from(["a", "b", "c"]))
READINGS = st.builds(
    Reading,
    heard=st.sampled_from(Heard),
    why=st.sampled_from([Text("one reason"), Text("another")]),
    values=VALUES,
)
STATUS_NAME = "_acme-challenge.example.com"


@given(st.lists(READINGS, max_size=5), VALUES)
def test_server_is_seen_when_an_address_shows_all_and_none_shows_less(
    readings: list[Reading], wanted: frozenset[str]
) -> None:
    """Silence beside an answer is forgiven; an answer that lacks something or is none is not."""
    verdict, _ = judged_server(readings, wanted)

    answers = [r for r in readings if r.heard not in {Heard.SILENCE, Heard.NO_ROUTE}]
    assert (verdict is ServerVerdict.SEEN) == (
        bool(answers) and all(r.shows(wanted) for r in answers)
    )


@given(st.lists(READINGS, max_size=5), VALUES)
def test_server_is_left_out_only_when_it_cannot_be_asked(
    readings: list[Reading], wanted: frozenset[str]
) -> None:
    """A server without any address is missing, not left out."""
    verdict, _ = judged_server(readings, wanted)

    unreachable = [r.heard is Heard.NO_ROUTE for r in readings]
    assert (verdict is ServerVerdict.LEFT_OUT) == (bool(readings) and all(unreachable))


@given(st.lists(READINGS, min_size=1, max_size=5), VALUES)
def test_reason_is_that_of_an_address_which_does_not_show_it(
    readings: list[Reading], wanted: frozenset[str]
) -> None:
    """The operator is never given the reason of an address that is fine."""
    verdict, why = judged_server(readings, wanted)

    reasons = [r.why for r in readings if not r.shows(wanted)]
    assert verdict is ServerVerdict.SEEN or why in reasons


@given(
    st.dictionaries(st.sampled_from(["1", "2", "3"]), READINGS),
    st.lists(st.lists(st.sampled_from(["1", "2", "3"]), unique=True), min_size=1, max_size=3),
    VALUES,
)
def test_what_is_left_to_ask_is_what_keeps_it_incomplete(
    readings: dict[str, Reading], servers: list[list[str]], wanted: frozenset[str]
) -> None:
    """While something is missing at an address, that address is asked; once all is seen, none."""
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
    """Return a response as it comes off the wire: name → the strings of one TXT record."""
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
def test_strings_of_a_record_are_one_value(strings: list[bytes]) -> None:
    """However the server has cut them, and whatever bytes they are."""
    reading = read(answer({STATUS_NAME: strings}), STATUS_NAME)

    assert Heard.ANSWER is reading.heard
    assert frozenset([b"".join(strings).decode(errors="replace")]) == reading.values


@given(STRINGS, st.sampled_from(sorted(dns.rcode.Rcode)), st.booleans())
def test_only_an_authoritative_answer_counts(
    strings: list[bytes], rcode: dns.rcode.Rcode, is_authoritative: object
) -> None:
    """What a server has from another server, or says while failing, is no sighting."""
    if rcode > dns.rcode.YXRRSET:
        return  # needs EDNS, and is a failure like the others
    flags = dns.flags.AA if is_authoritative else 0
    reading = read(answer({STATUS_NAME: strings}, flags=flags, rcode=rcode), STATUS_NAME)

    fine = bool(is_authoritative) and rcode in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
    refused = rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
    other = Heard.REFUSAL if refused else Heard.HEARSAY
    assert (Heard.ANSWER if fine else other) is reading.heard
    assert fine or not reading.shows(frozenset())


def test_values_of_another_name_do_not_count() -> None:
    """An alias' target in the same answer is not the name that was asked for."""
    reading = read(answer({"elsewhere.example.com": [b"value"]}), STATUS_NAME)

    assert frozenset() == reading.values
    assert Heard.ANSWER is reading.heard


@pytest.mark.parametrize("silent", [True, False])
def test_server_that_is_heard_over_tcp_alone(*, silent: bool) -> None:
    """Where a network lets no UDP out, or answers it itself, TCP often passes."""

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


def test_server_that_is_heard_by_neither_way() -> None:
    """What came over UDP is reported: not that nothing listens over TCP."""

    def act(response: dns.message.Message, transport: Transport) -> bytes | None:
        return response.to_wire() if transport is Transport.UDP else None

    server = OddServer({(STATUS_NAME, "TXT"): act})
    with odd_servers(server) as port:
        reading = ask(server.address, port, STATUS_NAME, timedelta(seconds=0.3))

    assert (Heard.HEARSAY, "not authoritative") == (reading.heard, str(reading.why))


def test_address_of_no_host_has_no_route() -> None:
    """The system refuses to send, with a reason."""
    reading = ask("255.255.255.255", 53, STATUS_NAME, timedelta(seconds=1))

    assert (Heard.NO_ROUTE, "Permission denied") == (reading.heard, str(reading.why))


def test_refused_connection_is_silence() -> None:
    """A server that is there and does not speak is not out of reach."""
    reading = ask("127.0.53.99", 1, STATUS_NAME, timedelta(seconds=0.1))

    assert Heard.SILENCE is reading.heard


# --- A wait in the place of every look, for hosts that may ask no question


def test_time_passes_and_nothing_is_asked() -> None:
    """There is nothing it could ask with: neither resolvers nor a port."""
    waits, reports = RecordedPauses(), Reports()

    FixedWait(timedelta(seconds=120), waits, lambda: START).wait(values_at(), reports)

    assert 120 == waits.clock()
    assert ["waiting 2 minutes for the challenge to appear, without checking"] == reports.sentences
    assert {(START, START + timedelta(seconds=120))} == reports.moments


def test_challenge_is_written_at_its_own_name() -> None:
    """No CNAME can be seen."""
    wait = FixedWait(timedelta(seconds=1), RecordedPauses(), lambda: START)

    assert NAME == wait.follow(NAME)
    assert wait.wildcard_alias(NAME) is None


def test_stopped_run_stops_waiting() -> None:
    """What the pause raises comes through."""

    def pause(seconds: float) -> None:
        raise Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        FixedWait(timedelta(seconds=120), pause, lambda: START).wait(values_at(), Reports())
