"""Resolvers that are asked by HTTPS: where the others are silent, lie, or keep what is over."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trustme

from certferry.adapters.acme.examination import NamesLook, look_at_resolvers
from certferry.adapters.acme.nameservers import read_kept
from certferry.adapters.acme.propagation import DnsPropagation
from certferry.adapters.acme.resolvers import HttpsResolver, Resolvers, at_urls
from certferry.core.findings import Code
from certferry.core.network import Applicant
from certferry.errors import DnsUnavailable, PropagationTimeout, Severity, ZoneNotFound
from certferry_sandbox.faults import Fault
from certferry_sandbox.nameserver.daemon import MESSAGE, Handler, HttpsDns, Reply, Transport
from certferry_sandbox.nameserver.service import Resolver
from tests.adapters.acme.name_servers import (
    ANSWER_WITHIN,
    NAME,
    SHORT_WAIT,
    NameServers,
    OddServer,
    Reports,
    name_servers,
    values_at,
)
from tests.adapters.http.peers import peer, tunnel

FAKE = "198.18.0.7"
ASKED = "POST /dns-query"


@pytest.fixture
def world() -> Iterator[NameServers]:
    with name_servers() as world:
        yield world


@pytest.fixture
def reports() -> Reports:
    """What is reported while waiting."""
    return Reports()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., HttpsDns]]:
    """Start resolvers behind HTTPS that the environment's bundle trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ExitStack() as running:
        yield lambda resolver: running.enter_context(HttpsDns(resolver, context))


@pytest.fixture
def honest(world: NameServers) -> Resolver:
    """A resolver elsewhere, of the same zones."""
    return Resolver(world.zones, world.servers, "127.0.53.10")


@pytest.fixture
def doh(honest: Resolver, start: Callable[..., HttpsDns]) -> HttpsDns:
    return start(honest.handle)


def over_https(world: NameServers, *services: HttpsDns) -> tuple[HttpsResolver, ...]:
    return at_urls(tuple(one.question_url for one in services), ANSWER_WITHIN, world.waits)


def propagation(world: NameServers, *services: HttpsDns, **settings: Any) -> DnsPropagation:
    return world.propagation(over_https=over_https(world, *services), **settings)


def txt_asked(resolver: Resolver) -> list[str]:
    return [query.name for query in resolver.queries if query.type == "TXT"]


# as a resolver like any other


def test_resolver_over_https_is_asked_where_the_others_are_silent(
    world: NameServers, doh: HttpsDns
) -> None:
    """The stand-in takes nothing but what RFC 8484 has."""
    world.resolver.down()
    resolvers = Resolvers([("127.0.53.9", world.port)], SHORT_WAIT, over_https(world, doh))

    assert "example.com" == resolvers.zone_of(NAME)
    assert ("ns1.dns.test", "ns2.dns.test") == resolvers.name_servers("example.com")
    assert ("127.0.53.1",) == resolvers.addresses("ns1.dns.test")


def test_host_without_a_resolver(world: NameServers, doh: HttpsDns, tmp_path: Path) -> None:
    """It needs none."""
    system = tmp_path / "resolv.conf"
    system.touch()
    with pytest.raises(DnsUnavailable, match="no DNS resolver configured"):
        Resolvers((), ANSWER_WITHIN, system=str(system)).zone_of(NAME)

    resolvers = Resolvers((), ANSWER_WITHIN, over_https(world, doh), system=str(system))

    assert "example.com" == resolvers.zone_of(NAME)


def test_names_are_looked_at_on_a_host_without_a_resolver(
    world: NameServers, honest: Resolver, doh: HttpsDns, tmp_path: Path
) -> None:
    """Signatures too, of which each resolver is asked by itself."""
    (tmp_path / "resolv.conf").touch()
    honest.bogus.add("example.com")
    resolvers = Resolvers(
        (), ANSWER_WITHIN, over_https(world, doh), system=str(tmp_path / "resolv.conf")
    )

    found = NamesLook(resolvers, Applicant(frozenset())).look(["img.example.com"])

    assert [Code.DNSSEC_BROKEN] == [one.code for one in found]


def test_resolver_over_https_is_not_asked_where_another_answers(
    world: NameServers, doh: HttpsDns
) -> None:
    """Another company runs it: it learns nothing that it need not know."""
    Resolvers([("127.0.53.9", world.port)], ANSWER_WITHIN, over_https(world, doh)).zone_of(NAME)

    assert [] == doh.requests()


