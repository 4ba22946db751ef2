"""What is checked before an order: zones, CAA, signatures, the directory, keys of a DNS account."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dns.rcode
import pytest

from certferry.adapters.acme.acme_client import Client, read_directory
from certferry.adapters.acme.examination import NamesLook, ZonesLook
from certferry.adapters.acme.issuer import AcmeIssuer
from certferry.adapters.acme.network import IssuerSettings
from certferry.adapters.acme.propagation import FixedWait
from certferry.adapters.acme.resolvers import Resolvers
from certferry.core.discovery.inventory import FoundZone
from certferry.core.findings import Code
from certferry.core.network import Applicant
from certferry.errors import (
    CaUnavailable,
    DnsAccessDenied,
    DnsError,
    OrderFailed,
    Problem,
    Severity,
)
from certferry.ports.issuer import IssueRequest
from certferry.reconcile.issue import ZoneRouter
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.httpd import HttpService, Request, Response
from certferry_sandbox.nameserver.service import DnsService
from certferry_sandbox.testing.memory_dns import MemoryDns
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.name_servers import (
    ANSWER_WITHIN,
    HOSTS,
    RESOLVER,
    START,
    NameServers,
    name_servers,
)
from tests.adapters.acme.ports import unavailable
from tests.adapters.acme.proxy import with_fields

# --- Whether challenges can be written and seen: an account's zones, and whom the world asks


class Account(MemoryDns):
    """An account whose zones are served by the hosts that it says, some of them paused."""

    def __init__(self, *zones: str, hosts: tuple[str, ...] = HOSTS[:2], paused: str = "") -> None:
        super().__init__(zones)
        self._hosts = frozenset(hosts)
        self._paused = paused

    def zones(self) -> tuple[FoundZone, ...]:
        paused = Text("it is paused")
        return tuple(
            FoundZone(zone.name, paused if zone.name == self._paused else None)
            for zone in super().zones()
        )

    def name_servers(self, zone: str) -> frozenset[str]:
        return self._hosts


class Unlisted:
    """A provider that cannot list its zones."""

    def add_txt(self, name: str, value: str) -> str:
        raise AssertionError

    remove_txt = add_txt  # neither is called


@pytest.fixture
def world() -> Iterator[NameServers]:
    """Name servers of example.com and example.net, and a resolver."""
    with name_servers() as servers:
        yield servers


def look(world: NameServers, account: object, *names: str) -> dict[str, Code | str]:
    """Examine names, and return the codes by what they are about."""
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)
    zones = ZonesLook("dns", account, world.propagation(), resolvers)  # type: ignore[arg-type]  # one is no provider
    asked = names or ("img.example.com", "*.img.example.com")
    found = zones.look((name, account) for name in asked)  # type: ignore[misc]  # one is no provider
    return {finding.subject: finding.code for finding in found}


CHALLENGE = "_acme-challenge.img.example.com"
BELOW_A_CUT = "www.sub.example.com"


def as_it_is(world: NameServers) -> None:
    """Leave the world as it is."""


def cut(world: NameServers) -> None:
    world.zones.add_zone("sub.example.com", HOSTS[2:])


def led(*aliases: tuple[str, str]) -> Callable[[NameServers], None]:
    def add(world: NameServers) -> None:
        for name, target in aliases:
            world.zones.seed(name, "CNAME", target)

    return add


AWAY = led((CHALLENGE, "img.example.net."))
IN_A_CIRCLE = led((CHALLENGE, "a.example.com."), ("a.example.com", f"{CHALLENGE}."))
BY_WILDCARD = led(("*.example.com", "edge.example.net."))


@pytest.mark.parametrize(
    ("prepare", "account", "names", "expected"),
    [
        (as_it_is, Account("example.com"), (), {}),
        (as_it_is, Account("example.net"), (), {CHALLENGE: Code.ZONE_MISSING}),
        (
            as_it_is,
            Account("example.com", paused="example.com"),
            (),
            {CHALLENGE: Code.ZONE_BLOCKED},
        ),
        (as_it_is, Account("no.test"), ("www.no.test",), {"no.test": Code.NOT_DELEGATED}),
        # An account that does not know its name servers, and one that cannot list its zones.
        (as_it_is, Account("example.com", hosts=()), (), {}),
        (as_it_is, Unlisted(), (), {}),
        # What is written above a cut is not seen below it.
        (cut, Account("example.com"), (BELOW_A_CUT,), {"example.com": Code.DELEGATED_ELSEWHERE}),
        (
            cut,
            MemoryDns(["example.com"]),
            (BELOW_A_CUT,),
            {"example.com": Code.DELEGATED_ELSEWHERE},
        ),
        # The zone at the end of an alias is the one that counts.
        (AWAY, Account("example.net", hosts=HOSTS[2:]), (), {}),
        (AWAY, Account("example.com"), (), {"img.example.net": Code.ZONE_MISSING}),
        (IN_A_CIRCLE, Account("example.com"), (), {CHALLENGE: Code.ALIAS_BROKEN}),
        (BY_WILDCARD, Account("example.com"), (), {CHALLENGE: Code.ALIAS_BY_WILDCARD}),
        (
            lambda world: world.resolver.refusing(dns.rcode.SERVFAIL),
            Account("example.com"),
            (),
            {CHALLENGE: Code.NOT_LOOKED_AT},
        ),
    ],
)
def test_account_and_the_world(
    world: NameServers,
    prepare: Callable[[NameServers], None],
    account: object,
    names: tuple[str, ...],
    expected: dict[str, Code],
) -> None:
    """What stands between them is reported of each challenge, or zone, apex and wildcard once."""
    prepare(world)

    assert expected == look(world, account, *names)


def test_delegation_that_leads_elsewhere(world: NameServers) -> None:
    """The account has the zone, and the world asks others: both are named."""
    account = Account("example.com", hosts=("ns9.other.test",))
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)

    [finding] = ZonesLook("dns", account, world.propagation(), resolvers).look(
        [("www.example.com", account)]
    )

    assert (Code.DELEGATED_ELSEWHERE, "example.com") == (finding.code, finding.subject)
    assert "ns1.dns.test, ns2.dns.test" in str(finding.message)
    assert "at the registrar to ns9.other.test" in str(finding.hint)


def test_account_that_is_refused_is_reported_as_that(world: NameServers) -> None:
    """By the error of the provider."""
    account = Account("example.com")
    account.fail_with(DnsAccessDenied("the token is refused"))

    with pytest.raises(DnsAccessDenied):
        look(world, account)


def test_cname_that_may_be_there_and_is_not_looked_for() -> None:
    """With a wait in the place of every question it is never seen, and none is printed to be set:
    what helps is another way to see it.
    """
    account = MemoryDns(["example.com"])
    blind = FixedWait(timedelta(seconds=1), lambda _: None, lambda: START)
    zones = ZonesLook("dns", account, blind, None)

    [finding] = zones.look([("img.example.org", account)])

    assert Code.ZONE_MISSING == finding.code
    assert "with `wait` under [dns] certferry asks nothing" in str(finding.message)
    assert "`doh` under [dns] instead of `wait`" in str(finding.hint)
    assert "CNAME _acme" not in str(finding.hint)


def test_name_that_another_account_writes_is_left_to_it(world: NameServers) -> None:
    """Also where a CNAME leads there; what no account has, is reported with the CNAME to set."""
    own, other = Account("example.com"), Account("example.net", hosts=HOSTS[2:])
    both = ZoneRouter([("example.org", own), ("example.com", own)])
    shared = ZoneRouter([("example.com", own), ("example.net", other)])
    world.zones.seed("_acme-challenge.led.example.com", "CNAME", "led.example.net.")
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)

    def found(account: Account, provider: ZoneRouter) -> list[Problem]:
        look = ZonesLook("dns", account, world.propagation(), resolvers)
        return look.look([("led.example.com", provider), ("img.example.com", provider)])

    assert [] == found(own, shared)
    assert [] == found(other, shared)
    [missing] = found(own, both)
    assert (Code.ZONE_MISSING, "led.example.net") == (missing.code, missing.subject)
    assert "the CNAME at _acme-challenge.led.example.com leads to led.example.net" in str(
        missing.message
    )


def test_wildcard_that_answers_for_a_challenge_is_explained(world: NameServers) -> None:
    """Its CNAME is seen, and is not the one that is missing."""
    world.zones.seed("*.example.net", "CNAME", "edge.cdn.test.")
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)
    account = Account("example.com")

    [missing] = ZonesLook("dns", account, world.propagation(), resolvers).look(
        [("img.example.net", account)]
    )

    challenge = "_acme-challenge.img.example.net"
    assert f"{challenge}. CNAME _acme-challenge.example.com." in str(missing.hint)
    assert "the CNAME to edge.cdn.test seen at the name comes from a wildcard" in str(
        missing.message
    )


# --- What CAA and DNSSEC say of names, asked of real name servers


CA = "letsencrypt.org"
US = Applicant(frozenset({CA}), "https://ca.test/acct/1")
NAMES = ("img.example.com", "*.img.example.com")


@pytest.fixture
def named_world() -> Iterator[NameServers]:
    """Name servers of example.com and example.net, and a resolver."""
    with name_servers() as servers:
        servers.zones.seed("img.example.com", "A", "192.0.2.1")
        yield servers


def look_at_names(
    named_world: NameServers, *names: str, applicant: Applicant = US
) -> dict[str, Code | str]:
    """Examine names, and return the codes by what they are about."""
    resolvers = Resolvers([(RESOLVER, named_world.port)], ANSWER_WITHIN)
    found = NamesLook(resolvers, applicant).look(names or NAMES)
    return {finding.subject: finding.code for finding in found}


def test_names_without_records_are_in_order(named_world: NameServers) -> None:
    """Any CA may issue."""
    assert {} == look_at_names(named_world)


def test_record_above_the_name_is_in_force(named_world: NameServers) -> None:
    """The CA climbs to it; a name has its records to itself where there are any."""
    named_world.zones.seed("example.com", "CAA", '0 issue "other.test"')
    assert dict.fromkeys(NAMES, Code.CAA_FORBIDS) == look_at_names(named_world)

    named_world.zones.seed("img.example.com", "CAA", f'0 issue "{CA}"')
    assert {} == look_at_names(named_world)


def test_what_forbids_is_reported_with_the_record_to_add(named_world: NameServers) -> None:
    """Where it stands, whom it names, and what to write there."""
    named_world.zones.seed("example.com", "CAA", '0 issue "other.test"')
    named_world.zones.seed("example.com", "CAA", '0 issuewild ";"')
    resolvers = Resolvers([(RESOLVER, named_world.port)], ANSWER_WITHIN)

    one, wild = NamesLook(resolvers, US).look(NAMES)

    assert f"the CAA records at example.com allow other.test to issue, but not {CA}" == str(
        one.message
    )
    assert f'add the record `example.com. CAA 0 issue "{CA}"`' in str(one.hint)
    assert f'CAA 0 issuewild "{CA}"' in str(wild.hint)
    assert Severity.ERROR is one.severity


def test_records_at_the_end_of_an_alias_are_in_force(named_world: NameServers) -> None:
    """As a CDN's, to which the name leads (RFC 8659 §3)."""
    named_world.zones.seed("www.example.com", "CNAME", "cdn.example.net.")
    named_world.zones.seed("cdn.example.net", "CAA", '0 issue "other.test"')

    assert {"www.example.com": Code.CAA_FORBIDS} == look_at_names(named_world, "www.example.com")


