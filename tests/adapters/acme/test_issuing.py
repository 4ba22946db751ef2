"""Certificates from Pebble: keys, names, profiles, chains, and certificate requests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
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

# --- Types of keys, kinds of names, and many certificates


@pytest.fixture(scope="module")
def unreliable_pebble(dns_service: DnsService) -> Iterator[Pebble]:
    with Pebble(dns_service.resolver_endpoint, nonce_reject=50) as pebble:
        yield pebble


@pytest.fixture
def unreliable_bench(unreliable_pebble: Pebble, zones: Zones, tmp_path: Path) -> Iterator[Bench]:
    with Bench(unreliable_pebble, zones, tmp_path) as bench:
        yield bench


def sans(csr: x509.CertificateSigningRequest) -> list[str]:
    """Return the names of a CSR, in order."""
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def test_chain_ends_before_the_root(bench: Bench) -> None:
    """The chain has the leaf and its issuers; targets have no use for the root."""
    bundle = bench.issue()

    certificates = x509.load_pem_x509_certificates(bundle.fullchain_pem.encode())
    root = x509.load_pem_x509_certificate(bench.proxy.upstream.root_pem())
    assert bundle.chain_complete
    assert 2 == len(certificates)
    assert root.subject == certificates[-1].issuer
    assert root not in certificates


def test_apex_and_wildcard_share_one_record_name(bench: Bench) -> None:
    """The name holds both values, which are removed afterwards (RFC 8555 §8.4)."""
    bundle = bench.issue(bench.name, f"*.{bench.name}")

    assert (bench.name, f"*.{bench.name}") == bundle.certificate.names
    assert [f"_acme-challenge.{bench.name}"] * 2 == [name for name, _ in bench.dns.added]
    assert 2 == len({value for _, value in bench.dns.added})
    assert [] == bench.txt_left
    assert 0 == bench.rows_left


def test_order_of_a_hundred_names(bench: Bench) -> None:
    """Let's Encrypt accepts no larger order."""
    names = tuple(f"n{number}.{bench.name}" for number in range(100))

    bundle = bench.issue(*names)

    assert names == bundle.certificate.names
    assert [] == bench.txt_left


def test_first_name_is_the_common_name_of_the_request(bench: Bench) -> None:
    """Some targets refuse a leaf without a common name; Pebble itself omits the common name."""
    names = (f"*.{bench.name}", bench.name)
    bench.issue(*names)

    csr = bench.proxy.last_csr()
    assert names[0] == common_name(csr.subject)
    assert list(names) == sans(csr)


@with_renewal_info
def test_name_too_long_for_a_common_name_is_a_san_only(bench: Bench) -> None:
    """The subject is empty then (RFC 5280, ub-common-name)."""
    name = f"{'x' * 50}.{bench.name}"
    bench.issue(name)

    csr = bench.proxy.last_csr()
    assert "" == common_name(csr.subject)
    assert [name] == sans(csr)


def test_refused_nonces_are_replaced(unreliable_bench: Bench) -> None:
    """The CA refuses half of the nonces, and the order still succeeds."""
    bundle = unreliable_bench.issue(*(f"n{number}.{unreliable_bench.name}" for number in range(8)))

    refused = [call for call in unreliable_bench.proxy.journal if call.status == 400]
    assert 8 == len(bundle.certificate.names)
    assert len(refused) > 5


@thorough
def test_twenty_orders_at_a_ca_that_refuses_nonces(
    unreliable_pebble: Pebble, zones: Zones, tmp_path: Path
) -> None:
    """Each certificate needs a single attempt and a single order."""
    with Bench(unreliable_pebble, zones, tmp_path) as bench:
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


def test_eight_lineages_share_an_issuer(unreliable_bench: Bench) -> None:
    """Eight simultaneous lineages use a single account."""
    bench, issuer = unreliable_bench, unreliable_bench.issuer()

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


def test_progress_of_an_order(bench: Bench) -> None:
    """The activities come in order, for the right lineage and with deadlines."""
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


