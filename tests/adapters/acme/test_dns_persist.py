"""Names proven by a permanent record, dns-persist-01 (draft-ietf-acme-dns-persist-02), at a CA that
reads the record in DNS.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.acme.account import holder_in
from certferry.adapters.acme.acme_client import is_for, offer_in
from certferry.adapters.acme.csr import new_key
from certferry.adapters.acme.issuer import AcmeIssuer, persist_record
from certferry.adapters.acme.persist import JudgedName, PersistProofs, findings_of, judged_names
from certferry.adapters.acme.resolvers import Resolvers
from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.dns_persist import Offer, PersistRecord
from certferry.errors import (
    AuthorizationFailed,
    CaUnavailable,
    DnsUnavailable,
    OrderFailed,
    RecordMissing,
)
from certferry.ports.dns import DnsProvider
from certferry.reconcile.issue import ZoneRouter
from certferry.values import replace
from certferry_sandbox.nameserver.service import DnsService
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.testing.memory_state import MemoryState
from certferry_sandbox.zones import Zones
from tests.adapters.acme.account_bench import account, ca_account
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.name_servers import ANSWER_WITHIN, RESOLVER, SHORT_WAIT, START
from tests.adapters.acme.persist_ca import DNS_01, ISSUERS, PREFIX, PersistCa
from tests.adapters.acme.proxy import with_fields

NO_ACCOUNT = ZoneRouter([])


class Persisting(Bench):
    """A bench at a CA with dns-persist-01, with `dns_persist` on."""

    def __init__(self, ca: PersistCa, zones: Zones, folder: Path, resolver: str) -> None:
        super().__init__(ca.upstream, zones, folder, proxy=ca)
        self.ca = ca
        host, _, port = resolver.rpartition(":")
        self.endpoint = host, int(port)

    def issuer_now(self, **settings: Any) -> AcmeIssuer:
        """Return a new issuer, as in another run."""
        return AcmeIssuer(
            settings=self.settings(**{"dns_persist": True, **settings}),
            state=self.state,
            propagation=self.propagation,
            pause=self.clock.pause,
            now=self.clock.now,
            resolvers=Resolvers([self.endpoint], ANSWER_WITHIN),
        )

    def record(self, name: str, *, wildcard: bool = False) -> PersistRecord:
        return persist_record(
            name,
            self.settings(),
            wildcard=wildcard,
            state=self.state,
            pause=self.clock.pause,
            now=self.clock.now,
        )

    def set_record(self, name: str, *, more: str = "", wildcard: bool = False) -> int:
        """Set the record in DNS, with a suffix of its value."""
        record = self.record(name, wildcard=wildcard)
        return self.zones.seed(record.name, record.rtype, record.value + more).id

    def prove(self, *names: str, dns: DnsProvider = NO_ACCOUNT) -> CertificateBundle:
        """Issue a certificate, by default without a DNS account."""
        wanted = self.request(*names)
        return self.issuer_now().issue(wanted, dns, self.lease(), self.events.append)


@pytest.fixture
def bench(
    pebble: Pebble, zones: Zones, dns_service: DnsService, tmp_path: Path
) -> Iterator[Persisting]:
    resolver = dns_service.resolver_endpoint
    with PersistCa(pebble, zones, resolver) as ca:
        yield Persisting(ca, zones, tmp_path, resolver)


def test_record_replaces_an_account(bench: Persisting) -> None:
    """A record that was set once proves the name in every order, and no other record is written."""
    bench.set_record(bench.name)

    assert bench.prove().key_matches
    assert bench.prove().key_matches

    assert bench.name in bench.ca.proven
    assert ([], 0) == (bench.dns.added, bench.rows_left)


def test_wildcard_and_its_name_share_a_record(bench: Persisting) -> None:
    """`policy=wildcard` covers the wildcard and its name."""
    bench.set_record(bench.name, wildcard=True)

    names = bench.prove(bench.name, f"*.{bench.name}").certificate.names

    assert {bench.name, f"*.{bench.name}"} == set(names)
    assert [bench.name] * 2 == bench.ca.proven


def test_record_without_wildcard_policy(bench: Persisting) -> None:
    """The error shows the right record, and comes before an order, which the CA would refuse."""
    bench.set_record(bench.name)

    with pytest.raises(RecordMissing) as failure:
        bench.prove(bench.name, f"*.{bench.name}")

    wanted = bench.record(bench.name, wildcard=True)
    assert f"the record at {wanted.name} lacks `policy=wildcard`" in str(failure.value)
    assert wanted.as_zone_line in str(failure.value.hint)
    assert 0 == bench.ca.orders


def test_all_missing_records_are_reported_together(bench: Persisting) -> None:
    """The operator sets records by hand, so the hint lists every missing record, and only those."""
    present, first, second = (f"{label}.{bench.name}" for label in ("here", "one", "two"))
    bench.set_record(present)

    with pytest.raises(RecordMissing) as failure:
        bench.prove(present, first, second)

    lines = [bench.record(name).as_zone_line for name in (first, second)]
    assert str(failure.value.hint).endswith("\n".join(lines))
    assert f"no TXT record for this CA at _validation-persist.{second}" in str(failure.value)
    assert bench.record(present).value not in str(failure.value.hint)
    assert 0 == bench.ca.orders

    for name in (first, second):
        bench.set_record(name)
    assert bench.prove(present, first, second).key_matches


def test_record_before_the_first_account(bench: Persisting) -> None:
    """A record needs the account's URL, so the hint has the command that registers the account."""
    with pytest.raises(RecordMissing) as failure:
        bench.prove()

    assert "the CA has no account yet" in str(failure.value)
    assert f"`certferry dns-persist {bench.name}`" in str(failure.value.hint)
    assert 0 == bench.ca.orders


