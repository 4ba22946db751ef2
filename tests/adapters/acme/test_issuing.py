"""Certificates from real Pebble: kinds, profiles, chains, whole runs, revocation."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.acme.csr import LONGEST_COMMON_NAME, is_of_type, make_csr, new_key
from certferry.adapters.acme.issuer import AcmeIssuer
from certferry.adapters.acme.network import IssuerSettings
from certferry.adapters.acme.propagation import DnsPropagation
from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.certificates.pem import common_name
from certferry.core.events import Activity, Counted
from certferry.core.redaction import Secret
from certferry.errors import OrderFailed
from certferry.ports.issuer import IssueRequest
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import ZONE, Bench
from tests.adapters.acme.proxy import with_fields
from tests.support.programs import with_renewal_info
from tests.support.tiers import thorough

# --- Certificates from real Pebble: kinds of keys, kinds of names, many at once


@pytest.fixture(scope="module")
def moody_pebble(dns_service: DnsService) -> Iterator[Pebble]:
    with Pebble(dns_service.resolver_endpoint, nonce_reject=50) as pebble:
        yield pebble


@pytest.fixture
def moody_bench(moody_pebble: Pebble, zones: Zones, tmp_path: Path) -> Iterator[Bench]:
    with Bench(moody_pebble, zones, tmp_path) as bench:
        yield bench


def sans(csr: x509.CertificateSigningRequest) -> list[str]:
    """The names that a CSR asks for, in their order."""
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def test_chain_ends_before_the_root(bench: Bench) -> None:
    """Leaf first, then its issuers; the root is in no target's interest."""
    bundle = bench.issue()

    certificates = x509.load_pem_x509_certificates(bundle.fullchain_pem.encode())
    root = x509.load_pem_x509_certificate(bench.proxy.upstream.root_pem())
    assert bundle.chain_complete
    assert 2 == len(certificates)
    assert root.subject == certificates[-1].issuer
    assert root not in certificates


def test_apex_and_wildcard_share_one_record_name(bench: Bench) -> None:
    """Both values are put at the one name, and both are gone afterwards (RFC 8555 §8.4)."""
    bundle = bench.issue(bench.name, f"*.{bench.name}")

    assert (bench.name, f"*.{bench.name}") == bundle.certificate.names
    assert [f"_acme-challenge.{bench.name}"] * 2 == [name for name, _ in bench.dns.added]
    assert 2 == len({value for _, value in bench.dns.added})
    assert [] == bench.txt_left
    assert 0 == bench.rows_left


def test_order_of_a_hundred_names(bench: Bench) -> None:
    """The largest order that Let's Encrypt takes."""
    names = tuple(f"n{number}.{bench.name}" for number in range(100))

    bundle = bench.issue(*names)

    assert names == bundle.certificate.names
    assert [] == bench.txt_left


def test_first_name_is_asked_for_as_common_name(bench: Bench) -> None:
    """Some targets refuse a leaf without one; Pebble itself leaves it out."""
    names = (f"*.{bench.name}", bench.name)
    bench.issue(*names)

    csr = bench.proxy.last_csr()
    assert names[0] == common_name(csr.subject)
    assert list(names) == sans(csr)


@with_renewal_info
def test_name_too_long_for_a_common_name_is_a_san_only(bench: Bench) -> None:
    """The subject then stays empty (RFC 5280, ub-common-name)."""
    name = f"{'x' * 50}.{bench.name}"
    bench.issue(name)

    csr = bench.proxy.last_csr()
    assert "" == common_name(csr.subject)
    assert [name] == sans(csr)


def test_ca_that_refuses_every_other_nonce_issues_all_the_same(moody_bench: Bench) -> None:
    """As many fresh nonces are used as it takes."""
    bundle = moody_bench.issue(*(f"n{number}.{moody_bench.name}" for number in range(8)))

    refused = [call for call in moody_bench.proxy.journal if call.status == 400]
    assert 8 == len(bundle.certificate.names)
    assert len(refused) > 5


