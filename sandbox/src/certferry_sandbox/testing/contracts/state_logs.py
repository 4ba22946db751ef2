"""The contract of `certferry.ports.log_store.LogStore`."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.pem import digests_of_key, parse_certificates
from certferry.core.observed.public_logs import (
    FORGOTTEN_AFTER,
    FoundCertificate,
    LoggedCertificate,
    WatchedDomain,
)
from certferry.ports.state import AcmeOrder, StateStore
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle, make_key

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=12)
FIRST = WatchedDomain("example.com", NOW, tried_at=NOW)
LOGGED = LoggedCertificate(
    "17",
    ("*.shop.example.com", "shop.example.com"),
    "Harbour CA",
    "CN=Harbour CA R1",
    NOW - timedelta(days=1),
    NOW + timedelta(days=89),
    "aa" * 32,
    "bb" * 32,
    "https://log.example/17",
    is_revoked=True,
)
FOUND = FoundCertificate("example.com", LOGGED, NOW, is_baseline=True, other_names=3, is_cut=True)
BLANK = FoundCertificate("example.com", LoggedCertificate("18"), LATER)


def _digests(bundle: CertificateBundle) -> set[str]:
    (leaf,) = parse_certificates(bundle.cert_pem)
    return {_key_digest(leaf), hashlib.sha256(leaf.tbs_certificate_bytes).hexdigest()}


def _key_digest(leaf: x509.Certificate) -> str:
    der = leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


class LogsContract:
    """Own digests, watched domains, and the certificates found."""

    def test_version_is_own_by_key_and_by_tbs(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """Both digests of a certificate are own, also on another host, and no other digest is."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        own = _digests(bundle)
        assert frozenset() == store.own_among(own)

        store.save_version(store.acquire("img", NOW), bundle, NOW)

        assert own == elsewhere.own_among({*own, "cc" * 32})
        assert frozenset() == elsewhere.own_among(())

    def test_key_of_an_order_stays_own(self, store: StateStore, other: StateStore) -> None:
        """The CA may have issued although the answer was lost and the order was dropped."""
        key_pem = make_key()
        order = AcmeOrder("img", "https://ca.test", "order/1", ("img.example.com",), key_pem, NOW)
        lease = store.acquire("img", NOW)

        store.save_order(lease, order)
        store.drop_order(lease, issued_at=NOW)

        own = digests_of_key(key_pem)
        assert 1 == len(own)
        assert own == other.own_among(own)

    def test_many_digests_at_once(self, store: StateStore) -> None:
        """A question may have more digests than a query takes."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        store.save_version(store.acquire("img", NOW), bundle, NOW)
        many = {f"{number:064x}" for number in range(1200)}

        assert _digests(bundle) == store.own_among({*many, *_digests(bundle)})

    def test_look_is_read_back(self, store: StateStore, elsewhere: StateStore) -> None:
        """A domain and its certificates come back, with every fact, readable or not."""
        whole = replace(
            FIRST,
            cursor="18",
            baseline_at=NOW,
            looked_at=NOW,
            again_at=LATER,
            problem=Text("{host} is silent", host="log.example"),
            left_out=7,
        )

        assert store.save_look(None, whole, [BLANK, FOUND])

        assert (whole,) == elsewhere.watched_domains()
        assert (FOUND, BLANK) == elsewhere.found_certificates()

    def test_certificates_of_a_domain(self, store: StateStore) -> None:
        """A look reads the certificates of its domain alone, however many domains there are."""
        elsewhere = replace(BLANK, domain="example.org")
        store.save_look(None, FIRST, [FOUND])
        store.save_look(None, WatchedDomain("example.org", NOW), [elsewhere])

        assert (elsewhere,) == store.found_certificates("example.org")
        assert (FOUND, elsewhere) == store.found_certificates()

    def test_first_discovery_counts(self, store: StateStore) -> None:
        """A certificate found again stays as stored."""
        store.save_look(None, FIRST, [FOUND])

        again = replace(FOUND, found_at=LATER, is_baseline=False)
        store.save_look(FIRST, replace(FIRST, tried_at=LATER), [again])

        assert (FOUND,) == store.found_certificates()

    def test_issuances_that_are_gone(self, store: StateStore) -> None:
        """Only the named certificates are deleted."""
        store.save_look(None, FIRST, [FOUND, BLANK])

        store.save_look(FIRST, FIRST, gone=[FOUND])

        assert (BLANK,) == store.found_certificates()

    def test_look_of_another_run_is_not_overwritten(
        self, store: StateStore, other: StateStore
    ) -> None:
        """A run that read the domain earlier stores nothing."""
        ahead = replace(FIRST, cursor="20")
        assert store.save_look(None, FIRST)
        assert other.save_look(FIRST, ahead)

        assert not store.save_look(FIRST, replace(FIRST, cursor="18"), [FOUND])
        assert not store.save_look(None, FIRST, [FOUND])

        assert (ahead,) == store.watched_domains()
        assert () == store.found_certificates()

    def test_domain_that_no_run_reads_is_forgotten(self, store: StateStore) -> None:
        """The file lost the names, so the rows go after a while."""
        moment = NOW + FORGOTTEN_AFTER + timedelta(seconds=1)
        store.save_look(None, FIRST, [FOUND])

        other = WatchedDomain("example.org", moment, tried_at=moment)
        store.save_look(None, other, [replace(BLANK, domain="example.org")])

        assert (other,) == store.watched_domains()
        assert ["example.org"] == [found.domain for found in store.found_certificates()]