def test_progress_counts_the_names(bench: Bench) -> None:
    """The count is reported during the writes, the validation and the removals."""
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


def test_alias_with_real_propagation(tmp_path: Path) -> None:
    """Certferry follows the CNAME, and waits for the slowest name server."""
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


def test_directory_whose_certificate_only_the_bundle_trusts(bench: Bench, pebble: Pebble) -> None:
    """`ca_bundle` contains the root of the directory's own certificate."""
    issuer = bench.issuer(directory=pebble.directory_url, ca_bundle=pebble.ca_bundle)

    assert (bench.name,) == bench.issue(issuer=issuer).certificate.names


def test_request_names_its_sender(bench: Bench) -> None:
    """Every request has certferry's User-Agent (RFC 8555 §6.1)."""
    bench.issue()

    agents = {request.headers["User-Agent"].partition("/")[0] for request in bench.proxy.requests()}
    assert {"certferry"} == agents


# --- The operator's choices: profile, chain and key


def listing(bench: Bench, *profiles: str) -> None:
    """Let the directory list profiles, like Let's Encrypt's directory; this Pebble has none."""

    def rewrite(request: Request, response: Response) -> Response:
        if request.path != "/dir":
            return response
        meta = json.loads(response.body)["meta"]
        return with_fields(response, meta={**meta, "profiles": dict.fromkeys(profiles, "-")})

    bench.proxy.rewrite = rewrite


def ordered_profile(bench: Bench) -> object:
    return bench.proxy.payload("POST /order-plz").get("profile")


@pytest.mark.parametrize(
    ("wanted", "ordered"),
    [
        ((), None),
        (("tlsserver",), "tlsserver"),
        (("shortlived", "tlsserver", "classic"), "tlsserver"),
        (("classic", "tlsserver"), "classic"),
    ],
    ids=["none", "one", "a list", "in another order"],
)
def test_first_wanted_profile_in_the_directory(
    bench: Bench, wanted: tuple[str, ...], ordered: str | None
) -> None:
    """The order has the profile; without a wanted profile the CA chooses."""
    listing(bench, "classic", "tlsserver")

    assert bench.issue(profiles=wanted).key_matches
    assert ordered == ordered_profile(bench)


@pytest.mark.parametrize(
    ("listed", "problem", "hint"),
    [
        (("classic", "tlsserver"), "the CA has no profile tlsserve, old", "classic, tlsserver"),
        ((), "the CA lists no profiles; asked for: tlsserve, old", "remove `profile`"),
    ],
    ids=["others", "none"],
)
def test_unknown_profile_is_reported(
    bench: Bench, listed: tuple[str, ...], problem: str, hint: str
) -> None:
    """The hint lists the CA's profiles, and no order is made."""
    listing(bench, *listed)

    with pytest.raises(OrderFailed) as failure:
        bench.issue(profiles=("tlsserve", "old"))

    assert problem == str(failure.value)
    assert hint in str(failure.value.hint)
    assert [] == bench.proxy.requests("POST /order-plz")


def test_other_ca_without_the_profile_chooses(bench: Bench) -> None:
    """The profile is meant for the usual CA, and must not prevent an order elsewhere."""
    listing(bench, "default")

    assert bench.issue(
        issuer=bench.issuer(must_have_profile=False), profiles=("classic",)
    ).key_matches
    assert ordered_profile(bench) is None


# --- Chains


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


def root_in(bundle: CertificateBundle) -> str:
    [*_, topmost] = x509.load_pem_x509_certificates(bundle.fullchain_pem.encode())
    return common_name(topmost.issuer)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_chain_to_the_preferred_root(rooted: Bench, rooted_pebble: Pebble, number: int) -> None:
    """The CA's chains are downloaded until a chain ends at the root."""
    root = root_of(rooted_pebble, number)

    bundle = rooted.issue(issuer=rooted.issuer(preferred_chain=root))

    assert root == root_in(bundle)
    assert bundle.chain_complete
    assert number == len(rooted.proxy.requests("POST /certZ/*")) - 1