@thorough
def test_twenty_of_twenty_certificates_come_though_every_other_nonce_is_refused(
    moody_pebble: Pebble, zones: Zones, tmp_path: Path
) -> None:
    """Each from the first try, with no order made twice."""
    with Bench(moody_pebble, zones, tmp_path) as bench:
        issuer = bench.issuer()
        for number in range(20):
            bundle = bench.issue(f"{number}.{bench.name}", issuer=issuer)
            assert bundle.key_matches
            bench.state.save_version(bench.lease(), bundle, bench.clock.now())

    refused = [call for call in bench.proxy.journal if call.status == 400]
    ordered = [
        call
        for call in bench.proxy.journal
        if call.request.path == "/order-plz" and call.status == 201
    ]
    assert 20 == len(ordered) == len(bench.state.versions(bench.lineage))
    assert len(refused) > 20


def test_eight_lineages_share_an_issuer(moody_bench: Bench) -> None:
    """Issued at once, they use one account and do not get into each other's way."""
    bench, issuer = moody_bench, moody_bench.issuer()

    def issue(number: int) -> tuple[str, ...]:
        lineage = f"{bench.lineage}-{number}"
        lease = bench.state.acquire(lineage, bench.clock.now())
        request = IssueRequest(lineage, (f"{number}.{bench.name}",), KeyType.EC256)
        return issuer.issue(request, bench.dns, lease, bench.events.append).certificate.names

    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(issue, range(8)))

    registered = [
        c for c in bench.proxy.journal if c.request.path == "/sign-me-up" and c.status == 201
    ]
    assert [(f"{number}.{bench.name}",) for number in range(8)] == names
    assert 1 == len(registered)
    assert [] == bench.txt_left


def test_progress_says_what_is_being_done(bench: Bench) -> None:
    """From the order to the certificate, in this order, for this lineage, with deadlines."""
    bench.issue()

    assert [
        "ordering a certificate",
        "writing the challenge records",
        "waiting for the challenge to appear",
        "waiting for the CA to validate the names",
        "removing the challenge records",
        "waiting for the CA to issue the certificate",
    ] == bench.activities
    reported = [event for event in bench.events if isinstance(event, Activity)]
    assert reported == bench.events
    assert {bench.lineage} == {event.lineage for event in reported}


def test_of_several_names_it_is_reported_how_many_are_done(bench: Bench) -> None:
    """While their records are written, while the CA validates them, and while they are removed."""
    names = [f"{label}.{bench.name}" for label in "abc"]

    bench.issue(*names)

    counts: dict[str, list[int]] = {}
    for event in bench.events:
        if isinstance(event, Activity):
            counts[str(event.what)] = reported = []
        elif isinstance(event, Counted):
            assert 3 == event.all
            reported.append(event.done)
    assert {
        "ordering a certificate": [],
        "writing the challenge records": [0, 1, 2],
        "waiting for the challenge to appear": [],
        "waiting for the CA to validate the names": [0, 1, 2, 3],
        "removing the challenge records": [0, 1, 2],
        "waiting for the CA to issue the certificate": [],
    } == counts


def test_record_is_put_where_an_alias_leads_and_seen_at_every_server(tmp_path: Path) -> None:
    """With real propagation: certferry follows a CNAME, and waits for the slowest name server."""
    zones = Zones()
    hosts = {"ns1.dns.test": "127.0.54.11", "ns2.dns.test": "127.0.54.12"}
    for zone in (ZONE, "proofs.test"):
        zones.add_zone(zone, hosts)
    servers = [NameServer(zones, host, address) for host, address in hosts.items()]
    servers[1].lag = 0.3
    with (
        DnsService(zones, servers, Resolver(zones, servers, "127.0.54.19")) as dns,
        Pebble(dns.resolver_endpoint) as pebble,
    ):
        bench = Bench(pebble, zones, tmp_path)
        zones.seed(f"_acme-challenge.{bench.name}", "CNAME", f"{bench.lineage}.proofs.test.")
        issuer = AcmeIssuer(
            settings=IssuerSettings(pebble.directory_url, ca_bundle=pebble.ca_bundle),
            state=bench.state,
            propagation=DnsPropagation(
                resolvers=[(dns.resolver.address, dns.port)],
                port=dns.port,
                timeout=timedelta(seconds=30),
                pause=time.sleep,
                now=lambda: datetime.now(UTC),
            ),
            pause=time.sleep,
            now=lambda: datetime.now(UTC),
        )
        bundle = bench.issue(issuer=issuer)

    assert (bench.name,) == bundle.certificate.names
    assert [f"{bench.lineage}.proofs.test"] == [name for name, _ in bench.dns.added]
    assert "waiting for the challenge to appear at ns2.dns.test" in " ".join(bench.activities)
    assert [] == zones.records("proofs.test", rtype="TXT")


