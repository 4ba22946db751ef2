"""Names that a record proves which stays: dns-persist-01 (draft-ietf-acme-dns-persist-02), at a
CA that looks at it in DNS.
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
from tests.adapters.acme.name_servers import ANSWER_WITHIN, IMPATIENT, RESOLVER, START
from tests.adapters.acme.persist_ca import DNS_01, ISSUERS, PREFIX, PersistCa
from tests.adapters.acme.proxy import with_fields

NO_ACCOUNT = ZoneRouter([])


class Persisting(Bench):
    """A bench at such a CA, with `dns_persist` on."""

    def __init__(self, ca: PersistCa, zones: Zones, folder: Path, resolver: str) -> None:
        super().__init__(ca.upstream, zones, folder, proxy=ca)
        self.ca = ca
        host, _, port = resolver.rpartition(":")
        self.endpoint = host, int(port)

    def issuer_now(self, **settings: Any) -> AcmeIssuer:
        """Return an issuer, as of another run."""
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
        """Set it in DNS, with something more at its end."""
        record = self.record(name, wildcard=wildcard)
        return self.zones.seed(record.name, record.rtype, record.value + more).id

    def prove(self, *names: str, dns: DnsProvider = NO_ACCOUNT) -> CertificateBundle:
        """Issue, without a DNS account unless there is one."""
        wanted = self.request(*names)
        return self.issuer_now().issue(wanted, dns, self.lease(), self.events.append)


@pytest.fixture
def bench(
    pebble: Pebble, zones: Zones, dns_service: DnsService, tmp_path: Path
) -> Iterator[Persisting]:
    resolver = dns_service.resolver_endpoint
    with PersistCa(pebble, zones, resolver) as ca:
        yield Persisting(ca, zones, tmp_path, resolver)


def test_record_takes_the_place_of_an_account(bench: Persisting) -> None:
    """Set once, it proves the name in every order; nothing is written, and nothing left."""
    bench.set_record(bench.name)

    assert bench.prove().key_matches
    assert bench.prove().key_matches

    assert bench.name in bench.ca.proven
    assert ([], 0) == (bench.dns.added, bench.rows_left)


def test_wildcard_and_its_name_share_a_record(bench: Persisting) -> None:
    """`policy=wildcard` allows both."""
    bench.set_record(bench.name, wildcard=True)

    names = bench.prove(bench.name, f"*.{bench.name}").certificate.names

    assert {bench.name, f"*.{bench.name}"} == set(names)
    assert [bench.name] * 2 == bench.ca.proven


def test_wildcard_that_the_record_does_not_allow(bench: Persisting) -> None:
    """The record that would is reported; nothing is ordered, and the CA would not take it."""
    bench.set_record(bench.name)

    with pytest.raises(RecordMissing) as failure:
        bench.prove(bench.name, f"*.{bench.name}")

    wanted = bench.record(bench.name, wildcard=True)
    assert f"the record at {wanted.name} lacks `policy=wildcard`" in str(failure.value)
    assert wanted.as_zone_line in str(failure.value.hint)
    assert 0 == bench.ca.orders


def test_each_missing_record_is_reported_at_once(bench: Persisting) -> None:
    """An operator sets them by hand: all of them are reported; the one that is there is not."""
    here, first, second = (f"{label}.{bench.name}" for label in ("here", "one", "two"))
    bench.set_record(here)

    with pytest.raises(RecordMissing) as failure:
        bench.prove(here, first, second)

    lines = [bench.record(name).as_zone_line for name in (first, second)]
    assert str(failure.value.hint).endswith("\n".join(lines))
    assert f"no TXT record for this CA at _validation-persist.{second}" in str(failure.value)
    assert bench.record(here).value not in str(failure.value.hint)
    assert 0 == bench.ca.orders

    for name in (first, second):
        bench.set_record(name)
    assert bench.prove(here, first, second).key_matches


def test_before_there_is_an_account_at_the_ca(bench: Persisting) -> None:
    """No record can name one: the command that makes it is reported."""
    with pytest.raises(RecordMissing) as failure:
        bench.prove()

    assert "the CA has no account yet" in str(failure.value)
    assert f"`certferry dns-persist {bench.name}`" in str(failure.value.hint)
    assert 0 == bench.ca.orders


def test_an_account_proves_what_no_record_does(bench: Persisting) -> None:
    """Where the certificate has both, a missing or wrong record costs nothing."""
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
def test_directory_that_offers_no_draft_02(meta: dict[str, Any]) -> None:
    """What is not as §3.2 says is none: a record made of it would not be taken."""
    assert None is offer_in({"meta": meta})


def test_directory_that_offers_it() -> None:
    """Both fields, as §3.2 says."""
    meta = {"issuerDomainNames": ISSUERS, "accountHashPrefix": PREFIX}

    assert Offer(tuple(ISSUERS), PREFIX) == offer_in({"meta": meta})


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(ISSUERS),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANY_JSON, ANY_JSON)
def test_whatever_a_ca_says(issuers: Any, prefix: Any) -> None:
    """It is an offer or none; what is, makes records that are read again as they were made."""
    offer = offer_in({"meta": {"issuerDomainNames": issuers, "accountHashPrefix": prefix}})
    challenge = {"type": "dns-persist-01", "issuerDomainNames": issuers}

    assert None is offer_in(issuers)
    assert offer is None or is_for(challenge, offer, ())
    assert not is_for(challenge, Offer(("other.test",), PREFIX), ())


def test_ca_without_it(bench: Persisting) -> None:
    """An account proves the name as before; without one, that is reported before an order."""
    bench.ca.meta = {}
    bench.ca.offers = {DNS_01}

    assert bench.prove(dns=bench.dns).key_matches
    with pytest.raises(RecordMissing, match="does not offer dns-persist-01"):
        bench.prove(f"other.{bench.name}")
    with pytest.raises(OrderFailed, match="does not offer dns-persist-01"):
        bench.record(bench.name)
    assert 1 == bench.ca.orders


@pytest.mark.parametrize("taken", [["ca.test"], [*ISSUERS, *"123456789"], [], ["Authority.Test"]])
def test_challenge_that_is_not_as_promised(bench: Persisting, taken: list[str]) -> None:
    """One that lacks a name of the directory's, or has too many, is none (§3.1, §3.2): an account
    proves the name, and without one, what the CA does is reported.
    """
    bench.set_record(bench.name)
    bench.ca.taken = taken
    bench.ca.offers.add(DNS_01)

    with pytest.raises(OrderFailed) as failure:
        bench.prove()
    assert f"the CA offers no dns-persist-01 for {bench.name}" in str(failure.value)

    assert bench.prove(dns=bench.dns).key_matches
    assert [f"_acme-challenge.{bench.name}"] == [name for name, _ in bench.dns.added]


def test_orders_do_not_wait_for_one_another_at_a_silent_ca(bench: Persisting) -> None:
    """Behind one another, a hundred would take a hundred time-outs."""
    together = threading.Barrier(2)

    def silent() -> Offer | None:
        together.wait(20)
        raise CaUnavailable("no answer")

    resolvers = Resolvers([(RESOLVER, 1)], IMPATIENT)
    proofs = PersistProofs("", MemoryState(), resolvers, lambda: START, silent)

    with ThreadPoolExecutor(2) as threads:
        asked = [
            threads.submit(proofs.must_be_provable, ["example.com"], NO_ACCOUNT, bench.propagation)
            for _ in range(2)
        ]
    assert [CaUnavailable] * 2 == [type(one.exception()) for one in asked]


def test_authorization_without_it(bench: Persisting) -> None:
    """The record is there and the CA does not ask for it: the account that has the zone writes."""
    bench.set_record(bench.name)
    bench.ca.offers = {DNS_01}

    assert bench.prove(dns=bench.dns).key_matches
    assert [f"_acme-challenge.{bench.name}"] == [name for name, _ in bench.dns.added]


def test_issuer_that_caa_could_not_name(bench: Persisting) -> None:
    """Every name of a challenge is one of `caaIdentities`, where there are any (§3.2)."""
    bench.set_record(bench.name)
    bench.ca.meta["caaIdentities"] = ISSUERS[:1]
    bench.ca.offers.add(DNS_01)

    assert bench.prove(dns=bench.dns).key_matches
    assert [f"_acme-challenge.{bench.name}"] == [name for name, _ in bench.dns.added]


def test_caa_that_allows_another_proof_only(bench: Persisting) -> None:
    """`validationmethods` is compared with the proof that the name has (RFC 8657)."""
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
    """The record goes on to prove the name: the account's address is the same, and its earlier key
    is remembered. A record to set is made with the key in force.
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