def test_dns_account_proves_names_without_a_record(bench: Persisting) -> None:
    """With a DNS account, a missing or wrong record does no harm."""
    other = f"other.{bench.name}"
    bench.set_record(bench.name)
    bench.zones.seed(f"_validation-persist.{other}", "TXT", f"{ISSUERS[0]}; accounturi=wrong")
    bench.ca.offers.add(DNS_01)

    assert bench.prove(bench.name, other, dns=bench.dns).key_matches

    assert [bench.name] == bench.ca.proven
    assert [f"_acme-challenge.{other}"] == [name for name, _ in bench.dns.added]
    assert 0 == bench.rows_left


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"issuerDomainNames": ISSUERS},
        {"issuerDomainNames": [], "accountHashPrefix": PREFIX},
        {"issuerDomainNames": ["CA.test"], "accountHashPrefix": PREFIX},
        {"issuerDomainNames": ["ca.test."], "accountHashPrefix": PREFIX},
        {"issuerDomainNames": [*"abcdefghijk"], "accountHashPrefix": PREFIX},
        {"issuerDomainNames": ["ca.test", 7], "accountHashPrefix": PREFIX},
        {"issuerDomainNames": ISSUERS, "accountHashPrefix": "account-hash/"},
        {"issuerDomainNames": ISSUERS, "accountHashPrefix": "https://[/"},
        {"issuerDomainNames": ISSUERS, "accountHashPrefix": 'https://ca.test/"; policy=x/'},
    ],
)
def test_malformed_offer_in_the_directory(meta: dict[str, Any]) -> None:
    """A malformed offer counts as absent (§3.2): the CA would refuse a record made from it."""
    assert None is offer_in({"meta": meta})


def test_offer_in_the_directory() -> None:
    """The directory has both fields of §3.2."""
    meta = {"issuerDomainNames": ISSUERS, "accountHashPrefix": PREFIX}

    assert Offer(tuple(ISSUERS), PREFIX) == offer_in({"meta": meta})


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(ISSUERS),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANY_JSON, ANY_JSON)
def test_any_json_in_the_directory(issuers: Any, prefix: Any) -> None:
    """Any JSON is an offer or no offer, and challenges of an offer are recognised."""
    offer = offer_in({"meta": {"issuerDomainNames": issuers, "accountHashPrefix": prefix}})
    challenge = {"type": "dns-persist-01", "issuerDomainNames": issuers}

    assert None is offer_in(issuers)
    assert offer is None or is_for(challenge, offer, ())
    assert not is_for(challenge, Offer(("other.test",), PREFIX), ())


