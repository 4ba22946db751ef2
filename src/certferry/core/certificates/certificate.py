"""A certificate's facts, what its names cover, and a certificate with its chain and key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.names import base_name, is_wildcard
from certferry.core.secret import Secret
from certferry.text import Text


class KeyType(StrEnum):
    """The kinds of certificate key an operator can ask for."""

    EC256 = "ec256"
    EC384 = "ec384"
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The facts of a leaf. Its identity is the fingerprint: SHA-256 over the DER, lower hex."""

    fingerprint: str
    names: tuple[str, ...]
    common_name: str
    serial: str
    issuer: str
    not_before: datetime
    not_after: datetime
    key_type: str

    @property
    def lifetime(self) -> timedelta:
        """The whole time it is valid for."""
        return self.not_after - self.not_before

    def remaining(self, now: datetime) -> timedelta:
        """The time it is still valid for; negative when it has expired."""
        return self.not_after - now


def covers(name: str, domain: str) -> bool:
    """Return whether a SAN covers a domain: itself, or one label below (RFC 6125 §6.4.3)."""
    if name == domain:
        return True
    if is_wildcard(domain) or not is_wildcard(name):
        return False
    _, _, parent = domain.partition(".")
    return parent == base_name(name)


def covered_by(names: Iterable[str], domain: str) -> bool:
    """Return whether any of the SANs covers the domain."""
    return any(covers(name, domain) for name in names)


def same_names(one: Iterable[str], other: Iterable[str]) -> bool:
    """Return whether two certificates are for the same names, whatever their order."""
    return set(one) == set(other)


CERT, CHAIN, FULLCHAIN, PRIVKEY = "cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"
"""What the files of a bundle are called, as certbot calls them."""


@dataclass(frozen=True, slots=True)
class CertificateBundle:
    """A certificate with its chain and key. `chain` holds the issuers as PEM, the leaf's first,
    without the root unless that signed the leaf. `key_matches` and `chain_complete` are for safety
    to judge.
    """

    certificate: Certificate
    cert_pem: str
    chain: tuple[str, ...]
    privkey_pem: Secret
    key_matches: bool
    chain_complete: bool
    issuer_not_after: datetime | None = None

    @property
    def chain_pem(self) -> str:
        """The issuer certificates, as certbot's `chain.pem`."""
        return "".join(self.chain)

    @property
    def fullchain_pem(self) -> str:
        """Leaf and issuer certificates, as certbot's `fullchain.pem`."""
        return self.cert_pem + self.chain_pem

    @property
    def fullchain_digest(self) -> str:
        """SHA-256 of `fullchain_pem`, lower-case hex: a leaf may come with one chain or another."""
        return hashlib.sha256(self.fullchain_pem.encode()).hexdigest()


def fingerprint(leaf_der: bytes) -> str:
    """Return SHA-256 over a DER certificate, lower-case hex."""
    return hashlib.sha256(leaf_der).hexdigest()


SHORT = 12
"""Characters that a person compares: 48 bits of a fingerprint. The whole is in `--json`."""


def short(identity: str) -> str:
    """Return the short form of a fingerprint, or of a target's id of a certificate."""
    return identity[:SHORT]


def first_of(names: Sequence[str], most: int) -> list[str | Text]:
    """Return the first of many names, and how many more there are."""
    more = len(names) - most
    return [*names[:most], *([Text("and {count} more", count=more)] if more > 0 else [])]
