"""A certificate's facts, covered names, chain and key, and the moment when renewal is due.

`renew_at` says when a certificate is due for renewal: usually at a moment in the CA's renewal
window (RFC 9773), otherwise with a third of the lifetime left, or half of a very short lifetime.
Let's Encrypt's integration guide advises these shares for CAs without renewal information.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from msgspec import Struct

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


class Certificate(Struct, frozen=True):
    """The facts of a leaf certificate."""

    #: The certificate's identity: SHA-256 over the DER, in lower-case hex.
    fingerprint: str
    #: The DNS names among the subject alternative names.
    names: tuple[str, ...]
    common_name: str  #: The subject's common name; empty if absent.
    #: The serial number in lower-case hex.
    serial: str
    #: The issuer's common name, or the whole name of an issuer without a common name.
    issuer: str
    not_before: datetime  #: The beginning of validity.
    not_after: datetime  #: The end of validity.
    #: `ec` or `rsa` and the size in bits, as in `KeyType`; the name of any other kind of key.
    key_type: str

    @property
    def lifetime(self) -> timedelta:
        """The time from the beginning to the end of validity."""
        return self.not_after - self.not_before

    def remaining(self, now: datetime) -> timedelta:
        """Return the time until the end of validity; negative after the end."""
        return self.not_after - now


def covers(name: str, domain: str) -> bool:
    """Return whether a certificate's name covers a domain. A name covers the same domain. A
    wildcard also covers every domain that has a single label in place of `*` (RFC 6125 §6.4.3).
    """
    if name == domain:
        return True
    if is_wildcard(domain) or not is_wildcard(name):
        return False
    _, _, parent = domain.partition(".")
    return parent == base_name(name)


def covered_by(names: Iterable[str], domain: str) -> bool:
    """Return whether any of a certificate's names covers the domain."""
    return any(covers(name, domain) for name in names)


def has_names(certificate: Iterable[str], wanted: Iterable[str]) -> bool:
    """Return whether a certificate has the wanted names. Some CAs add `www.` to a name by
    themselves; any other name makes the answer False.
    """
    has, asked = set(certificate), set(wanted)
    return asked <= has <= asked | {f"www.{name}" for name in asked}