def test_directory_is_reached_over_tls_that_only_the_bundle_trusts(
    bench: Bench, pebble: Pebble
) -> None:
    """`ca_bundle` vouches for the directory's own certificate."""
    issuer = bench.issuer(directory=pebble.directory_url, ca_bundle=pebble.ca_bundle)

    assert (bench.name,) == bench.issue(issuer=issuer).certificate.names


def test_request_names_its_sender(bench: Bench) -> None:
    """Every request carries certferry's User-Agent (RFC 8555 §6.1)."""
    bench.issue()

    agents = {request.headers["User-Agent"].partition("/")[0] for request in bench.proxy.requests()}
    assert {"certferry"} == agents


# --- What of an order the operator chooses: its profile, its chain, its key


def listing(bench: Bench, *profiles: str) -> None:
    """Let the directory list profiles, as Let's Encrypt's does; this Pebble knows of none."""

    def rewrite(request: Request, response: Response) -> Response:
        if request.path != "/dir":
            return response
        meta = json.loads(response.body)["meta"]
        return with_fields(response, meta={**meta, "profiles": dict.fromkeys(profiles, "-")})

    bench.proxy.rewrite = rewrite


def ordered_profile(bench: Bench) -> object:
    return bench.proxy.payload("POST /order-plz").get("profile")


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        ((), None),
        (("tlsserver",), "tlsserver"),
        (("shortlived", "tlsserver", "classic"), "tlsserver"),
        (("classic", "tlsserver"), "classic"),
    ],
    ids=["none", "one", "a list", "in another order"],
)
def test_first_profile_that_the_directory_lists(
    bench: Bench, wanted: tuple[str, ...], asked: str | None
) -> None:
    """It goes out with the order; where none is desired, the CA chooses."""
    listing(bench, "classic", "tlsserver")

    assert bench.issue(profiles=wanted).key_matches
    assert asked == ordered_profile(bench)


@pytest.mark.parametrize(
    ("listed", "problem", "hint"),
    [
        (("classic", "tlsserver"), "the CA has no profile tlsserve, old", "classic, tlsserver"),
        ((), "the CA lists no profiles; asked for: tlsserve, old", "remove `profile`"),
    ],
    ids=["others", "none"],
)
def test_profile_that_the_directory_does_not_list(
    bench: Bench, listed: tuple[str, ...], problem: str, hint: str
) -> None:
    """It is reported with those that there are, and nothing is ordered."""
    listing(bench, *listed)

    with pytest.raises(OrderFailed) as failure:
        bench.issue(profiles=("tlsserve", "old"))

    assert problem == str(failure.value)
    assert hint in str(failure.value.hint)
    assert [] == bench.proxy.requests("POST /order-plz")


def test_other_ca_chooses_itself_where_it_has_no_such_profile(bench: Bench) -> None:
    """A profile is the usual CA's; near the deadline another one is not refused for it."""
    listing(bench, "default")

    assert bench.issue(
        issuer=bench.issuer(must_have_profile=False), profiles=("classic",)
    ).key_matches
    assert ordered_profile(bench) is None


# chains


@pytest.fixture(scope="module")
def rooted_pebble(dns_service: DnsService) -> Iterator[Pebble]:
    with Pebble(dns_service.resolver_endpoint, nonce_reject=0, alternate_roots=2) as pebble:
        yield pebble


@pytest.fixture
def rooted(rooted_pebble: Pebble, zones: Zones, tmp_path: Path) -> Iterator[Bench]:
    with Bench(rooted_pebble, zones, tmp_path) as bench:
        yield bench


def root_of(pebble: Pebble, number: int) -> str:
    return common_name(x509.load_pem_x509_certificate(pebble.root_pem(number)).subject)


def led_to(bundle: CertificateBundle) -> str:
    [*_, topmost] = x509.load_pem_x509_certificates(bundle.fullchain_pem.encode())
    return common_name(topmost.issuer)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_chain_to_the_preferred_root(rooted: Bench, rooted_pebble: Pebble, number: int) -> None:
    """Whichever of the CA's chains leads there; the others are downloaded as far as it takes."""
    root = root_of(rooted_pebble, number)

    bundle = rooted.issue(issuer=rooted.issuer(preferred_chain=root))

    assert root == led_to(bundle)
    assert bundle.chain_complete
    assert number == len(rooted.proxy.requests("POST /certZ/*")) - 1