def test_resolver_over_https_is_reached_through_the_proxy(
    world: NameServers, doh: HttpsDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everything else that is asked by HTTPS from a closed network."""
    ways: list[object] = []

    def counted(connection: Any) -> None:
        ways.append(connection)
        tunnel(connection)

    with peer(counted) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{host}")
        resolvers = Resolvers((), ANSWER_WITHIN, over_https(world, doh), plain=False)
        zone, count = resolvers.zone_of(NAME), len(ways)
        doh.stop()  # which ends the connection through the proxy

    assert ("example.com", 1) == (zone, count)


def of_another_question(query: dns.message.Message) -> dns.message.Message:
    """Answer what was not asked."""
    return dns.message.make_response(dns.message.make_query("other.test", "A", id=query.id))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault.status(404, b"", MESSAGE), "status 404"),
        (Fault.status(503, b"", MESSAGE), "status 503"),
        (Fault.status(302, b"", MESSAGE, [("Location", "https://127.0.0.1:9/")]), "status 302"),
        (Fault.status(200, b"<html>", "text/html"), "a web page"),
        (Fault.status(200, b'{"Status": 0}', "application/dns-json"), "unreadable answer"),
        (Fault.status(200, b"junk", MESSAGE), "unreadable answer"),
        (Fault.status(200, b"x" * 70_000, MESSAGE), "is too long"),
        (
            Fault.status(
                200,
                of_another_question(dns.message.make_query("a.test", "A", id=0)).to_wire(),
                MESSAGE,
            ),
            "an answer to another question",
        ),
    ],
)
def test_answer_over_https_that_is_none(
    world: NameServers, doh: HttpsDns, fault: Fault, why: str
) -> None:
    """What came, and from where, is reported."""
    doh.faults.add(fault, on=ASKED, times=None)
    resolvers = Resolvers((), ANSWER_WITHIN, over_https(world, doh), plain=False)

    with pytest.raises(DnsUnavailable, match=why) as reported:
        resolvers.zone_of(NAME)

    assert doh.url in str(reported.value)
    assert "dns-query" not in str(reported.value)


def test_resolver_over_https_whose_certificate_is_not_trusted(
    world: NameServers, doh: HttpsDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sits in between cannot answer in its place."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")

    with pytest.raises(DnsUnavailable, match="certificate"):
        Resolvers((), ANSWER_WITHIN, over_https(world, doh), plain=False).zone_of(NAME)


def test_zone_that_the_resolver_denies_is_asked_for_elsewhere(
    world: NameServers, doh: HttpsDns, reports: Reports
) -> None:
    """A company's own knows the company's names."""
    world.zones.create(NAME, "TXT", "value")
    world.resolver.denies = True

    with pytest.raises(ZoneNotFound):
        world.propagation().wait(values_at(), reports)
    doh.faults.add(Fault.status(503, b""), on=ASKED, times=3)
    with pytest.raises(ZoneNotFound):
        propagation(world, doh).wait(values_at(), reports)
    doh.faults.clear()

    propagation(world, doh).wait(values_at(), reports)

    assert [] == reports.sentences


# where name servers are


def test_made_up_address_is_said_and_looked_up_elsewhere(
    world: NameServers, doh: HttpsDns, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy that answers DNS itself does not keep a certificate from being issued."""
    world.zones.create(NAME, "TXT", "value")
    world.resolver.faked = FAKE

    propagation(world, doh).wait(values_at(), reports)

    assert f"{FAKE} for ns1.dns.test" in caplog.text
    assert [] == reports.sentences


def test_made_up_address_without_another_resolver(world: NameServers, reports: Reports) -> None:
    """The hint has both ways out."""
    world.resolver.faked = FAKE

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0), answer_within=SHORT_WAIT).wait(values_at(), reports)

    assert f"made-up addresses ({FAKE})" in str(late.value.hint)
    assert "[dns].doh" in str(late.value.hint)


def test_resolver_that_invents_is_said(world: NameServers, reports: Reports) -> None:
    """What it says of the name servers may be invented too."""
    world.resolver.invented = "203.0.113.80"
    for server in world.servers:
        server.lame()

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0)).wait(values_at(), reports)

    hint = str(late.value.hint)
    assert f"127.0.53.9:{world.port} (203.0.113.80) give addresses for a name that" in hint


# in the place of name servers that cannot be heard


def lame(world: NameServers) -> None:
    for server in world.servers:
        server.lame()


