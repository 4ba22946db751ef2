"""What a server's answers mean, for every mixture of addresses and answers."""

from __future__ import annotations

from datetime import timedelta

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

from certferry.adapters.acme.nameservers import ask, read
from certferry.adapters.acme.propagation_status import (
    Heard,
    PropagationStatus,
    Reading,
    ServerVerdict,
    Sought,
    judge,
)
from certferry.text import Text
from certferry_sandbox.nameserver.daemon import Transport
from tests.adapters.acme.name_servers import OddServer, odd_servers

VALUES = st.frozensets(st.sampled_from(["a", "b", "c"]))
READINGS = st.builds(
    Reading,
    heard=st.sampled_from(Heard),
    why=st.sampled_from([Text("one reason"), Text("another")]),
    values=VALUES,
)
NAME = "_acme-challenge.example.com"


@given(st.lists(READINGS, max_size=5), VALUES)
def test_server_is_seen_when_an_address_shows_all_and_none_shows_less(
    readings: list[Reading], wanted: frozenset[str]
) -> None:
    """Silence beside an answer is forgiven; an answer that lacks something or is none is not."""
    verdict, _ = judge(readings, wanted)

    answers = [r for r in readings if r.heard not in {Heard.SILENCE, Heard.NO_ROUTE}]
    assert (verdict is ServerVerdict.SEEN) == (
        bool(answers) and all(r.shows(wanted) for r in answers)
    )


@given(st.lists(READINGS, max_size=5), VALUES)
def test_server_is_left_out_only_when_it_cannot_be_asked(
    readings: list[Reading], wanted: frozenset[str]
) -> None:
    """A server without any address is missing, not left out."""
    verdict, _ = judge(readings, wanted)

    unreachable = [r.heard is Heard.NO_ROUTE for r in readings]
    assert (verdict is ServerVerdict.LEFT_OUT) == (bool(readings) and all(unreachable))


@given(st.lists(READINGS, min_size=1, max_size=5), VALUES)
def test_reason_is_that_of_an_address_which_does_not_show_it(
    readings: list[Reading], wanted: frozenset[str]
) -> None:
    """The operator is never given the reason of an address that is fine."""
    verdict, why = judge(readings, wanted)

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
    sought = Sought(NAME, "example.com", wanted, tuple(hosts))
    status = PropagationStatus([sought], hosts)
    for address, reading in readings.items():
        status.note(address, NAME, reading)

    to_ask = status.to_ask()
    verdicts = [verdict for verdict, _ in status.verdicts(sought).values()]
    assert bool(status.incomplete) == (
        ServerVerdict.MISSING in verdicts or ServerVerdict.SEEN not in verdicts
    )
    assert all([NAME] == names for names in to_ask.values())
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
    """Give a response as it comes off the wire: name → the strings of one TXT record."""
    query = dns.message.make_query(NAME, "TXT")
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
    reading = read(answer({NAME: strings}), NAME)

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
    reading = read(answer({NAME: strings}, flags=flags, rcode=rcode), NAME)

    fine = bool(is_authoritative) and rcode in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
    refused = rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
    other = Heard.REFUSAL if refused else Heard.HEARSAY
    assert (Heard.ANSWER if fine else other) is reading.heard
    assert fine or not reading.shows(frozenset())


def test_values_of_another_name_do_not_count() -> None:
    """An alias' target in the same answer is not the name that was asked for."""
    reading = read(answer({"elsewhere.example.com": [b"value"]}), NAME)

    assert frozenset() == reading.values
    assert Heard.ANSWER is reading.heard


@pytest.mark.parametrize("silent", [True, False])
def test_server_that_is_heard_over_tcp_alone(*, silent: bool) -> None:
    """Where a network lets no UDP out, or answers it itself, TCP often passes."""

    def act(response: dns.message.Message, transport: Transport) -> bytes | None:
        if transport is Transport.TCP:
            response.flags |= dns.flags.AA
            response.answer.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "TXT", "value"))
        return None if silent and transport is Transport.UDP else response.to_wire()

    server = OddServer({(NAME, "TXT"): act})
    with odd_servers(server) as port:
        reading = ask(server.address, port, NAME, timedelta(seconds=1))

    assert (Heard.ANSWER, frozenset(["value"])) == (reading.heard, reading.values)
    assert 2 == len(server.queries)


def test_server_that_is_heard_by_neither_way() -> None:
    """What came over UDP is told: not that nothing listens over TCP."""

    def act(response: dns.message.Message, transport: Transport) -> bytes | None:
        return response.to_wire() if transport is Transport.UDP else None

    server = OddServer({(NAME, "TXT"): act})
    with odd_servers(server) as port:
        reading = ask(server.address, port, NAME, timedelta(seconds=0.3))

    assert (Heard.HEARSAY, "not authoritative") == (reading.heard, str(reading.why))


def test_address_of_no_host_has_no_route() -> None:
    """The system refuses to send, with a reason."""
    reading = ask("255.255.255.255", 53, NAME, timedelta(seconds=1))

    assert (Heard.NO_ROUTE, "Permission denied") == (reading.heard, str(reading.why))


def test_refused_connection_is_silence() -> None:
    """A server that is there and does not speak is not out of reach."""
    reading = ask("127.0.53.99", 1, NAME, timedelta(seconds=0.1))

    assert Heard.SILENCE is reading.heard