def same_names(names: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether two lists contain the same names, in any order."""
    return set(names) == set(others)


CERT, CHAIN, FULLCHAIN, PRIVKEY = "cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"
"""The names of a bundle's files, as certbot names them."""


class CertificateBundle(Struct, frozen=True):
    """A certificate with chain and key."""

    certificate: Certificate  #: The leaf's facts.
    cert_pem: str  #: The leaf as PEM.
    #: The issuers as PEM, the leaf's issuer first. The root is left out, unless the root signed the
    #: leaf.
    chain: tuple[str, ...]
    privkey_pem: Secret  #: The private key as PKCS#8 in PEM.
    #: Whether the key belongs to the leaf. If not, `core.planning.safety` refuses deployments.
    key_matches: bool
    #: Whether issuers follow the leaf, and each certificate is signed by the next. If not,
    #: `core.planning.safety` refuses deployments.
    chain_complete: bool
    #: The end of validity of the first certificate in `chain`; `None` if `chain` is empty.
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
        """SHA-256 of `fullchain_pem`, in lower-case hex; differs for two chains of one leaf."""
        return hashlib.sha256(self.fullchain_pem.encode()).hexdigest()


def fingerprint(leaf_der: bytes) -> str:
    """Return the SHA-256 of a certificate in DER, in lower-case hex."""
    return hashlib.sha256(leaf_der).hexdigest()


SHORT = 12
"""How many characters of a fingerprint a person sees (48 bits). `--json` has all characters."""


def short(identity: str) -> str:
    """Return the first `SHORT` characters of a fingerprint or of a target's certificate id."""
    return identity[:SHORT]


def first_of(names: Sequence[str], most: int) -> list[str | Text]:
    """Return the first `most` names, and a text with the number of further names, if any."""
    more = len(names) - most
    return [*names[:most], *([Text("and {count} more", count=more)] if more > 0 else [])]


SHORT_LIVED = timedelta(days=10)
"""A shorter lifetime is very short: renewal is due after half of it, not after two thirds."""

HALF_DAY = timedelta(hours=12)
"""The time between two scheduled runs. Unless a CA asks for more queries, certferry asks for a
certificate's renewal window once in each half of a day (docs/facts/letsencrypt.md §3.1).
"""

USUAL_REST = timedelta(hours=6)
"""The least time between two queries for a renewal window if the CA sends no Retry-After (RFC 9773
§4.3.3). Let's Encrypt sends Retry-After.
"""

SHORTEST_REST, LONGEST_REST = timedelta(minutes=1), timedelta(days=1)
"""The shortest and the longest wait for a CA's Retry-After (RFC 9773 §4.3.2)."""

_DIGITS = 13
"""How many hex digits of the fingerprint choose the moment in a window: a float holds 52 bits."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RenewalWindow(Struct, frozen=True):
    """The period in which the CA wants a certificate replaced (RFC 9773 §4.2)."""

    start: datetime  #: The beginning of the period.
    end: datetime  #: The end of the period.
    #: The URL of the CA's page that explains the window, if any.
    page: str | None = None


class RenewalInfo(Struct, frozen=True):
    """A CA's answer to a query for renewal information."""

    window: RenewalWindow | None = None  #: The renewal window; `None` if the CA names none.
    #: How long to wait before the next query; `None` if the CA does not say.
    retry_after: timedelta | None = None


def plausible_window(leaf: Certificate, window: RenewalWindow | None) -> RenewalWindow | None:
    """Return the window if the window is plausible: not empty, from 1970 or later, and not beyond
    the certificate's end. Return `None` for any other window.

    A window before the certificate's life is plausible, because CAs use such a window to ask for
    another certificate at once (RFC 9773 §4.2).
    """
    if window is None:
        return None
    fits = _EPOCH <= window.start < window.end <= leaf.not_after
    return window if fits else None


def renew_at(certificate: Certificate, window: RenewalWindow | None = None) -> datetime:
    """Return when a certificate is due for renewal.

    Without a plausible window, this is with a third of the lifetime left, or half of a very short
    lifetime. In a plausible window, the fingerprint picks the moment, so certificates with the same
    window are due at different moments. The moment is never before the lifetime begins, and never
    after a sixth of the lifetime is left (a quarter of a very short lifetime).
    """
    share = 2 if certificate.lifetime < SHORT_LIVED else 3
    left = certificate.lifetime / share
    plausible = plausible_window(certificate, window)
    if plausible is None:
        return certificate.not_after - left
    moment = min(_moment_in(plausible, certificate.fingerprint), certificate.not_after - left / 2)
    return max(moment, certificate.not_before)


def _moment_in(window: RenewalWindow, fingerprint: str) -> datetime:
    # Runs come twice a day, so the moment lies before the window's last half day. After a later
    # moment, the next run might come only after the window.
    room = max(window.end - HALF_DAY - window.start, timedelta(0))
    share = int(fingerprint[:_DIGITS], 16) / float(16**_DIGITS)
    return window.start + room * share


def ask_after(now: datetime, retry_after: timedelta | None = None) -> datetime:
    """Return when the CA may be asked again after a query at `now`.

    The wait is the CA's Retry-After, at least `SHORTEST_REST` and at most `LONGEST_REST`. Without a
    Retry-After, the wait is `USUAL_REST`. Unless the CA asked for a wait shorter than `USUAL_REST`,
    the moment also lies in a later half of a day (UTC) than `now`.
    """
    rest = USUAL_REST if retry_after is None else retry_after
    moment = now + min(max(rest, SHORTEST_REST), LONGEST_REST)
    if rest < USUAL_REST:
        return moment
    passed = (now - _EPOCH) // HALF_DAY
    return max(moment, _EPOCH + (passed + 1) * HALF_DAY)


def may_ask(kept: datetime | None, now: datetime) -> bool:
    """Return whether the CA may be asked now. `kept` is the stored result of `ask_after`, if any.

    A stored moment more than `LONGEST_REST` ahead comes from a wrong clock and is ignored.
    """
    return kept is None or not now < kept <= now + LONGEST_REST


NOTICE = timedelta(days=14)
"""A certificate that another client renews is overdue at the earliest this long before the end.
Most clients renew with a third left (acme.sh, certbot, lego: 30 of 90 days); people renew later.
"""


def is_overdue(certificate: Certificate, now: datetime) -> bool:
    """Return whether another client should have renewed the certificate by now (`overdue_at`)."""
    return now >= overdue_at(certificate)


def overdue_at(certificate: Certificate) -> datetime:
    """Return the moment from which a certificate that another client renews is overdue. `renew_at`
    leaves a certificate some time until the end. With half of that time left, or with `NOTICE` left
    if `NOTICE` is shorter, the certificate is overdue.
    """
    left = certificate.not_after - renew_at(certificate)
    return certificate.not_after - min(left / 2, NOTICE)