def test_ca_without_dns_persist(bench: Persisting) -> None:
    """A DNS account proves the name; without a DNS account the error comes before the order."""
    bench.ca.meta = {}
    bench.ca.offers = {DNS_01}

    assert bench.prove(dns=bench.dns).key_matches
    with pytest.raises(RecordMissing, match="does not offer dns-persist-01"):
        bench.prove(f"other.{bench.name}")
    with pytest.raises(OrderFailed, match="does not offer dns-persist-01"):
        bench.record(bench.name)
    assert 1 == bench.ca.orders


@pytest.mark.parametrize("taken", [["ca.test"], [*ISSUERS, *"123456789"], [], ["Authority.Test"]])
def test_challenge_that_contradicts_the_directory(bench: Persisting, taken: list[str]) -> None:
    """A challenge with missing or too many issuers is ignored (§3.1, §3.2): a DNS account proves
    the name, and without a DNS account the CA's fault is reported.
    """
    bench.set_record(bench.name)
    bench.ca.taken = taken
    bench.ca.offers.add(DNS_01)

    with pytest.raises(OrderFailed) as failure:
        bench.prove()
    assert f"the CA offers no dns-persist-01 for {bench.name}" in str(failure.value)

    assert bench.prove(dns=bench.dns).key_matches
    assert [f"_acme-challenge.{bench.name}"] == [name for name, _ in bench.dns.added]


def test_orders_ask_a_silent_ca_concurrently(bench: Persisting) -> None:
    """In sequence, a hundred orders would take a hundred timeouts."""
    together = threading.Barrier(2)

    def silent() -> Offer | None:
        together.wait(20)
        raise CaUnavailable("no answer")

    resolvers = Resolvers([(RESOLVER, 1)], SHORT_WAIT)
    proofs = PersistProofs("", MemoryState(), resolvers, lambda: START, silent)

    with ThreadPoolExecutor(2) as threads:
        futures = [
            threads.submit(proofs.must_be_provable, ["example.com"], NO_ACCOUNT, bench.propagation)
            for _ in range(2)
        ]
    assert [CaUnavailable] * 2 == [type(future.exception()) for future in futures]


def test_authorization_without_dns_persist(bench: Persisting) -> None:
    """The CA ignores the existing record, so the account with the zone writes a challenge."""
    bench.set_record(bench.name)
    bench.ca.offers = {DNS_01}

    assert bench.prove(dns=bench.dns).key_matches
    assert [f"_acme-challenge.{bench.name}"] == [name for name, _ in bench.dns.added]


def test_issuer_outside_the_caa_identities(bench: Persisting) -> None:
    """Every issuer of a challenge must be in `caaIdentities`, if the directory has any (§3.2)."""
    bench.set_record(bench.name)
    bench.ca.meta["caaIdentities"] = ISSUERS[:1]
    bench.ca.offers.add(DNS_01)

    assert bench.prove(dns=bench.dns).key_matches
    assert [f"_acme-challenge.{bench.name}"] == [name for name, _ in bench.dns.added]


def test_caa_that_allows_only_another_method(bench: Persisting) -> None:
    """`validationmethods` is compared with the method that the name uses (RFC 8657)."""
    bench.set_record(bench.name)
    bench.ca.meta["caaIdentities"] = ISSUERS
    caa = f'0 issue "{ISSUERS[0]}; validationmethods=dns-01"'
    forbids = bench.zones.seed(bench.name, "CAA", caa)

    with pytest.raises(OrderFailed) as failure:
        bench.prove()
    assert 'add "dns-persist-01" to validationmethods' in str(failure.value.hint)
    assert 0 == bench.ca.orders

    bench.zones.remove(forbids.id)
    bench.zones.seed(bench.name, "CAA", caa.replace("dns-01", "dns-persist-01"))
    assert bench.prove().key_matches


def test_new_account_key(bench: Persisting) -> None:
    """The record stays valid: the account has the same URL, and its earlier keys are remembered.
    New records use the present key.
    """
    bench.set_record(bench.name)
    before = bench.record(bench.name)

    ca_account(bench).rollover()
    ca_account(bench).rollover()

    assert bench.prove().key_matches
    assert [bench.name] == bench.ca.proven
    other = f"other.{bench.name}"
    bench.set_record(other)
    assert bench.prove(other).key_matches
    assert before != bench.record(bench.name)


def test_record_during_an_interrupted_rollover(bench: Persisting) -> None:
    """Either key may be in force, so a record with either key counts."""
    bench.set_record(bench.name)
    before = account(bench)
    bench.state.replace_account(before, replace(before, next_key_pem=new_key(KeyType.EC256)))

    proven = bench.issuer_now().must_be_provable([bench.name], NO_ACCOUNT)

    assert {bench.name} == proven