def test_change_of_the_key_that_was_cut_off(bench: Persisting) -> None:
    """Either key may be in force: a record made with any of them counts."""
    bench.set_record(bench.name)
    before = account(bench)
    bench.state.replace_account(before, replace(before, next_key_pem=new_key(KeyType.EC256)))

    proven = bench.issuer_now().must_be_provable([bench.name], NO_ACCOUNT)

    assert {bench.name} == proven


def test_record_of_a_key_that_was_never_the_accounts(bench: Persisting) -> None:
    """It is reported as another account's, with the one to set."""
    stranger = f"{ISSUERS[0]}; accounturi={PREFIX}sha-256/{'A' * 43}"
    wanted = bench.record(bench.name)
    bench.zones.seed(wanted.name, "TXT", stranger)

    with pytest.raises(RecordMissing) as failure:
        bench.prove()

    assert f"the record at {wanted.name} names another account" in str(failure.value)
    assert wanted.as_zone_line in str(failure.value.hint)


def test_record_that_has_ended(bench: Persisting) -> None:
    """It is seen before an order is made; one that ends later proves the name."""
    ended = bench.set_record(bench.name, more="; persistUntil=1721952000")

    with pytest.raises(RecordMissing, match="has ended"):
        bench.prove()
    assert 0 == bench.ca.orders

    bench.zones.remove(ended)
    bench.set_record(bench.name, more="; persistUntil=4102444800")
    assert bench.prove().key_matches