def test_resolver_over_https_is_trusted_where_no_name_server_is_heard(
    world: NameServers,
    honest: Resolver,
    doh: HttpsDns,
    reports: Reports,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not before the name servers had their time: what it is asked too early, it remembers."""
    world.zones.create(NAME, "TXT", "value")
    lame(world)

    propagation(world, doh).wait(values_at(), reports)

    assert 20 <= world.waits.clock() < 26
    assert [NAME] == txt_asked(honest)
    assert "resolvers asked over HTTPS show the challenge" in caplog.text


def test_resolver_over_https_is_trusted_at_the_end_of_a_short_time(
    world: NameServers, doh: HttpsDns, reports: Reports
) -> None:
    """Where questions get lost, as with a firewall, it is asked before anything is given up."""
    world.zones.create(NAME, "TXT", "value")
    for server in world.servers:
        server.down()

    short = {"timeout": timedelta(0), "answer_within": SHORT_WAIT}
    propagation(world, doh, **short).wait(values_at(), reports)

    assert [] == world.waits.seconds


def test_resolver_that_remembers_the_absence_says_for_how_long(
    world: NameServers, honest: Resolver, doh: HttpsDns, reports: Reports
) -> None:
    """By the zone's SOA record, less the time that has passed since."""
    honest.negative_caching = 600
    lame(world)
    world.zones.create(NAME, "TXT", "value")
    for server in world.servers:
        server.lag = 30

    with pytest.raises(PropagationTimeout) as late:
        propagation(world, doh).wait(values_at(), reports)

    said = str(late.value)
    assert (
        f"other resolvers: {NAME}: {doh.url} (still answers that the record does not exist" in said
    )
    left = int(said.partition("possibly for another ")[2].partition(" minutes")[0])
    assert 5 <= left < 10


def test_silent_resolver_over_https_is_forgiven_while_another_answers(
    world: NameServers, start: Callable[..., HttpsDns], honest: Resolver, reports: Reports
) -> None:
    """Some of them cannot be reached from every network."""
    world.zones.create(NAME, "TXT", "value")
    lame(world)
    dead, alive = start(lambda *_: None), start(honest.handle)

    propagation(world, dead, alive).wait(values_at(), reports)

    assert 20 <= world.waits.clock() < 26


def test_all_resolvers_over_https_are_silent(
    world: NameServers, start: Callable[..., HttpsDns], reports: Reports
) -> None:
    """Then nothing was seen."""
    world.zones.create(NAME, "TXT", "value")
    lame(world)
    dead = start(lambda *_: None)

    with pytest.raises(PropagationTimeout, match=r"other resolvers: .*status 504"):
        propagation(world, dead).wait(values_at(), reports)


def test_every_resolver_that_answers_must_show_the_value(
    world: NameServers, start: Callable[..., HttpsDns], honest: Resolver, reports: Reports
) -> None:
    """One that does not may be the one that sees what the CA sees."""
    world.zones.create(NAME, "TXT", "value")
    lame(world)
    services = [start(honest.handle), start(kept(TXT_OF_YESTERDAY))]

    with pytest.raises(PropagationTimeout, match="shows only older values"):
        propagation(world, *services).wait(values_at(), reports)


def test_name_server_that_falls_silent_later_is_not_replaced(
    world: NameServers, start: Callable[..., HttpsDns], reports: Reports
) -> None:
    """It has said that the value is not there, and the CA may hear the same."""
    world.zones.create(NAME, "TXT", "value")
    for server in world.servers:
        server.lag = float("inf")
    ahead = start(Resolver(world.zones, [], "127.0.53.10").handle)

    def pause(seconds: float) -> None:
        for server in world.servers:
            server.lame()
        world.waits(seconds)

    with pytest.raises(PropagationTimeout):
        propagation(world, ahead, pause=pause).wait(values_at(), reports)

    assert [] == ahead.requests()


# beside name servers that are heard

SOA = "ns1.dns.test. hostmaster.example.com. 1 3600 180 1209600"
NET_NAME = "_acme-challenge.example.net"
TXT_OF_YESTERDAY = ("answer", f"{NAME}.", 240, "IN", "TXT", "yesterday")


def kept(*records: tuple[Any, ...]) -> Handler:
    return OddServer({(NAME, "TXT"): list(records)}).handle


def test_chosen_resolver_that_keeps_older_values_is_reported_and_not_waited_for(
    world: NameServers,
    start: Callable[..., HttpsDns],
    reports: Reports,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The name servers decide, as they do for the CA."""
    world.zones.create(NAME, "TXT", "value")

    propagation(world, start(kept(TXT_OF_YESTERDAY)), chosen=True).wait(values_at(), reports)

    assert "shows only older values, possibly for another 4 minutes" in caplog.text
    assert [] == world.waits.seconds


def test_chosen_resolver_that_is_silent_says_nothing_of_the_challenge(
    world: NameServers,
    start: Callable[..., HttpsDns],
    reports: Reports,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may show the value; from some networks it cannot be reached."""
    world.zones.create(NAME, "TXT", "value")
    dead, older = start(lambda *_: None), start(kept(TXT_OF_YESTERDAY))

    propagation(world, dead, chosen=True).wait(values_at(), reports)
    assert "other resolvers" not in caplog.text

    propagation(world, dead, older, chosen=True).wait(values_at(), reports)
    assert older.url in caplog.text
    assert dead.url not in caplog.text


def test_resolver_that_was_not_chosen_is_not_asked_beside_name_servers(
    world: NameServers, doh: HttpsDns, reports: Reports
) -> None:
    """Neither when all is well nor when a server lags."""
    world.zones.create(NAME, "TXT", "value")

    propagation(world, doh).wait(values_at(), reports)
    world.servers[1].lag = float("inf")
    with pytest.raises(PropagationTimeout):
        propagation(world, doh).wait(values_at(), reports)

    assert [] == doh.requests()


def test_chosen_resolvers_are_asked_when_it_is_too_late(
    world: NameServers, doh: HttpsDns, reports: Reports
) -> None:
    """What others say helps to find out why."""
    with pytest.raises(PropagationTimeout, match=r"other resolvers: .*does not exist"):
        propagation(world, doh, chosen=True).wait(values_at(), reports)


def test_older_value_at_a_name_server_is_reported(world: NameServers, reports: Reports) -> None:
    """It is something else than a record that is not there."""
    world.zones.create(NAME, "TXT", "yesterday")

    with pytest.raises(PropagationTimeout, match=r"ns1\.dns\.test \(not there yet\)"):
        world.propagation().wait(values_at(), reports)


def test_silent_resolver_over_https_is_asked_for_one_name_only(
    world: NameServers, doh: HttpsDns, reports: Reports
) -> None:
    """The others would take as long."""
    world.zones.create(NAME, "TXT", "value")
    world.zones.create(NET_NAME, "TXT", "value")
    doh.faults.add(Fault.status(503, b""), on=ASKED, times=None)

    propagation(world, doh, chosen=True).wait(values_at(NAME) | values_at(NET_NAME), reports)

    assert 1 == len(doh.requests())


@pytest.mark.parametrize(
    ("authority", "said"),
    [
        ([], "still answers that the record does not exist"),
        ([("example.com.", 900, "IN", "NS", "ns1.dns.test.")], "does not exist"),
        ([("example.com.", 900, "IN", "SOA", f"{SOA} 600")], "for another 10 minutes"),
        ([("example.com.", 120, "IN", "SOA", f"{SOA} 600")], "for another 2 minutes"),
    ],
)
def test_absence_is_kept_as_long_as_the_zone_says(
    authority: list[tuple[Any, ...]], said: str
) -> None:
    """By the lesser of the SOA record's own time and the minimum in it (RFC 2308 §5)."""
    response = dns.message.make_response(dns.message.make_query(NAME, "TXT"))
    response.authority += [dns.rrset.from_text(*record) for record in authority]

    assert str(read_kept(response, NAME).why).endswith(said)


def test_resolvers_are_looked_at(
    world: NameServers, doh: HttpsDns, honest: Resolver, start: Callable[..., HttpsDns]
) -> None:
    """One that invents is an error, one that refuses or is silent a warning; the honest one is
    no finding.
    """
    lying = Resolver(world.zones, world.servers, "127.0.53.11")
    lying.invented = "192.0.2.66"
    gone = Resolver(world.zones, world.servers, "127.0.53.12")
    gone.down()

    resolvers = over_https(world, doh, start(lying.handle), start(gone.handle))
    invented, silent = look_at_resolvers(resolvers)

    assert (Code.RESOLVER_INVENTS, Severity.ERROR) == (invented.code, invented.severity)
    assert resolvers[1].called == invented.subject
    assert "192.0.2.66" in str(invented.message)
    assert (Code.RESOLVER_SILENT, Severity.WARNING) == (silent.code, silent.severity)
    assert resolvers[2].called == silent.subject
    assert honest.queries
    assert [] == list(look_at_resolvers(()))


def test_resolver_that_cannot_look_it_up(
    world: NameServers, start: Callable[..., HttpsDns]
) -> None:
    """Its code is reported: it is there, and of no use."""

    def refuse(wire: bytes, transport: Transport) -> Reply:
        response = dns.message.make_response(dns.message.from_wire(wire))
        response.set_rcode(dns.rcode.REFUSED)
        return Reply(response.to_wire())

    [silent] = look_at_resolvers(over_https(world, start(refuse)))

    assert Code.RESOLVER_SILENT == silent.code
    assert "REFUSED" in str(silent.message)


def test_refusal_over_https_is_reported(
    world: NameServers, honest: Resolver, doh: HttpsDns, reports: Reports
) -> None:
    """By its code."""
    honest.refusing()

    with pytest.raises(PropagationTimeout, match=r"other resolvers: .*REFUSED"):
        propagation(world, doh, chosen=True).wait(values_at(), reports)