def test_preferred_root_without_a_chain(
    rooted: Bench, rooted_pebble: Pebble, caplog: pytest.LogCaptureFixture
) -> None:
    """The usual chain is taken, and the log lists the available roots."""
    bundle = rooted.issue(issuer=rooted.issuer(preferred_chain="ISRG Root X1"))

    roots = ", ".join(root_of(rooted_pebble, number) for number in range(3))
    assert root_of(rooted_pebble, 0) == root_in(bundle)
    assert (
        "the CA offers no chain to ISRG Root X1 (`preferred_chain`), only to"
        f" {roots}" in caplog.text
    )


def test_only_the_usual_chain_is_downloaded_by_default(rooted: Bench) -> None:
    """Without a preferred root a single download is enough."""
    rooted.issue()

    assert 1 == len(rooted.proxy.requests("POST /certZ/*"))


def test_unreadable_alternate_chain(rooted: Bench, rooted_pebble: Pebble) -> None:
    """The unreadable chain is skipped, and the next chain is tried."""
    nonsense = Fault.status(
        200, b"nonsense", "application/pem-certificate-chain", [("Replay-Nonce", "QUJD")]
    )
    rooted.proxy.faults.add(nonsense, on="POST /certZ/*/alternate/1")
    root = root_of(rooted_pebble, 2)

    assert root == root_in(rooted.issue(issuer=rooted.issuer(preferred_chain=root)))


# --- The key


@pytest.mark.parametrize("made", [lambda: new_key(KeyType.EC384), lambda: Secret("nonsense")])
def test_unsuitable_key_is_replaced(bench: Bench, made: Callable[[], Secret]) -> None:
    """A key of another type or an unreadable key is replaced by a new key."""
    key = made()
    bundle = bench.issue(reused_key=key)

    assert key != bundle.privkey_pem
    assert KeyType.EC256 == bundle.certificate.key_type


# --- Keys and certificate requests


KEY_TYPES = [key_type for key_type in KeyType if key_type is not KeyType.RSA4096]

EC256 = new_key(KeyType.EC256)

NAMES = st.from_regex(r"(\*\.)?[a-z]{1,30}(\.[a-z]{1,30}){1,3}", fullmatch=True)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_key_has_exactly_the_requested_type(key_type: KeyType) -> None:
    """The key is in PKCS#8, the form that every target accepts."""
    pem = new_key(key_type)

    assert pem.reveal().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert [key_type] == [other for other in KeyType if is_of_type(pem, other)]


def test_foreign_and_malformed_keys_have_no_type() -> None:
    """Certferry never orders with such keys."""
    foreign = ed25519.Ed25519PrivateKey.generate()
    pem = foreign.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    for key_pem in (Secret(pem), Secret(""), Secret("-----BEGIN PRIVATE KEY-----")):
        assert [] == [key_type for key_type in KeyType if is_of_type(key_pem, key_type)]


def test_new_keys_differ() -> None:
    """Two certificates never share a new key."""
    assert new_key(KeyType.EC256) != new_key(KeyType.EC256)


@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_certificate_request_of_any_names(
    names: list[str],
) -> None:
    """The names keep their order, the first fitting name is the common name, and the key signs."""
    csr = make_csr(names, EC256)

    san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    key = load_pem_private_key(EC256.reveal().encode(), password=None)
    fitting = [name for name in names if len(name) <= LONGEST_COMMON_NAME]
    assert names == san.get_values_for_type(x509.DNSName)
    assert (fitting[0] if fitting else "") == common_name(csr.subject)
    assert csr.is_signature_valid
    assert key.public_key() == csr.public_key()


def test_common_name_after_a_long_first_name() -> None:
    """Some targets refuse a certificate without a common name."""
    long_name = ".".join(["a" * 30, "b" * 30, "example.com"])

    csr = make_csr([long_name, "*.example.com", "example.com"], EC256)

    assert "*.example.com" == common_name(csr.subject)
