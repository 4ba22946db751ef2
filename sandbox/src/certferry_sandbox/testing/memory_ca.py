"""A CA in memory: real certificates, orders that are finished once, proofs that it looks up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from secrets import token_urlsafe

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.names import challenge_name
from certferry.core.certificates.pem import certificate_pem, parse_chain, read_certificate
from certferry.core.certificates.renewal import RenewalInfo
from certferry.errors import AuthorizationFailed, IssuanceError, OrderFailed
from certferry.text import Text

LONGEST_COMMON_NAME = 64  # characters (RFC 5280 appendix A.1, ub-common-name)
CENTURY = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, tzinfo=UTC))

Lookup = Callable[[str], Collection[str]]
"""A challenge name → the TXT values that are there."""

Proof = tuple[str, str]
"""Where a TXT value is to be put, and the value."""


@dataclass(slots=True)
class _Order:
    names: tuple[str, ...]
    proofs: tuple[Proof, ...]
    fullchain_pem: str | None = None


@dataclass(slots=True)
class MemoryCa:
    """Orders and their certificates, which are valid for `lifetime`. Safe to use from any thread.

    With a `lookup` it believes only what it sees there; without one it believes every client. While
    there is a `failure`, every proof ends with it. `issued` counts certificates, `asked` the
    questions when to renew one, which `answer` answers; `replaced` lists what orders say.
    """

    now: Callable[[], datetime]
    lifetime: timedelta
    lookup: Lookup | None = None
    failure: IssuanceError | None = None
    issued: int = 0
    answer: Callable[[Certificate], RenewalInfo] = lambda _: RenewalInfo()
    asked: int = 0
    replaced: list[str | None] = field(default_factory=list)
    _orders: dict[str, _Order] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def renewal_info(self, cert_pem: str) -> RenewalInfo:
        """Say when a certificate should be renewed."""
        with self._lock:
            self.asked += 1
        (leaf,) = parse_chain(cert_pem)
        return self.answer(read_certificate(leaf))

    def begin_order(self, names: tuple[str, ...], replaced_pem: str | None) -> str:
        """Take an order, and give its URL."""
        proofs = tuple((challenge_name(name), token_urlsafe(32)) for name in names)
        with self._lock:
            self.replaced.append(replaced_pem)
            url = f"memory:order/{len(self._orders) + 1}"
            self._orders[url] = _Order(names, proofs)
        return url

    def proofs(self, url: str) -> tuple[Proof, ...] | None:
        """Give what is still to be put in DNS for an order; `None` for an order that is over."""
        order = self._orders.get(url)
        return None if order is None else order.proofs

    def validate(self, url: str) -> None:
        """Look the proofs up. Raises `IssuanceError` when the order is over."""
        order = self._orders[url]
        try:
            for name, value in order.proofs:
                self._must_be_seen(name, value)
        except IssuanceError:
            del self._orders[url]
            raise
        order.proofs = ()

    def _must_be_seen(self, name: str, value: str) -> None:
        if self.failure is not None:
            raise self.failure
        if self.lookup is not None and value not in self.lookup(name):
            raise AuthorizationFailed(
                Text("the CA does not see the value at {name}", name=name),
                hint=Text("check that the zone is delegated to the provider"),
            )

    def finalize(self, url: str, public_key: CertificatePublicKeyTypes) -> str:
        """Issue once for a proven order, and give leaf and issuer as PEM, then and later."""
        order = self._orders[url]
        with self._lock:
            if order.proofs:
                raise OrderFailed(Text("the order is not ready"))
            if order.fullchain_pem is None:
                self.issued += 1
                order.fullchain_pem = self._issue(order.names, public_key)
            return order.fullchain_pem

    def _issue(self, names: Sequence[str], public_key: CertificatePublicKeyTypes) -> str:
        key, issuer = _issuer()
        now = self.now()
        sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        leaf = (
            _builder(_subject(names[0]), issuer.subject, public_key, (now, now + self.lifetime))
            .add_extension(sans, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        return certificate_pem(leaf) + certificate_pem(issuer)


@cache
def _issuer() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Make the issuer's key and certificate. Its own issuer is the root, which is not needed."""
    key, root_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    builder = _builder(
        _subject("Memory Intermediate"), _subject("Memory Root"), key.public_key(), CENTURY
    )
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return key, builder.add_extension(constraints, critical=True).sign(root_key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: CertificatePublicKeyTypes,
    validity: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )


def _subject(name: str) -> x509.Name:
    if len(name) > LONGEST_COMMON_NAME:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
