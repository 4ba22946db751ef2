"""Certificates from real Pebble: kinds of keys, kinds of names, many at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certferry.adapters.acme.issuer import Settings, connect
from certferry.adapters.acme.propagation import Propagation
from certferry.core.certificates.certificate import KeyType
from certferry.core.certificates.pem import common_name
from certferry.core.events import Activity
from certferry.core.waiting import Counted
from certferry.ports.issuer import IssueRequest
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import ZONE, Bench
from tests.support.tiers import thorough


@pytest.fixture(scope="module")
def moody_pebble(dns_service: DnsService) -> Iterator[Pebble]:
    """A CA that refuses every other nonce."""
    with Pebble(dns_service.resolver_endpoint, nonce_reject=50) as pebble:
        yield pebble


@pytest.fixture
def moody_bench(moody_pebble: Pebble, zones: Zones, tmp_path: Path) -> Iterator[Bench]:
    """A bench at that CA."""
    bench = Bench(moody_pebble, zones, tmp_path)
    with bench.proxy:
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
    bench = Bench(moody_pebble, zones, tmp_path)
    with bench.proxy:
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
    told = [event for event in bench.events if isinstance(event, Activity)]
    assert told == bench.events
    assert {bench.lineage} == {event.lineage for event in told}


def test_of_several_names_it_is_told_how_many_are_done(bench: Bench) -> None:
    """While their records are written, while the CA validates them, and while they are removed."""
    names = [f"{label}.{bench.name}" for label in "abc"]

    bench.issue(*names)

    counts: dict[str, list[int]] = {}
    for event in bench.events:
        if isinstance(event, Activity):
            counts[str(event.what)] = told = []
        elif isinstance(event, Counted):
            assert 3 == event.all
            told.append(event.done)
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
        issuer = connect(
            Settings(pebble.directory_url, ca_bundle=pebble.ca_bundle),
            state=bench.state,
            propagation=Propagation(
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