def test_ca_that_does_not_report_its_name_is_not_judged(named_world: NameServers) -> None:
    """Who may issue is reported all the same; without records there is nothing to compare."""
    unknown = Applicant(frozenset())
    assert {} == look_at_names(named_world, applicant=unknown)

    named_world.zones.seed("example.com", "CAA", '0 issue "other.test"')

    assert dict.fromkeys(NAMES, Code.CAA_NOT_JUDGED) == look_at_names(
        named_world, applicant=unknown
    )


def test_resolver_that_fails_leaves_caa_unread(named_world: NameServers) -> None:
    """A CA that reads none may issue nothing either; it may pass."""
    named_world.resolver.refusing(dns.rcode.SERVFAIL)
    resolvers = Resolvers([(RESOLVER, named_world.port)], ANSWER_WITHIN)

    [finding] = NamesLook(resolvers, US).look(["img.example.com"])

    assert (Code.CAA_UNREADABLE, Severity.WARNING) == (finding.code, finding.severity)


def test_signatures_that_do_not_hold(named_world: NameServers) -> None:
    """The zone answers where they are not checked, and a CA checks them. The other zone is whole,
    and apex and wildcard are reported once.
    """
    named_world.resolver.bogus.add("example.com")

    assert {"img.example.com": Code.DNSSEC_BROKEN} == look_at_names(
        named_world, *NAMES, "www.example.net"
    )