def test_record_of_another_account(bench: Persisting) -> None:
    """The error names the other account, and the hint shows the right record."""
    stranger = f"{ISSUERS[0]}; accounturi={PREFIX}sha-256/{'A' * 43}"
    wanted = bench.record(bench.name)
    bench.zones.seed(wanted.name, "TXT", stranger)

    with pytest.raises(RecordMissing) as failure:
        bench.prove()

    assert f"the record at {wanted.name} names another account" in str(failure.value)
    assert wanted.as_zone_line in str(failure.value.hint)


def test_record_past_its_end(bench: Persisting) -> None:
    """An ended record is noticed before an order; a record with a later end proves the name."""
    ended = bench.set_record(bench.name, more="; persistUntil=1721952000")

    with pytest.raises(RecordMissing, match="has ended"):
        bench.prove()
    assert 0 == bench.ca.orders

    bench.zones.remove(ended)
    bench.set_record(bench.name, more="; persistUntil=4102444800")
    assert bench.prove().key_matches


def test_record_that_vanishes_before_the_check(bench: Persisting) -> None:
    """The CA's words are reported, and the order is given up."""
    record = bench.set_record(bench.name)
    bench.ca.before_looking = lambda: bench.zones.remove(record)

    with pytest.raises(AuthorizationFailed, match="no record for us"):
        bench.prove()

    assert None is bench.state.order(bench.lineage)


def judged_in_silence(bench: Persisting) -> list[JudgedName]:
    """Judge the name through a silent resolver."""
    holder = holder_in(bench.state, bench.ca.directory_url)
    assert holder is not None
    offer = Offer(tuple(ISSUERS), PREFIX)
    resolvers = Resolvers([("127.0.54.77", bench.endpoint[1])], SHORT_WAIT)
    return judged_names([bench.name], offer, holder, resolvers, bench.clock.now)


def codes_of(judged: list[JudgedName]) -> list[tuple[str, str, str]]:
    findings = findings_of(judged, (), datetime.now(UTC))
    return [(finding.severity, finding.code, finding.subject) for finding in findings]


def test_silent_resolvers(bench: Persisting) -> None:
    """The error names the resolvers, and a DNS account proves the name instead."""
    bench.record(bench.name)
    silent = AcmeIssuer(
        settings=bench.settings(dns_persist=True),
        state=bench.state,
        propagation=bench.propagation,
        pause=bench.clock.pause,
        now=bench.clock.now,
        resolvers=Resolvers([("127.0.54.77", bench.endpoint[1])], SHORT_WAIT),
    )

    with pytest.raises(DnsUnavailable, match=r"has no account .*; no resolver answered"):
        silent.must_be_provable([bench.name], NO_ACCOUNT)
    assert frozenset() == silent.must_be_provable([bench.name], bench.dns)
    assert [("warning", "not_looked_at", bench.name)] == codes_of(judged_in_silence(bench))


def test_dns_persist_switched_off(bench: Persisting) -> None:
    """Without `dns_persist` both the record and the CA's offer are ignored."""
    bench.set_record(bench.name)

    with pytest.raises(OrderFailed, match="the CA offers no DNS-01"):
        bench.issue(issuer=bench.issuer_now(dns_persist=False))

    assert [] == bench.ca.proven


def test_record_for_an_account_that_the_ca_lost(bench: Persisting, new_ca: Pebble) -> None:
    """A new account is registered first, because a record must name an existing account."""
    before = bench.record(bench.name)
    bench.ca.upstream = new_ca

    after = bench.record(bench.name)

    assert before.name == after.name
    assert before.value != after.value
    bench.zones.seed(after.name, "TXT", after.value)
    assert bench.prove().key_matches


def test_record_for_a_deactivated_account(bench: Persisting) -> None:
    """A record for a deactivated account would prove nothing, so no record is printed (§4.2)."""
    bench.record(bench.name)
    gone = {"status": "deactivated"}
    bench.ca.rewrite = lambda request, response: (
        with_fields(response, **gone) if request.path.startswith("/my-account") else response
    )

    with pytest.raises(OrderFailed, match="is deactivated at the CA"):
        bench.record(bench.name)