def test_preferred_root_that_the_ca_does_not_offer(
    rooted: Bench, rooted_pebble: Pebble, caplog: pytest.LogCaptureFixture
) -> None:
    """The usual chain is taken, and the log names the roots that there are."""
    bundle = rooted.issue(issuer=rooted.issuer(preferred_chain="ISRG Root X1"))

    roots = ", ".join(root_of(rooted_pebble, number) for number in range(3))
    assert root_of(rooted_pebble, 0) == led_to(bundle)
    assert (
        "the CA offers no chain to ISRG Root X1 (`preferred_chain`), only to"
        f" {roots}" in caplog.text
    )


def test_only_the_usual_chain_is_downloaded_by_default(rooted: Bench) -> None:
    """No request is made that nothing asks for."""
    rooted.issue()

    assert 1 == len(rooted.proxy.requests("POST /certZ/*"))


def test_other_chain_that_cannot_be_read(rooted: Bench, rooted_pebble: Pebble) -> None:
    """It leads nowhere; the next one is looked at."""
    nonsense = Fault.status(
        200, b"nonsense", "application/pem-certificate-chain", [("Replay-Nonce", "QUJD")]
    )
    rooted.proxy.faults.add(nonsense, on="POST /certZ/*/alternate/1")
    root = root_of(rooted_pebble, 2)

    assert root == led_to(rooted.issue(issuer=rooted.issuer(preferred_chain=root)))


# the key


@pytest.mark.parametrize("key", [new_key(KeyType.EC384), Secret("nonsense")])
def test_key_that_does_not_fit_is_not_used_again(bench: Bench, key: Secret) -> None:
    """One of another type, or that cannot be read: a new one is made."""
    bundle = bench.issue(reused_key=key)

    assert key != bundle.privkey_pem
    assert KeyType.EC256 == bundle.certificate.key_type


# --- Keys and certificate requests


KEYS: dict[KeyType, Secret] = {
    key_type: new_key(key_type) for key_type in KeyType if key_type is not KeyType.RSA4096
}

NAMES = st.from_regex(r"(\*\.)?[a-z]{1,30}(\.[a-z]{1,30}){1,3}", fullmatch=True)


@pytest.mark.parametrize("key_type", KEYS)
def test_key_is_of_the_kind_asked_for_and_of_no_other(key_type: KeyType) -> None:
    """In PKCS#8, the form that every target takes."""
    pem = KEYS[key_type]

    assert pem.reveal().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert [key_type] == [other for other in KeyType if is_of_type(pem, other)]


def test_key_of_a_foreign_kind_is_of_none() -> None:
    """A key that was never asked for, or is none, belongs to no order of ours."""
    foreign = ed25519.Ed25519PrivateKey.generate()
    pem = foreign.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    for key_pem in (Secret(pem), Secret(""), Secret("-----BEGIN PRIVATE KEY-----")):
        assert [] == [key_type for key_type in KeyType if is_of_type(key_pem, key_type)]


def test_keys_are_new_each_time() -> None:
    """No two certificates share one."""
    assert new_key(KeyType.EC256) != new_key(KeyType.EC256)


@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_request_carries_the_names_in_order_and_the_first_that_fits_as_common_name(
    names: list[str],
) -> None:
    """The common name is left out only where no name fits; the signature is the key's."""
    csr = make_csr(names, KEYS[KeyType.EC256])

    san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    key = load_pem_private_key(KEYS[KeyType.EC256].reveal().encode(), password=None)
    fitting = [name for name in names if len(name) <= LONGEST_COMMON_NAME]
    assert names == san.get_values_for_type(x509.DNSName)
    assert (fitting[0] if fitting else "") == common_name(csr.subject)
    assert csr.is_signature_valid
    assert key.public_key() == csr.public_key()


def test_long_first_name_leaves_the_common_name_to_the_next() -> None:
    """Some places refuse a certificate without one."""
    long = ".".join(["a" * 30, "b" * 30, "example.com"])

    csr = make_csr([long, "*.example.com", "example.com"], KEYS[KeyType.EC256])

    assert "*.example.com" == common_name(csr.subject)