def test_one_resolver_that_checks_is_enough(named_world: NameServers) -> None:
    """Another that checks nothing must not hide it."""
    named_world.resolver.bogus.add("example.com")
    resolvers = Resolvers(
        [("127.0.53.1", named_world.port), (RESOLVER, named_world.port)], ANSWER_WITHIN
    )

    [finding] = NamesLook(resolvers, US).look(["img.example.com"])

    assert Code.DNSSEC_BROKEN == finding.code


# --- What a CA's directory says: the time, and what the CA is called in CAA


NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DIRECTORY = {name: f"http://127.0.0.1/{name}" for name in ("newNonce", "newAccount", "newOrder")}


def found_in_directory(meta: object, *, ahead: timedelta = timedelta(0)) -> Client:
    """Read a directory with this in its `meta`, at a CA whose clock is so far ahead."""
    document = json.dumps(DIRECTORY | ({} if meta is None else {"meta": meta})).encode()

    def answer(request: Request) -> Response:
        return Response(200, document)

    with HttpService(answer, clock=lambda: NOW + ahead) as ca:
        return read_directory(IssuerSettings(ca.url), lambda _: None, lambda: NOW)


def test_identities_are_read_in_lower_case() -> None:
    """A CA may have several."""
    seen = found_in_directory({"caaIdentities": ["LetsEncrypt.org", "other.test"]})

    assert frozenset({"letsencrypt.org", "other.test"}) == seen.identities


