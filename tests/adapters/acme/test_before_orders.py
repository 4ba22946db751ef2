"""Checks before an order: zones, CAA, DNSSEC, the directory, and the keys of a DNS account."""

from __future__ import annotations

import json
import re
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

# --- Zones of an account, and the delegations of the zones


class Account(MemoryDns):
    """An account with given name servers, and with a paused zone if wanted."""

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
    """A provider without a list of its zones."""

    def add_txt(self, name: str, value: str) -> str:
        raise AssertionError

    remove_txt = add_txt  # neither method is called


@pytest.fixture
def world() -> Iterator[NameServers]:
    """Name servers of example.com and example.net, and a resolver."""
    with name_servers() as servers:
        yield servers


def codes_by_subject(world: NameServers, account: object, *names: str) -> dict[str, Code | str]:
    """Check names, and return the codes by subject."""
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)
    zones = ZonesLook("dns", account, world.propagation(), resolvers)  # type: ignore[arg-type]  # any object
    checked = names or ("img.example.com", "*.img.example.com")
    findings = zones.look((name, account) for name in checked)  # type: ignore[misc]  # any object
    return {finding.subject: finding.code for finding in findings}


CHALLENGE = "_acme-challenge.img.example.com"
BELOW_A_CUT = "www.sub.example.com"


def no_change(world: NameServers) -> None:
    """Leave the zones unchanged."""


def delegate_sub_zone(world: NameServers) -> None:
    world.zones.add_zone("sub.example.com", HOSTS[2:])


def with_aliases(*aliases: tuple[str, str]) -> Callable[[NameServers], None]:
    def add(world: NameServers) -> None:
        for name, target in aliases:
            world.zones.seed(name, "CNAME", target)

    return add


ALIAS_ELSEWHERE = with_aliases((CHALLENGE, "img.example.net."))
ALIAS_LOOP = with_aliases((CHALLENGE, "a.example.com."), ("a.example.com", f"{CHALLENGE}."))
WILDCARD_ALIAS = with_aliases(("*.example.com", "edge.example.net."))