def test_record_that_is_gone_when_the_ca_looks(bench: Persisting) -> None:
    """What the CA says of it is reported, and the order is given up."""
    record = bench.set_record(bench.name)
    bench.ca.before_looking = lambda: bench.zones.remove(record)

    with pytest.raises(AuthorizationFailed, match="no record for us"):
        bench.prove()

    assert None is bench.state.order(bench.lineage)


def silent_look(bench: Persisting) -> list[JudgedName]:
    """Ask for the name through a resolver that does not answer."""
    holder = holder_in(bench.state, bench.ca.directory_url)
    assert holder is not None
    offer = Offer(tuple(ISSUERS), PREFIX)
    resolvers = Resolvers([("127.0.54.77", bench.endpoint[1])], IMPATIENT)
    return judged_names([bench.name], offer, holder, resolvers, bench.clock.now)


def found(looked: list[JudgedName]) -> list[tuple[str, str, str]]:
    reported = findings_of(looked, (), datetime.now(UTC))
    return [(one.severity, one.code, one.subject) for one in reported]


def test_resolvers_that_do_not_answer(bench: Persisting) -> None:
    """That is no missing record: it is reported as what it is, and an account is asked instead."""
    bench.record(bench.name)
    silent = AcmeIssuer(
        settings=bench.settings(dns_persist=True),
        state=bench.state,
        propagation=bench.propagation,
        pause=bench.clock.pause,
        now=bench.clock.now,
        resolvers=Resolvers([("127.0.54.77", bench.endpoint[1])], IMPATIENT),
    )

    with pytest.raises(DnsUnavailable, match=r"has no account .*; no resolver answered"):
        silent.must_be_provable([bench.name], NO_ACCOUNT)
    assert frozenset() == silent.must_be_provable([bench.name], bench.dns)
    assert [("warning", "not_looked_at", bench.name)] == found(silent_look(bench))


def test_switched_off(bench: Persisting) -> None:
    """Without `dns_persist` a record counts for nothing, and the CA's offer neither."""
    bench.set_record(bench.name)

    with pytest.raises(OrderFailed, match="the CA offers no DNS-01"):
        bench.issue(issuer=bench.issuer_now(dns_persist=False))

    assert [] == bench.ca.proven


def test_account_that_the_ca_has_forgotten(bench: Persisting, newborn: Pebble) -> None:
    """Another is registered before a record is made: it is to name one that the CA knows."""
    before = bench.record(bench.name)
    bench.ca.upstream = newborn

    after = bench.record(bench.name)

    assert before.name == after.name
    assert before.value != after.value
    bench.zones.seed(after.name, "TXT", after.value)
    assert bench.prove().key_matches


def test_account_that_is_out_of_use(bench: Persisting) -> None:
    """A record that names it would prove nothing: none is printed (§4.2)."""
    bench.record(bench.name)
    gone = {"status": "deactivated"}
    bench.ca.rewrite = lambda request, response: (
        with_fields(response, **gone) if request.path.startswith("/my-account") else response
    )

    with pytest.raises(OrderFailed, match="is deactivated at the CA"):
        bench.record(bench.name)