@pytest.mark.parametrize(
    "meta", [None, {}, {"caaIdentities": []}, {"caaIdentities": None}, {"caaIdentities": 5}]
)
def test_directory_that_reports_no_identity(meta: object) -> None:
    """They are optional (RFC 8555 §7.1.1); what is no list names none."""
    assert frozenset() == found_in_directory(meta).identities


@pytest.mark.parametrize("minutes", [0, 20, -20])
def test_clock_of_the_ca_is_reported(minutes: int) -> None:
    """By the Date of its answer."""
    ahead = timedelta(minutes=minutes)

    assert ahead == found_in_directory(None, ahead=ahead).ahead


def test_address_that_is_no_directory() -> None:
    """It is reported in our words."""
    with HttpService(lambda _: Response(200, b"<html>")) as ca, pytest.raises(CaUnavailable):
        read_directory(IssuerSettings(ca.url), lambda _: None, lambda: NOW)


# --- CAA records that forbid the CA are reported before anything is ordered


PEBBLE = "pebble.letsencrypt.org"


def naming(*identities: str) -> Callable[[Request, Response], Response]:
    """Let the directory say what the CA is called in CAA records; this Pebble does not."""

    def rewrite(request: Request, response: Response) -> Response:
        if request.path != "/dir":
            return response
        return with_fields(response, meta={"caaIdentities": identities})

    return rewrite


@pytest.fixture
def issuer(bench: Bench, dns_service: DnsService) -> Callable[..., AcmeIssuer]:
    host, _, port = dns_service.resolver_endpoint.rpartition(":")
    bench.proxy.rewrite = naming(PEBBLE)

    def connected(port: int = int(port), within: timedelta = ANSWER_WITHIN) -> AcmeIssuer:
        return AcmeIssuer(
            settings=bench.settings(),
            state=bench.state,
            propagation=bench.propagation,
            pause=bench.clock.pause,
            now=bench.clock.now,
            resolvers=Resolvers([(host, port)], within),
        )

    return connected


def orders(bench: Bench) -> int:
    return len(bench.proxy.requests("POST /order-plz"))


