"""A certificate's facts, what its names cover, its chain and key; and when it is due.

It is due at a moment in the CA's renewal window (RFC 9773); without one, when a third of its
lifetime is left, half for very short ones (Let's Encrypt's integration guide, as the backstop to
renewal information).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.names import base_name, is_wildcard
from certferry.core.redaction import Secret
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


SHORT_LIVED = timedelta(days=10)

HALF_DAY = timedelta(hours=12)
"""Let's Encrypt asks to be asked twice a day (docs/facts/letsencrypt.md §3.1)."""

USUAL_REST = timedelta(hours=6)
"""How long a CA is left alone that says nothing else (RFC 9773 §4.3.3); Let's Encrypt does."""

SHORTEST_REST, LONGEST_REST = timedelta(minutes=1), timedelta(days=1)
"""What a CA may ask for in Retry-After (RFC 9773 §4.3.2)."""

_DIGITS = 13
"""Hex digits of a fingerprint that make a share: as many bits as a float holds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RenewalWindow:
    """When the CA wants a certificate replaced; `page` says why (RFC 9773 §4.2)."""

    start: datetime
    end: datetime
    page: str | None = None


@dataclass(frozen=True, slots=True)
class RenewalInfo:
    """What a CA answers: a window, if it has one, and how long it wants to be left alone."""

    window: RenewalWindow | None = None
    retry_after: timedelta | None = None


def plausible_window(leaf: Certificate, window: RenewalWindow | None) -> RenewalWindow | None:
    """Return a window that is not empty and over before the certificate is, else `None`. One before
    its life is how a CA asks for another certificate at once (RFC 9773 §4.2).
    """
    if window is None:
        return None
    fits = _EPOCH <= window.start < window.end <= leaf.not_after
    return window if fits else None


def renew_at(certificate: Certificate, window: RenewalWindow | None = None) -> datetime:
    """Return when a certificate is due: in its window by its fingerprint, before the last sixth."""
    share = 2 if certificate.lifetime < SHORT_LIVED else 3
    left = certificate.lifetime / share
    found = plausible_window(certificate, window)
    if found is None:
        return certificate.not_after - left
    moment = min(_moment_in(found, certificate.fingerprint), certificate.not_after - left / 2)
    return max(moment, certificate.not_before)


def _moment_in(window: RenewalWindow, fingerprint: str) -> datetime:
    # Runs come twice a day: drawn later, it could come after the window.
    room = max(window.end - HALF_DAY - window.start, timedelta(0))
    share = int(fingerprint[:_DIGITS], 16) / float(16**_DIGITS)
    return window.start + room * share


def ask_after(now: datetime, retry_after: timedelta | None = None) -> datetime:
    """Return when the CA may be asked again: in the next half of a day, or as it says."""
    rest = USUAL_REST if retry_after is None else retry_after
    moment = now + min(max(rest, SHORTEST_REST), LONGEST_REST)
    if rest < USUAL_REST:
        return moment
    passed = (now - _EPOCH) // HALF_DAY
    return max(moment, _EPOCH + (passed + 1) * HALF_DAY)


def may_ask(kept: datetime | None, now: datetime) -> bool:
    """Return whether the CA may be asked; an `ask_after` far ahead is of a wrong clock."""
    return kept is None or not now < kept <= now + LONGEST_REST


NOTICE = timedelta(days=14)
"""How long before its end operators are notified of a certificate that another client should renew:
most renew a third before (acme.sh, certbot and lego with 30 of 90 days left), people later."""


def is_overdue(certificate: Certificate, now: datetime) -> bool:
    """Return whether another client should have replaced the certificate by now."""
    return now >= overdue_at(certificate)


def overdue_at(certificate: Certificate) -> datetime:
    """Return the moment from which a certificate is overdue."""
    left = certificate.not_after - renew_at(certificate)
    return certificate.not_after - min(left / 2, NOTICE)
