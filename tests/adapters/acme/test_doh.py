"""Resolvers over HTTPS, beside silent, false or outdated answers of other resolvers."""

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
QUERY = "POST /dns-query"


@pytest.fixture
def world() -> Iterator[NameServers]:
    with name_servers() as world:
        yield world


@pytest.fixture
def reports() -> Reports:
    """The sentences of a wait."""
    return Reports()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., HttpsDns]]:
    """Start resolvers behind HTTPS, with a certificate that the environment's bundle trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ExitStack() as running:
        yield lambda resolver: running.enter_context(HttpsDns(resolver, context))


@pytest.fixture
def honest(world: NameServers) -> Resolver:
    """A resolver elsewhere, for the same zones."""
    return Resolver(world.zones, world.servers, "127.0.53.10")


@pytest.fixture
def doh(honest: Resolver, start: Callable[..., HttpsDns]) -> HttpsDns:
    return start(honest.handle)


def over_https(world: NameServers, *services: HttpsDns) -> tuple[HttpsResolver, ...]:
    return at_urls(tuple(service.question_url for service in services), ANSWER_WITHIN, world.waits)


def propagation(world: NameServers, *services: HttpsDns, **settings: Any) -> DnsPropagation:
    return world.propagation(over_https=over_https(world, *services), **settings)


def txt_queries(resolver: Resolver) -> list[str]:
    return [query.name for query in resolver.queries if query.type == "TXT"]


# --- As an ordinary resolver


def test_resolver_over_https_beside_silent_resolvers(world: NameServers, doh: HttpsDns) -> None:
    """The stand-in accepts only requests of the form in RFC 8484."""
    world.resolver.down()
    resolvers = Resolvers([("127.0.53.9", world.port)], SHORT_WAIT, over_https(world, doh))

    assert "example.com" == resolvers.zone_of(NAME)
    assert ("ns1.dns.test", "ns2.dns.test") == resolvers.name_servers("example.com")
    assert ("127.0.53.1",) == resolvers.addresses("ns1.dns.test")


def test_host_without_a_resolver(world: NameServers, doh: HttpsDns, tmp_path: Path) -> None:
    """A resolver over HTTPS is enough."""
    system = tmp_path / "resolv.conf"
    system.touch()
    with pytest.raises(DnsUnavailable, match="no DNS resolver configured"):
        Resolvers((), ANSWER_WITHIN, system=str(system)).zone_of(NAME)

    resolvers = Resolvers((), ANSWER_WITHIN, over_https(world, doh), system=str(system))

    assert "example.com" == resolvers.zone_of(NAME)


def test_names_are_checked_on_a_host_without_a_resolver(
    world: NameServers, honest: Resolver, doh: HttpsDns, tmp_path: Path
) -> None:
    """The check of signatures, which asks each resolver by itself, works as well."""
    (tmp_path / "resolv.conf").touch()
    honest.bogus.add("example.com")
    resolvers = Resolvers(
        (), ANSWER_WITHIN, over_https(world, doh), system=str(tmp_path / "resolv.conf")
    )

    findings = NamesLook(resolvers, Applicant(frozenset())).look(["img.example.com"])

    assert [Code.DNSSEC_BROKEN] == [finding.code for finding in findings]


def test_resolver_over_https_is_spared_beside_an_answering_resolver(
    world: NameServers, doh: HttpsDns
) -> None:
    """Another company runs the resolver over HTTPS, so certferry sends only necessary queries."""
    Resolvers([("127.0.53.9", world.port)], ANSWER_WITHIN, over_https(world, doh)).zone_of(NAME)

    assert [] == doh.requests()


def test_resolver_over_https_behind_a_proxy(
    world: NameServers, doh: HttpsDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a closed network all requests over HTTPS go through the proxy."""
    connections: list[object] = []

    def counted(connection: Any) -> None:
        connections.append(connection)
        tunnel(connection)

    with peer(counted) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{host}")
        resolvers = Resolvers((), ANSWER_WITHIN, over_https(world, doh), plain=False)
        zone, count = resolvers.zone_of(NAME), len(connections)
        doh.stop()  # ends the connection through the proxy

    assert ("example.com", 1) == (zone, count)


