"""What resolvers say, and what is made of resolvers that say nothing, or odd things."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.rcode
import pytest

from certferry.adapters.acme.resolvers import Resolvers, system_resolvers
from certferry.errors import ConfigError, DnsUnavailable, ZoneNotFound
from tests.adapters.acme.name_servers import (
    ANSWER_WITHIN,
    IMPATIENT,
    OddServer,
    name_servers,
    odd_servers,
)

SOA = "ns.example.com. hostmaster.example.com. 1 2 3 4 5"


def code(rcode: dns.rcode.Rcode) -> Callable[..., bytes]:
    """Answer with this code and nothing else."""

    def act(response: Any, transport: object) -> bytes:
        response.set_rcode(rcode)
        return bytes(response.to_wire())

    return act


def ask(server: OddServer, question: Callable[[Resolvers], object]) -> object:
    """Put a question to the server as the only resolver."""
    with odd_servers(server) as port:
        return question(Resolvers([(server.address, port)], ANSWER_WITHIN))


def test_next_resolver_takes_over() -> None:
    """One that is silent is asked once."""
    dead = OddServer({("example.com", "CNAME"): lambda _, __: None}, "127.0.53.7")
    server = OddServer(
        {("example.com", "CNAME"): [("answer", "example.com.", 5, "IN", "CNAME", "b.")]}
    )

    with odd_servers(dead, server) as port:
        resolvers = Resolvers([(dead.address, port), (server.address, port)], IMPATIENT)
        assert "b" == resolvers.alias("example.com")

    assert 1 == len(dead.queries)


def test_each_resolver_is_named_with_its_trouble() -> None:
    """The operator sees which of several is the bad one."""
    dead = OddServer({("example.com", "CNAME"): lambda _, __: None})
    failing = OddServer({("example.com", "CNAME"): code(dns.rcode.SERVFAIL)}, "127.0.53.7")

    with odd_servers(dead, failing) as port:
        resolvers = Resolvers([(failing.address, port), (dead.address, port)], IMPATIENT)
        with pytest.raises(DnsUnavailable) as trouble:
            resolvers.alias("example.com")

    assert (
        "no resolver answered when asked for example.com: "
        f"127.0.53.7:{port} (SERVFAIL), 127.0.53.8:{port} (no answer)"
    ) == str(trouble.value)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (code(dns.rcode.SERVFAIL), "SERVFAIL"),
        (code(dns.rcode.REFUSED), "REFUSED"),
        (code(dns.rcode.YXDOMAIN), "YXDOMAIN"),
    ],
)
def test_resolver_that_cannot_look_it_up_is_not_called_silent(
    act: Callable[..., bytes], why: str
) -> None:
    """The trouble may lie in the domain's delegation, and the hint says so."""
    with pytest.raises(DnsUnavailable, match=f"could look up example.com: .*{why}") as refused:
        ask(OddServer({("example.com", "CNAME"): act}), lambda r: r.alias("example.com"))

    assert "delegation" in str(refused.value.hint)
    assert "[dns].resolvers" in str(refused.value.hint)


def test_resolver_out_of_reach_is_told_with_the_systems_words() -> None:
    """As a resolver in a network that is down."""
    resolvers = Resolvers([("255.255.255.255", 53)], ANSWER_WITHIN)

    with pytest.raises(DnsUnavailable, match=r"255\.255\.255\.255 \(Permission denied\)"):
        resolvers.alias("example.com")


def test_answer_cut_off_over_tcp_is_told() -> None:
    """A resolver that answers with half a message over TCP is out of the game."""

    def act(response: Any, transport: Any) -> bytes:
        if transport.value == "tcp":
            return b"\x00" * 5
        response.flags |= dns.flags.TC
        return bytes(response.to_wire())

    with pytest.raises(DnsUnavailable, match="an answer that cannot be read"):
        ask(OddServer({("example.com", "CNAME"): act}), lambda r: r.alias("example.com"))