@pytest.mark.parametrize(
    ("prepare", "account", "names", "expected"),
    [
        (no_change, Account("example.com"), (), {}),
        (no_change, Account("example.net"), (), {CHALLENGE: Code.ZONE_MISSING}),
        (
            no_change,
            Account("example.com", paused="example.com"),
            (),
            {CHALLENGE: Code.ZONE_BLOCKED},
        ),
        (no_change, Account("no.test"), ("www.no.test",), {"no.test": Code.NOT_DELEGATED}),
        # An account without known name servers, and an account without a list of its zones.
        (no_change, Account("example.com", hosts=()), (), {}),
        (no_change, Unlisted(), (), {}),
        # Below a delegation, resolvers never see records of the parent zone.
        (
            delegate_sub_zone,
            Account("example.com"),
            (BELOW_A_CUT,),
            {"example.com": Code.DELEGATED_ELSEWHERE},
        ),
        (
            delegate_sub_zone,
            MemoryDns(["example.com"]),
            (BELOW_A_CUT,),
            {"example.com": Code.DELEGATED_ELSEWHERE},
        ),
        # An alias moves the challenge into the zone at its end.
        (ALIAS_ELSEWHERE, Account("example.net", hosts=HOSTS[2:]), (), {}),
        (ALIAS_ELSEWHERE, Account("example.com"), (), {"img.example.net": Code.ZONE_MISSING}),
        (ALIAS_LOOP, Account("example.com"), (), {CHALLENGE: Code.ALIAS_BROKEN}),
        (WILDCARD_ALIAS, Account("example.com"), (), {CHALLENGE: Code.ALIAS_BY_WILDCARD}),
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
    """Each problem between account and delegation is reported once for each challenge or zone."""
    prepare(world)

    assert expected == codes_by_subject(world, account, *names)


def test_delegation_to_other_name_servers(world: NameServers) -> None:
    """The finding names the account's name servers and the delegated name servers."""
    account = Account("example.com", hosts=("ns9.other.test",))
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)

    [finding] = ZonesLook("dns", account, world.propagation(), resolvers).look(
        [("www.example.com", account)]
    )

    assert (Code.DELEGATED_ELSEWHERE, "example.com") == (finding.code, finding.subject)
    assert "ns1.dns.test, ns2.dns.test" in str(finding.message)
    assert "at the registrar to ns9.other.test" in str(finding.hint)


def test_refused_account_is_reported(world: NameServers) -> None:
    """The provider's own error reaches the caller."""
    account = Account("example.com")
    account.fail_with(DnsAccessDenied("the token is refused"))

    with pytest.raises(DnsAccessDenied):
        codes_by_subject(world, account)


def test_cname_is_invisible_with_a_fixed_wait() -> None:
    """With a fixed wait certferry asks no resolver, so the hint recommends another way to check,
    and prints no CNAME.
    """
    account = MemoryDns(["example.com"])
    blind = FixedWait(timedelta(seconds=1), lambda _: None, lambda: START)
    zones = ZonesLook("dns", account, blind, None)

    [finding] = zones.look([("img.example.org", account)])

    assert Code.ZONE_MISSING == finding.code
    assert "with `wait` under [dns] certferry asks nothing" in str(finding.message)
    assert "`doh` under [dns] instead of `wait`" in str(finding.hint)
    assert "CNAME _acme" not in str(finding.hint)


def test_name_of_another_account(world: NameServers) -> None:
    """A name of another account is no problem, also by a CNAME; other names are reported."""
    own, other = Account("example.com"), Account("example.net", hosts=HOSTS[2:])
    own_only = ZoneRouter([("example.org", own), ("example.com", own)])
    shared = ZoneRouter([("example.com", own), ("example.net", other)])
    world.zones.seed("_acme-challenge.led.example.com", "CNAME", "led.example.net.")
    resolvers = Resolvers([(RESOLVER, world.port)], ANSWER_WITHIN)

    def findings(account: Account, provider: ZoneRouter) -> list[Problem]:
        look = ZonesLook("dns", account, world.propagation(), resolvers)
        return look.look([("led.example.com", provider), ("img.example.com", provider)])

    assert [] == findings(own, shared)
    assert [] == findings(other, shared)
    [missing] = findings(own, own_only)
    assert (Code.ZONE_MISSING, "led.example.net") == (missing.code, missing.subject)
    assert "the CNAME at _acme-challenge.led.example.com leads to led.example.net" in str(
        missing.message
    )


def test_wildcard_cname_at_a_challenge_is_explained(world: NameServers) -> None:
    """The CNAME of a wildcard is visible at the name, and differs from the missing CNAME."""
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


# --- CAA and DNSSEC, at real name servers


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
    """Check names, and return the codes by subject."""
    resolvers = Resolvers([(RESOLVER, named_world.port)], ANSWER_WITHIN)
    findings = NamesLook(resolvers, applicant).look(names or NAMES)
    return {finding.subject: finding.code for finding in findings}


def test_names_without_caa_records_are_in_order(named_world: NameServers) -> None:
    """Without CAA records any CA may issue."""
    assert {} == look_at_names(named_world)


def test_nearest_caa_records_are_in_force(named_world: NameServers) -> None:
    """The CA climbs from the name towards the root, up to the first CAA records."""
    named_world.zones.seed("example.com", "CAA", '0 issue "other.test"')
    assert dict.fromkeys(NAMES, Code.CAA_FORBIDS) == look_at_names(named_world)

    named_world.zones.seed("img.example.com", "CAA", f'0 issue "{CA}"')
    assert {} == look_at_names(named_world)


def test_forbidding_record_is_reported_with_the_record_to_add(named_world: NameServers) -> None:
    """The finding has the name of the record, the allowed CA, and the record to add."""
    named_world.zones.seed("example.com", "CAA", '0 issue "other.test"')
    named_world.zones.seed("example.com", "CAA", '0 issuewild ";"')
    resolvers = Resolvers([(RESOLVER, named_world.port)], ANSWER_WITHIN)

    plain, wild = NamesLook(resolvers, US).look(NAMES)

    assert f"the CAA records at example.com allow other.test to issue, but not {CA}" == str(
        plain.message
    )
    assert f'add the record `example.com. CAA 0 issue "{CA}"`' in str(plain.hint)
    assert f'CAA 0 issuewild "{CA}"' in str(wild.hint)
    assert Severity.ERROR is plain.severity


def test_records_at_the_end_of_an_alias_are_in_force(named_world: NameServers) -> None:
    """The name may be an alias of a CDN's name (RFC 8659 §3)."""
    named_world.zones.seed("www.example.com", "CNAME", "cdn.example.net.")
    named_world.zones.seed("cdn.example.net", "CAA", '0 issue "other.test"')

    assert {"www.example.com": Code.CAA_FORBIDS} == look_at_names(named_world, "www.example.com")


def test_ca_without_known_identities_is_not_judged(named_world: NameServers) -> None:
    """Existing CAA records are still reported; without records there is no finding."""
    unknown = Applicant(frozenset())
    assert {} == look_at_names(named_world, applicant=unknown)

    named_world.zones.seed("example.com", "CAA", '0 issue "other.test"')

    assert dict.fromkeys(NAMES, Code.CAA_NOT_JUDGED) == look_at_names(
        named_world, applicant=unknown
    )


def test_failing_resolver_leaves_caa_unread(named_world: NameServers) -> None:
    """A CA must not issue with unreadable CAA records; the failure may be temporary."""
    named_world.resolver.refusing(dns.rcode.SERVFAIL)
    resolvers = Resolvers([(RESOLVER, named_world.port)], ANSWER_WITHIN)

    [finding] = NamesLook(resolvers, US).look(["img.example.com"])

    assert (Code.CAA_UNREADABLE, Severity.WARNING) == (finding.code, finding.severity)


ACCOUNT = f"https://{CA}/acme/acct/1"


def test_domain_that_any_account_can_order_for(named_world: NameServers) -> None:
    """The proposed record lets our account order, and stops others; once the record stands, the
    domain is left out.
    """
    resolvers = Resolvers([(RESOLVER, named_world.port)], ANSWER_WITHIN)
    us = Applicant(frozenset({CA}), ACCOUNT)

    [finding] = NamesLook(resolvers, us).open_to_others(["example.com"], by_records=True)
    assert (Code.CAA_OPEN, Severity.NOTICE) == (finding.code, finding.severity)
    record = re.search(r"`example\.com\. CAA (0 issue \".*?\")`", str(finding.hint))
    assert record is not None
    assert f"{CA}; accounturi={ACCOUNT}; validationmethods=dns-01,dns-persist-01" in record[1]
    named_world.zones.seed("example.com", "CAA", record[1])

    look = NamesLook(resolvers, us)
    assert [] == list(look.open_to_others(["example.com"], by_records=True))
    assert {} == look_at_names(named_world, applicant=us)
    another = Applicant(frozenset({CA}), f"{ACCOUNT}0")
    assert {Code.CAA_FORBIDS} == {*look_at_names(named_world, applicant=another).values()}


@pytest.mark.parametrize(
    "applicant", [Applicant(frozenset(), ACCOUNT), Applicant(frozenset({CA}), None)]
)
def test_ca_or_account_without_a_name_in_caa_records(
    named_world: NameServers, applicant: Applicant
) -> None:
    """A record without them would be wrong, so no record is proposed."""
    resolvers = Resolvers([(RESOLVER, named_world.port)], ANSWER_WITHIN)

    look = NamesLook(resolvers, applicant)
    assert [] == list(look.open_to_others(["example.com"], by_records=False))


def test_broken_dnssec(named_world: NameServers) -> None:
    """Only validating resolvers notice a broken signature, and CAs validate. The other zone is
    valid, and apex and wildcard have a single finding.
    """
    named_world.resolver.bogus.add("example.com")

    assert {"img.example.com": Code.DNSSEC_BROKEN} == look_at_names(
        named_world, *NAMES, "www.example.net"
    )


def test_end_of_invalid_signatures_is_named(named_world: NameServers) -> None:
    """A signature that ran out needs another fix than a DS record that an earlier provider left."""
    named_world.resolver.bogus.add("example.com")
    named_world.resolver.signed_until = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
    resolvers = Resolvers([(RESOLVER, named_world.port)], ANSWER_WITHIN)

    for name in ("example.com", "img.example.com", "missing.example.com"):
        [finding] = NamesLook(resolvers, US).look([name])
        assert "the first signature ends at 2026-11-30 12:00 UTC" in str(finding.message)
        assert "let the DNS provider sign the zone again" in str(finding.hint)


def test_single_validating_resolver_is_enough(named_world: NameServers) -> None:
    """A resolver without validation must not hide the broken signature."""
    named_world.resolver.bogus.add("example.com")
    resolvers = Resolvers(
        [("127.0.53.1", named_world.port), (RESOLVER, named_world.port)], ANSWER_WITHIN
    )

    [finding] = NamesLook(resolvers, US).look(["img.example.com"])

    assert Code.DNSSEC_BROKEN == finding.code


# --- The directory: the CA's clock, and its identities in CAA


NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DIRECTORY = {name: f"http://127.0.0.1/{name}" for name in ("newNonce", "newAccount", "newOrder")}


def directory_with(meta: object, *, ahead: timedelta = timedelta(0)) -> Client:
    """Read a directory with a given `meta`, at a CA whose clock is `ahead`."""
    document = json.dumps(DIRECTORY | ({} if meta is None else {"meta": meta})).encode()

    def answer(request: Request) -> Response:
        return Response(200, document)

    with HttpService(answer, clock=lambda: NOW + ahead) as ca:
        return read_directory(IssuerSettings(ca.url), lambda _: None, lambda: NOW)


def test_identities_are_read_in_lower_case() -> None:
    """A CA may have several identities."""
    client = directory_with({"caaIdentities": ["LetsEncrypt.org", "other.test"]})

    assert frozenset({"letsencrypt.org", "other.test"}) == client.identities


@pytest.mark.parametrize(
    "meta", [None, {}, {"caaIdentities": []}, {"caaIdentities": None}, {"caaIdentities": 5}]
)
def test_directory_without_identities(meta: object) -> None:
    """`caaIdentities` is optional (RFC 8555 §7.1.1), and a malformed list counts as empty."""
    assert frozenset() == directory_with(meta).identities


@pytest.mark.parametrize("minutes", [0, 20, -20])
def test_clock_of_the_ca_is_reported(minutes: int) -> None:
    """The difference comes from the Date header."""
    ahead = timedelta(minutes=minutes)

    assert ahead == directory_with(None, ahead=ahead).ahead


def test_web_page_instead_of_a_directory() -> None:
    """The error is reported in certferry's words."""
    with HttpService(lambda _: Response(200, b"<html>")) as ca, pytest.raises(CaUnavailable):
        read_directory(IssuerSettings(ca.url), lambda _: None, lambda: NOW)


# --- CAA records before an order


PEBBLE = "pebble.letsencrypt.org"


def with_identities(*identities: str) -> Callable[[Request, Response], Response]:
    """Let the directory list the CA's identities; Pebble itself lists none."""

    def rewrite(request: Request, response: Response) -> Response:
        if request.path != "/dir":
            return response
        return with_fields(response, meta={"caaIdentities": identities})

    return rewrite


@pytest.fixture
def issuer(bench: Bench, dns_service: DnsService) -> Callable[..., AcmeIssuer]:
    host, _, port = dns_service.resolver_endpoint.rpartition(":")
    bench.proxy.rewrite = with_identities(PEBBLE)

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


def test_caa_that_forbids_the_ca_prevents_an_order(
    bench: Bench, issuer: Callable[..., AcmeIssuer]
) -> None:
    """The error has the record and its correction; the order follows after the correction."""
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
    """The record is compared with the URL of the present account (RFC 8657)."""
    other = f'0 issue "{PEBBLE}; accounturi=https://ca.test/acct/1"'
    bench.zones.seed(bench.name, "CAA", other)

    with pytest.raises(OrderFailed, match="only for another account"):
        bench.issue(issuer=issuer())
    assert 0 == orders(bench)


def test_ca_without_identities_judges_caa_itself(
    bench: Bench, issuer: Callable[..., AcmeIssuer]
) -> None:
    """Certferry orders, because it cannot compare the records."""
    bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    connected = issuer()
    bench.proxy.rewrite = with_identities()

    assert bench.issue(issuer=connected).key_matches


def test_unreadable_caa_records(bench: Bench, issuer: Callable[..., AcmeIssuer]) -> None:
    """The order is made anyway, because the CA may see more than this host's resolver."""
    bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    assert bench.issue(issuer=issuer(9, timedelta(seconds=0.1))).key_matches


def test_open_order_ignores_caa(bench: Bench, issuer: Callable[..., AcmeIssuer]) -> None:
    """The records allowed the order when the order was made; the CA checks for itself."""
    bench.issue()
    bench.zones.seed(bench.name, "CAA", '0 issue "other.test"')

    assert bench.issue(issuer=issuer()).key_matches


# --- A DNS account that refuses its keys costs a single order


DENIED = DnsAccessDenied("the token is wrong")


def issue(bench: Bench) -> None:
    """Issue in a new run, with a labelled account."""
    request: IssueRequest = replace(bench.request(), dns="bind")
    bench.issuer().issue(request, bench.dns, bench.lease(), bench.events.append)


@pytest.fixture
def refused(bench: Bench) -> Bench:
    """A run has met the account's refusal of its keys, and the order is lost."""
    bench.dns.before_adding = DENIED
    bench.dns.while_removing = DENIED
    with pytest.raises(DnsAccessDenied):
        issue(bench)
    bench.state.drop_order(bench.lease())
    return bench


def test_refused_keys_are_tried_before_an_order(refused: Bench) -> None:
    """The CA gets no second order, and each run tries the account once."""
    requests = len(refused.proxy.journal)

    for _ in range(2):
        with pytest.raises(DnsAccessDenied):
            issue(refused)

    assert requests == len(refused.proxy.journal)
    assert 2 == len(refused.dns.removals)


def test_keys_that_are_accepted_again(refused: Bench) -> None:
    """The run continues, and later runs order without a trial."""
    refused.dns.before_adding = refused.dns.while_removing = None
    issue(refused)
    looks = refused.dns.removals.count(None)

    refused.state.drop_order(refused.lease())
    issue(refused)

    assert 1 == looks == refused.dns.removals.count(None)


@pytest.mark.parametrize("problem", [unavailable(), DnsError("no such record")])
def test_account_with_another_error(refused: Bench, problem: DnsError) -> None:
    """The keys may be accepted, and only an order shows the truth."""
    refused.dns.before_adding, refused.dns.while_removing = None, problem

    issue(refused)

    assert 2 == len(refused.proxy.requests("POST /order-plz"))


def test_other_account_is_not_tried(refused: Bench) -> None:
    """The refusal concerns a single account."""
    refused.dns.before_adding = refused.dns.while_removing = None

    refused.issue()

    assert None not in refused.dns.removals