def answer_to_another_question(query: dns.message.Message) -> dns.message.Message:
    """Return the answer to another question."""
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
                answer_to_another_question(dns.message.make_query("a.test", "A", id=0)).to_wire(),
                MESSAGE,
            ),
            "an answer to another question",
        ),
    ],
)
def test_malformed_answer_over_https(
    world: NameServers, doh: HttpsDns, fault: Fault, why: str
) -> None:
    """The error has the reason and the resolver."""
    doh.faults.add(fault, on=QUERY, times=None)
    resolvers = Resolvers((), ANSWER_WITHIN, over_https(world, doh), plain=False)

    with pytest.raises(DnsUnavailable, match=why) as reported:
        resolvers.zone_of(NAME)

    assert doh.url in str(reported.value)
    assert "dns-query" not in str(reported.value)


def test_resolver_over_https_with_an_untrusted_certificate(
    world: NameServers, doh: HttpsDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interceptor cannot answer in place of the resolver."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")

    with pytest.raises(DnsUnavailable, match="certificate"):
        Resolvers((), ANSWER_WITHIN, over_https(world, doh), plain=False).zone_of(NAME)


def test_zone_that_the_resolver_denies_is_found_elsewhere(
    world: NameServers, doh: HttpsDns, reports: Reports
) -> None:
    """A company's own resolver may know only the company's names."""
    world.zones.create(NAME, "TXT", "value")
    world.resolver.denies = True

    with pytest.raises(ZoneNotFound):
        world.propagation().wait(values_at(), reports)
    doh.faults.add(Fault.status(503, b""), on=QUERY, times=3)
    with pytest.raises(ZoneNotFound):
        propagation(world, doh).wait(values_at(), reports)
    doh.faults.clear()

    propagation(world, doh).wait(values_at(), reports)

    assert [] == reports.sentences


# --- Addresses of name servers