def test_names_that_the_ca_may_not_issue_for(
    bench: Bench, issuer: Callable[..., AcmeIssuer]
) -> None:
    """The record is reported with what to write there; nothing is ordered until it is changed."""
    forbids = bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    with pytest.raises(OrderFailed) as failure:
        bench.issue(issuer=issuer())

    assert (
        f"{bench.name}: the CAA records at {bench.name} allow other.test to issue, but not {PEBBLE}"
    ) == str(failure.value)
    assert f'CAA 0 issue "{PEBBLE}"' in str(failure.value.hint)
    assert 0 == orders(bench)

    bench.zones.remove(forbids.id)
    bench.zones.seed(bench.name, "CAA", f'0 issue "{PEBBLE}"')
    assert bench.issue(issuer=issuer()).key_matches


def test_record_for_another_account(bench: Bench, issuer: Callable[..., AcmeIssuer]) -> None:
    """The URL of the account that there is by now is compared (RFC 8657)."""
    other = f'0 issue "{PEBBLE}; accounturi=https://ca.test/acct/1"'
    bench.zones.seed(bench.name, "CAA", other)

    with pytest.raises(OrderFailed, match="only for another account"):
        bench.issue(issuer=issuer())
    assert 0 == orders(bench)


def test_ca_that_does_not_say_what_it_is_called(
    bench: Bench, issuer: Callable[..., AcmeIssuer]
) -> None:
    """The CA judges its records itself."""
    bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    connected = issuer()
    bench.proxy.rewrite = naming()

    assert bench.issue(issuer=connected).key_matches


def test_records_that_cannot_be_read(bench: Bench, issuer: Callable[..., AcmeIssuer]) -> None:
    """The CA is asked all the same: it may see more than this machine's resolver."""
    bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    assert bench.issue(issuer=issuer(9, timedelta(seconds=0.1))).key_matches


def test_open_order_is_finished(bench: Bench, issuer: Callable[..., AcmeIssuer]) -> None:
    """It was allowed when it was made; the CA has looked by itself."""
    bench.issue()
    bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    assert bench.issue(issuer=issuer()).key_matches


# --- A DNS account that refuses its keys costs one order, whatever it can list


DENIED = DnsAccessDenied("the token is wrong")


def issue(bench: Bench) -> None:
    """Issue by a run of its own, with an account that has a label."""
    request: IssueRequest = replace(bench.request(), dns="bind")
    bench.issuer().issue(request, bench.dns, bench.lease(), bench.events.append)


@pytest.fixture
def refusing(bench: Bench) -> Bench:
    """A run has found that the account refuses its keys, and its order is lost."""
    bench.dns.before_adding = DENIED
    bench.dns.while_removing = DENIED
    with pytest.raises(DnsAccessDenied):
        issue(bench)
    bench.state.drop_order(bench.lease())
    return bench


def test_refused_keys_are_tried_before_the_ca_is_asked(refusing: Bench) -> None:
    """The CA hears of no second order; each run asks the account."""
    asked = len(refusing.proxy.journal)

    for _ in range(2):
        with pytest.raises(DnsAccessDenied):
            issue(refusing)

    assert asked == len(refusing.proxy.journal)
    assert 2 == len(refusing.dns.removals)


def test_keys_that_are_taken_again(refusing: Bench) -> None:
    """The run goes on by itself, and later ones do not ask any more."""
    refusing.dns.before_adding = refusing.dns.while_removing = None
    issue(refusing)
    looks = refusing.dns.removals.count(None)

    refusing.state.drop_order(refusing.lease())
    issue(refusing)

    assert 1 == looks == refusing.dns.removals.count(None)


@pytest.mark.parametrize("problem", [unavailable(), DnsError("no such record")])
def test_account_that_says_something_else(refusing: Bench, problem: DnsError) -> None:
    """It may take the keys: then the order finds out, so that nothing stays shut for ever."""
    refusing.dns.before_adding, refusing.dns.while_removing = None, problem

    issue(refusing)

    assert 2 == len(refusing.proxy.requests("POST /order-plz"))


def test_other_account_is_not_asked(refusing: Bench) -> None:
    """What one account refuses says nothing of another."""
    refusing.dns.before_adding = refusing.dns.while_removing = None

    refusing.issue()

    assert None not in refusing.dns.removals
