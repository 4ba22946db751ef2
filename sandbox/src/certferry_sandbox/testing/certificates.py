"""Certificates for tests, made at run time: a leaf, the issuer, and the leaf's private key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.pem import certificate_pem, parse_bundle, pkcs8_pem
from certferry.core.redaction import Secret

LIFETIME = timedelta(days=90)
_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_END = _YEAR_2000 + timedelta(days=36500)


def make_bundle(
    *names: str, not_before: datetime, lifetime: timedelta = LIFETIME
) -> CertificateBundle:
    """Make a certificate for these names, with a new key, and its chain of one issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_key, issuer_pem = _issuer()
    leaf = (
        x509.CertificateBuilder()
        .subject_name(_named(names[0]))
        .issuer_name(_named("Test Issuer"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + lifetime)
        .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return parse_bundle(certificate_pem(leaf) + issuer_pem, pkcs8_pem(key))


def with_another_chain(bundle: CertificateBundle) -> CertificateBundle:
    """Return the same leaf with a longer chain, as after a CA's change of chains."""
    return parse_bundle(bundle.fullchain_pem + _cross_signed_root(), bundle.privkey_pem)


def with_issuer_until(bundle: CertificateBundle, moment: datetime) -> CertificateBundle:
    """Return the same leaf with an issuer certificate that ends at a moment."""
    key, _ = _issuer()
    issuer = _authority("Test Issuer", key, "Test Root", _root_key(), not_after=moment)
    return parse_bundle(bundle.cert_pem + issuer, bundle.privkey_pem)


def make_key() -> Secret:
    """Make a private key, as PEM."""
    return pkcs8_pem(ec.generate_private_key(ec.SECP256R1()))


@cache
def _issuer() -> tuple[ec.EllipticCurvePrivateKey, str]:
    """Return the issuer's key and certificate: an intermediate, issued under another name."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _authority("Test Issuer", key, "Test Root", _root_key())


@cache
def _root_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def _cross_signed_root() -> str:
    older = ec.generate_private_key(ec.SECP256R1())
    return _authority("Test Root", _root_key(), "Older Root", older)


def _authority(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    not_after: datetime = _END,
) -> str:
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_YEAR_2000)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate_pem(certificate)


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