def test_invented_address_is_reported_and_replaced(
    world: NameServers, doh: HttpsDns, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind a proxy that answers DNS queries itself, a certificate can still be issued."""
    world.zones.create(NAME, "TXT", "value")
    world.resolver.faked = FAKE

    propagation(world, doh).wait(values_at(), reports)

    assert f"{FAKE} for ns1.dns.test" in caplog.text
    assert [] == reports.sentences


def test_invented_address_without_another_resolver(world: NameServers, reports: Reports) -> None:
    """The hint has the invented address, and the setting for resolvers over HTTPS."""
    world.resolver.faked = FAKE

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0), answer_within=SHORT_WAIT).wait(values_at(), reports)

    assert f"made-up addresses ({FAKE})" in str(late.value.hint)
    assert "[dns].doh" in str(late.value.hint)


def test_resolver_with_invented_answers_is_reported(world: NameServers, reports: Reports) -> None:
    """The resolver's answers about the name servers may be invented too."""
    world.resolver.invented = "203.0.113.80"
    for server in world.servers:
        server.lame()

    with pytest.raises(PropagationTimeout) as late:
        world.propagation(timeout=timedelta(0)).wait(values_at(), reports)

    hint = str(late.value.hint)
    assert f"127.0.53.9:{world.port} (203.0.113.80) give addresses for a name that" in hint


# --- In place of unreachable name servers


def lame(world: NameServers) -> None:
    for server in world.servers:
        server.lame()


def test_resolver_over_https_replaces_unreachable_name_servers(
    world: NameServers,
    honest: Resolver,
    doh: HttpsDns,
    reports: Reports,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A resolver stores a negative answer, so the query waits until the name servers had time."""
    world.zones.create(NAME, "TXT", "value")
    lame(world)

    propagation(world, doh).wait(values_at(), reports)

    assert 20 <= world.waits.clock() < 26
    assert [NAME] == txt_queries(honest)
    assert "resolvers asked over HTTPS show the challenge" in caplog.text


def test_resolver_over_https_is_asked_before_a_short_timeout(
    world: NameServers, doh: HttpsDns, reports: Reports
) -> None:
    """When a firewall drops queries, the resolver over HTTPS is the last attempt."""
    world.zones.create(NAME, "TXT", "value")
    for server in world.servers:
        server.down()

    short = {"timeout": timedelta(0), "answer_within": SHORT_WAIT}
    propagation(world, doh, **short).wait(values_at(), reports)

    assert [] == world.waits.seconds


def test_remaining_time_of_a_cached_absence_is_reported(
    world: NameServers, honest: Resolver, doh: HttpsDns, reports: Reports
) -> None:
    """The time comes from the zone's SOA record, less the age of the answer."""
    honest.negative_caching = 600
    lame(world)
    world.zones.create(NAME, "TXT", "value")
    for server in world.servers:
        server.lag = 30

    with pytest.raises(PropagationTimeout) as late:
        propagation(world, doh).wait(values_at(), reports)

    message = str(late.value)
    assert (
        f"other resolvers: {NAME}: {doh.url} (still answers that the record does not exist"
        in message
    )
    minutes = int(message.partition("possibly for another ")[2].partition(" minutes")[0])
    assert 5 <= minutes < 10


def test_silent_resolver_over_https_beside_an_answering_resolver(
    world: NameServers, start: Callable[..., HttpsDns], honest: Resolver, reports: Reports
) -> None:
    """Some resolvers are unreachable from some networks, so the answering resolver decides."""
    world.zones.create(NAME, "TXT", "value")
    lame(world)
    dead, alive = start(lambda *_: None), start(honest.handle)

    propagation(world, dead, alive).wait(values_at(), reports)

    assert 20 <= world.waits.clock() < 26


def test_all_resolvers_over_https_are_silent(
    world: NameServers, start: Callable[..., HttpsDns], reports: Reports
) -> None:
    """Without any answer the challenge counts as unseen."""
    world.zones.create(NAME, "TXT", "value")
    lame(world)
    dead = start(lambda *_: None)

    with pytest.raises(PropagationTimeout, match=r"other resolvers: .*status 504"):
        propagation(world, dead).wait(values_at(), reports)


def test_every_resolver_that_answers_must_show_the_value(
    world: NameServers, start: Callable[..., HttpsDns], honest: Resolver, reports: Reports
) -> None:
    """A resolver with an old value may be closer to the CA's view."""
    world.zones.create(NAME, "TXT", "value")
    lame(world)
    services = [start(honest.handle), start(kept(TXT_OF_YESTERDAY))]

    with pytest.raises(PropagationTimeout, match="shows only older values"):
        propagation(world, *services).wait(values_at(), reports)


def test_name_server_that_answered_before_is_not_replaced(
    world: NameServers, start: Callable[..., HttpsDns], reports: Reports
) -> None:
    """The server has answered without the value, and the CA may get the same answer."""
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


# --- Beside answering name servers

SOA = "ns1.dns.test. hostmaster.example.com. 1 3600 180 1209600"
NET_NAME = "_acme-challenge.example.net"
TXT_OF_YESTERDAY = ("answer", f"{NAME}.", 240, "IN", "TXT", "yesterday")


def kept(*records: tuple[Any, ...]) -> Handler:
    return OddServer({(NAME, "TXT"): list(records)}).handle


def test_chosen_resolver_with_older_values_is_only_reported(
    world: NameServers,
    start: Callable[..., HttpsDns],
    reports: Reports,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The name servers decide, as in the CA's check."""
    world.zones.create(NAME, "TXT", "value")

    propagation(world, start(kept(TXT_OF_YESTERDAY)), chosen=True).wait(values_at(), reports)

    assert "shows only older values, possibly for another 4 minutes" in caplog.text
    assert [] == world.waits.seconds


def test_silent_chosen_resolver_is_left_out_of_the_report(
    world: NameServers,
    start: Callable[..., HttpsDns],
    reports: Reports,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The silent resolver may show the value, and is unreachable from some networks."""
    world.zones.create(NAME, "TXT", "value")
    dead, older = start(lambda *_: None), start(kept(TXT_OF_YESTERDAY))

    propagation(world, dead, chosen=True).wait(values_at(), reports)
    assert "other resolvers" not in caplog.text

    propagation(world, dead, older, chosen=True).wait(values_at(), reports)
    assert older.url in caplog.text
    assert dead.url not in caplog.text


def test_default_resolver_is_spared_beside_name_servers(
    world: NameServers, doh: HttpsDns, reports: Reports
) -> None:
    """The resolver gets no query, whether the name servers show the value or lag behind."""
    world.zones.create(NAME, "TXT", "value")

    propagation(world, doh).wait(values_at(), reports)
    world.servers[1].lag = float("inf")
    with pytest.raises(PropagationTimeout):
        propagation(world, doh).wait(values_at(), reports)

    assert [] == doh.requests()


def test_chosen_resolvers_are_asked_after_a_timeout(
    world: NameServers, doh: HttpsDns, reports: Reports
) -> None:
    """The answers of other resolvers help to find the cause."""
    with pytest.raises(PropagationTimeout, match=r"other resolvers: .*does not exist"):
        propagation(world, doh, chosen=True).wait(values_at(), reports)


def test_older_value_at_a_name_server_is_reported(world: NameServers, reports: Reports) -> None:
    """An older value differs from a missing record."""
    world.zones.create(NAME, "TXT", "yesterday")

    with pytest.raises(PropagationTimeout, match=r"ns1\.dns\.test \(not there yet\)"):
        world.propagation().wait(values_at(), reports)


def test_silent_resolver_over_https_is_asked_for_a_single_name(
    world: NameServers, doh: HttpsDns, reports: Reports
) -> None:
    """Queries for further names would take as long."""
    world.zones.create(NAME, "TXT", "value")
    world.zones.create(NET_NAME, "TXT", "value")
    doh.faults.add(Fault.status(503, b""), on=QUERY, times=None)

    propagation(world, doh, chosen=True).wait(values_at(NAME) | values_at(NET_NAME), reports)

    assert 1 == len(doh.requests())


@pytest.mark.parametrize(
    ("authority", "ending"),
    [
        ([], "still answers that the record does not exist"),
        ([("example.com.", 900, "IN", "NS", "ns1.dns.test.")], "does not exist"),
        ([("example.com.", 900, "IN", "SOA", f"{SOA} 600")], "for another 10 minutes"),
        ([("example.com.", 120, "IN", "SOA", f"{SOA} 600")], "for another 2 minutes"),
    ],
)
def test_absence_is_cached_as_long_as_the_zone_allows(
    authority: list[tuple[Any, ...]], ending: str
) -> None:
    """The time is the lesser of the SOA record's TTL and its minimum (RFC 2308 §5)."""
    response = dns.message.make_response(dns.message.make_query(NAME, "TXT"))
    response.authority += [dns.rrset.from_text(*record) for record in authority]

    assert str(read_kept(response, NAME).why).endswith(ending)


def test_resolvers_are_checked(
    world: NameServers, doh: HttpsDns, honest: Resolver, start: Callable[..., HttpsDns]
) -> None:
    """A resolver with invented answers is an error, and a refusing or silent resolver is a warning.
    An honest resolver is no finding.
    """
    false = Resolver(world.zones, world.servers, "127.0.53.11")
    false.invented = "192.0.2.66"
    gone = Resolver(world.zones, world.servers, "127.0.53.12")
    gone.down()

    resolvers = over_https(world, doh, start(false.handle), start(gone.handle))
    invented, silent = look_at_resolvers(resolvers)

    assert (Code.RESOLVER_INVENTS, Severity.ERROR) == (invented.code, invented.severity)
    assert resolvers[1].called == invented.subject
    assert "192.0.2.66" in str(invented.message)
    assert (Code.RESOLVER_SILENT, Severity.WARNING) == (silent.code, silent.severity)
    assert resolvers[2].called == silent.subject
    assert honest.queries
    assert [] == list(look_at_resolvers(()))


def test_refusing_resolver(world: NameServers, start: Callable[..., HttpsDns]) -> None:
    """The finding has the resolver's response code."""

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
    """The error has the response code."""
    honest.refusing()

    with pytest.raises(PropagationTimeout, match=r"other resolvers: .*REFUSED"):
        propagation(world, doh, chosen=True).wait(values_at(), reports)
