"""Certificates at Alibaba Cloud: reading of PEM texts, and the facts of a stored certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

EXPIRES_SOON = timedelta(days=30)  # a guess (docs/facts/aliyun.md §5.2)


class Unreadable(ValueError):
    """A PEM text without a certificate or key of the expected kind."""


def read_chain(pem: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM text, leaf first. Raises `Unreadable`."""
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError as problem:
        raise Unreadable from problem


def fits(privkey_pem: str, leaf: x509.Certificate) -> bool:
    """Whether a private key belongs to a certificate.

    Raises `Unreadable` for a text that is no private key, and for an encrypted key.
    """
    try:
        key = serialization.load_pem_private_key(privkey_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise Unreadable from problem
    return key.public_key() == leaf.public_key()


def is_linked(chain: Sequence[x509.Certificate]) -> bool:
    """Whether each certificate is issued by the next certificate."""
    try:
        for child, issuer in pairwise(chain):
            child.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def dns_names(leaf: x509.Certificate) -> list[str]:
    """Return the DNS names of the SAN, in order, [] without a SAN."""
    try:
        sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return sans.value.get_values_for_type(x509.DNSName)


def main_name(leaf: x509.Certificate) -> str:
    """Return the common name, or else the first DNS name."""
    common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else (dns_names(leaf) or [""])[0]


def covers(leaf: x509.Certificate, domain: str) -> bool:
    """Whether a certificate serves a CDN domain. A wildcard domain is written `.example.com`."""
    have = {name.lower() for name in dns_names(leaf)}
    _, _, parent = domain.partition(".")
    return domain in have or f"*.{parent}" in have


def issuer_of(leaf: x509.Certificate) -> str:
    """Return the issuer's organisation, or else the issuer's common name."""
    for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME):
        if found := leaf.issuer.get_attributes_for_oid(oid):
            return str(found[0].value)
    return ""


@dataclass(frozen=True)
class Stored:
    """A certificate of an account, in CAS or only at a CDN."""

    #: The number in CAS; 0 for a certificate that only a CDN has.
    number: int
    uid: str
    name: str
    fullchain_pem: str
    privkey_pem: str = field(repr=False)
    leaf: x509.Certificate = field(repr=False)
    created: datetime
    #: Whether the account uploaded the certificate; False for a certificate bought at the vendor.
    uploaded: bool = True

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the leaf in DER, as lowercase hex."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()

    def status(self, now: datetime) -> str:
        """Return the status at a moment: ISSUED, WILLEXPIRED or EXPIRED."""
        left = self.leaf.not_valid_after_utc - now
        if left <= timedelta(0):
            return "EXPIRED"
        return "WILLEXPIRED" if left <= EXPIRES_SOON else "ISSUED"
