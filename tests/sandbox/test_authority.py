"""Certificates made at run time look like those of a public CA."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.qiniu.certificates import common_name, dns_names

NOW = datetime(2026, 5, 1, tzinfo=UTC)
MONTH = timedelta(days=30)


def verify(issued: Issued, authority: Authority, name: str, now: datetime) -> None:
    """Verify as a browser would."""
    leaf, *issuers = x509.load_pem_x509_certificates(issued.fullchain_pem.encode())
    root = x509.load_pem_x509_certificate(authority.root_pem.encode())
    verifier = PolicyBuilder().store(Store([root])).time(now)
    verifier.build_server_verifier(x509.DNSName(name)).verify(leaf, issuers)


@pytest.mark.parametrize(
    ("key_type", "kind"), [("ec256", ec.EllipticCurvePrivateKey), ("rsa2048", rsa.RSAPrivateKey)]
)
def test_issued_certificate_verifies(key_type: Any, kind: type) -> None:
    """The chain leads to the root for every name, within the validity and not outside it."""
    authority = Authority("Test")
    issued = authority.issue(["a.test", "*.a.test"], NOW, NOW + MONTH, key_type)

    for name in ("a.test", "www.a.test"):
        verify(issued, authority, name, NOW)
    with pytest.raises(VerificationError):
        verify(issued, authority, "a.test", NOW + MONTH + timedelta(seconds=1))
    with pytest.raises(VerificationError):
        verify(issued, Authority("Test"), "a.test", NOW)
    key = serialization.load_pem_private_key(issued.privkey_pem.encode(), None)
    assert isinstance(key, kind)
    assert issued.privkey_pem.startswith("-----BEGIN PRIVATE KEY-----")
    assert key.public_key() == issued.leaf.public_key()


def test_validity_and_names_are_those_asked_for() -> None:
    """Whole seconds, SAN in order, the first name as common name, an own serial number."""
    authority = Authority("Test")
    start = NOW + timedelta(microseconds=7)
    first, second = (authority.issue(["b.test", "a.test"], start, NOW + MONTH) for _ in range(2))

    assert (NOW, NOW + MONTH) == (first.leaf.not_valid_before_utc, first.leaf.not_valid_after_utc)
    assert (["b.test", "a.test"], "b.test") == (dns_names(first.leaf), common_name(first.leaf))
    assert first.leaf.serial_number != second.leaf.serial_number
    assert first.fingerprint != second.fingerprint
