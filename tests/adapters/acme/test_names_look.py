"""What CAA and DNSSEC say of names, asked of real name servers."""

from __future__ import annotations

from collections.abc import Iterator

import dns.rcode
import pytest

from certferry.adapters.acme.examination import NamesLook
from certferry.adapters.acme.resolvers import Resolvers
from certferry.core.findings import Code
from certferry.core.network import Applicant
from certferry.problem import Severity
from tests.adapters.acme.name_servers import (
    ANSWER_WITHIN,
    RESOLVER,
    NameServers,
    name_servers,
)

CA = "letsencrypt.org"
US = Applicant(frozenset({CA}), "https://ca.test/acct/1")
NAMES = ("img.example.com", "*.img.example.com")


@pytest.fixture
def world() -> Iterator[NameServers]:
    """Name servers of example.com and example.net, and a resolver."""
    with name_servers() as servers:
        servers.zones.seed("img.example.com", "A", "192.0.2.1")
        yield servers


def look(world: NameServers, *names: str, applicant: Applicant = US) -> dict[str, Code | str]:
    """Look at names, and give the codes by what they are about."""
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)
    found = NamesLook(resolvers, applicant).look(names or NAMES)
    return {finding.subject: finding.code for finding in found}


def test_names_without_records_are_in_order(world: NameServers) -> None:
    """Any CA may issue."""
    assert {} == look(world)


def test_record_above_the_name_is_in_force(world: NameServers) -> None:
    """The CA climbs to it; a name has its records to itself where there are any."""
    world.zones.seed("example.com", "CAA", '0 issue "other.test"')
    assert dict.fromkeys(NAMES, Code.CAA_FORBIDS) == look(world)

    world.zones.seed("img.example.com", "CAA", f'0 issue "{CA}"')
    assert {} == look(world)


def test_what_forbids_is_told_with_the_record_to_add(world: NameServers) -> None:
    """Where it stands, whom it names, and what to write there."""
    world.zones.seed("example.com", "CAA", '0 issue "other.test"')
    world.zones.seed("example.com", "CAA", '0 issuewild ";"')
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)

    one, wild = NamesLook(resolvers, US).look(NAMES)

    assert f"the CAA records at example.com let other.test issue, and not {CA}" == str(one.message)
    assert f'add the record `example.com. CAA 0 issue "{CA}"`' in str(one.hint)
    assert f'CAA 0 issuewild "{CA}"' in str(wild.hint)
    assert Severity.ERROR is one.severity


def test_records_at_the_end_of_an_alias_are_in_force(world: NameServers) -> None:
    """As a CDN's, to which the name leads (RFC 8659 §3)."""
    world.zones.seed("www.example.com", "CNAME", "cdn.example.net.")
    world.zones.seed("cdn.example.net", "CAA", '0 issue "other.test"')

    assert {"www.example.com": Code.CAA_FORBIDS} == look(world, "www.example.com")


def test_ca_that_does_not_tell_its_name_is_not_judged(world: NameServers) -> None:
    """Who may issue is told all the same; without records there is nothing to compare."""
    unknown = Applicant(frozenset())
    assert {} == look(world, applicant=unknown)

    world.zones.seed("example.com", "CAA", '0 issue "other.test"')

    assert dict.fromkeys(NAMES, Code.CAA_NOT_JUDGED) == look(world, applicant=unknown)


def test_resolver_that_fails_leaves_caa_unread(world: NameServers) -> None:
    """A CA that reads none may issue nothing either; it may pass."""
    world.resolver.refusing(dns.rcode.SERVFAIL)
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)

    [finding] = NamesLook(resolvers, US).look(["img.example.com"])

    assert (Code.CAA_UNREADABLE, Severity.WARNING) == (finding.code, finding.severity)


def test_signatures_that_do_not_hold(world: NameServers) -> None:
    """The zone answers where they are not checked, and a CA checks them. The other zone is whole,
    and apex and wildcard are told once.
    """
    world.resolver.bogus.add("example.com")

    assert {"img.example.com": Code.DNSSEC_BROKEN} == look(world, *NAMES, "www.example.net")


def test_one_resolver_that_checks_is_enough(world: NameServers) -> None:
    """Another that checks nothing must not hide it."""
    world.resolver.bogus.add("example.com")
    resolvers = Resolvers([("127.0.53.1", world.port), (RESOLVER, world.port)], ANSWER_WITHIN)

    [finding] = NamesLook(resolvers, US).look(["img.example.com"])

    assert Code.DNSSEC_BROKEN == finding.code