def test_zone_is_found_without_an_soa_beside_the_answer() -> None:
    """Some resolvers leave out what says where the zone begins; its own SOA says it too."""
    server = OddServer({("example.com", "SOA"): [("answer", "example.com.", 5, "IN", "SOA", SOA)]})

    assert "example.com" == ask(server, lambda r: r.zone_of("a.b.example.com"))


def test_zone_at_the_end_of_an_alias_is_not_the_names() -> None:
    """The SOA of where an alias leads says nothing about the name."""
    server = OddServer(
        {
            ("a.example.com", "SOA"): [
                ("answer", "a.example.com.", 5, "IN", "CNAME", "edge.example.net."),
                ("authority", "example.net.", 5, "IN", "SOA", SOA),
            ],
            ("example.com", "SOA"): [("answer", "example.com.", 5, "IN", "SOA", SOA)],
        }
    )

    assert "example.com" == ask(server, lambda r: r.zone_of("a.example.com"))


@pytest.mark.parametrize(
    "script", [{}, {("com", "SOA"): [("answer", "com.", 5, "IN", "SOA", SOA)]}]
)
def test_registrys_zone_is_no_zone_of_the_domain(script: dict[tuple[str, str], Any]) -> None:
    """The domain is not registered, or not delegated."""
    with pytest.raises(ZoneNotFound, match=r"holds a\.example\.com"):
        ask(OddServer(script), lambda r: r.zone_of("a.example.com"))


def test_zone_without_name_servers_is_not_delegated() -> None:
    """There is no resolver to ask."""
    with pytest.raises(ZoneNotFound, match=r"holds example\.com"):
        ask(OddServer({}), lambda r: r.name_servers("example.com"))


def test_addresses_are_found_though_one_kind_cannot_be_looked_up() -> None:
    """Broken servers fail at AAAA; the A records are good all the same."""
    server = OddServer(
        {
            ("ns.example.com", "A"): [("answer", "ns.example.com.", 5, "IN", "A", "127.0.53.1")],
            ("ns.example.com", "AAAA"): code(dns.rcode.SERVFAIL),
            ("ns2.example.com", "AAAA"): [("answer", "ns2.example.com.", 5, "IN", "AAAA", "::1")],
        }
    )

    assert ("127.0.53.1",) == ask(server, lambda r: r.addresses("ns.example.com"))
    assert ("::1",) == ask(server, lambda r: r.addresses("ns2.example.com"))


def test_resolver_must_be_an_address() -> None:
    """A name would need a resolver to be found."""
    with pytest.raises(ConfigError, match=r"'dns\.example\.com' is not an IP address") as wrong:
        Resolvers([("dns.example.com", 53)], ANSWER_WITHIN)

    assert "[dns].resolvers" in str(wrong.value.hint)


def test_systems_resolvers_are_read_where_the_system_has_them(tmp_path: Path) -> None:
    """In the usual file, with the usual port."""
    file = tmp_path / "resolv.conf"
    file.write_text("search example.com\nnameserver 127.0.53.9\nnameserver ::1\n")

    assert [("127.0.53.9", 53), ("::1", 53)] == system_resolvers(str(file))


@pytest.mark.parametrize("content", [None, "", "search example.com\n"])
def test_system_without_a_resolver_is_told(tmp_path: Path, content: str | None) -> None:
    """A minimal container may have none."""
    file = tmp_path / "resolv.conf"
    if content is not None:
        file.write_text(content)

    with pytest.raises(DnsUnavailable, match="no DNS resolver") as nothing:
        system_resolvers(str(file))

    assert "[dns].resolvers" in str(nothing.value.hint)


def test_names_come_back_in_one_spelling() -> None:
    """Lower case, no final dot, however the zone spells them."""
    with name_servers() as world:
        world.zones.seed("shout.example.com", "CNAME", "EDGE.Example.NET.")
        resolvers = Resolvers([(world.resolver.address, world.port)], ANSWER_WITHIN)

        assert "edge.example.net" == resolvers.alias("Shout.Example.COM.")
        assert ("ns1.dns.test", "ns2.dns.test") == resolvers.name_servers("example.com")
        assert "example.com" == resolvers.zone_of("a.b.Example.com")
