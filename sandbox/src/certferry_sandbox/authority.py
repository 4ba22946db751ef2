"""A certificate authority made at run time: root, intermediate, and leaves on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certferry.core.certificates.pem import certificate_pem, pkcs8_pem

KeyType = Literal["ec256", "rsa2048"]
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# The validity covers every clock that a test may set.
CA_NOT_BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
CA_NOT_AFTER = datetime(2099, 12, 31, tzinfo=UTC)
COMMON_NAME_LIMIT = 64  # characters, RFC 5280 appendix A.1, ub-common-name


@dataclass(frozen=True)
class Issued:
    """A certificate and its key. `fullchain_pem` is leaf then intermediate, without the root;
    `privkey_pem` is unencrypted PKCS#8.
    """

    fullchain_pem: str
    privkey_pem: str = field(repr=False)
    leaf: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the DER leaf, lowercase hex."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()


class Authority:
    """A root and one intermediate, with the extensions that public CAs set (RFC 5280 §4.2)."""

    def __init__(self, name: str) -> None:
        root_key, self._key = _generate("ec256"), _generate("ec256")
        root_name = _subject(f"{name} Root")
        self.root = _ca_certificate(root_name, root_key, root_name, root_key, path_length=None)
        self.intermediate = _ca_certificate(
            _subject(f"{name} Intermediate"), self._key, root_name, root_key, path_length=0
        )

    @property
    def root_pem(self) -> str:
        """The root, for clients' lists of trusted roots."""
        return certificate_pem(self.root)

    @property
    def intermediate_pem(self) -> str:
        """The intermediate, which follows the leaf in a fullchain."""
        return certificate_pem(self.intermediate)

    def issue(
        self,
        names: Sequence[str],
        not_before: datetime,
        not_after: datetime,
        key_type: KeyType = "ec256",
        common_name: str | None = None,
    ) -> Issued:
        """Issue a certificate for DNS names; the aware datetimes are cut to whole seconds.

        The common name is the first name unless given. A common name of "", or of more than
        `COMMON_NAME_LIMIT` characters, leaves the subject empty.
        """
        key = _generate(key_type)
        leaf = self._sign_leaf(names, not_before, not_after, key, common_name)
        return Issued(certificate_pem(leaf) + self.intermediate_pem, pkcs8_pem(key).reveal(), leaf)

    def _sign_leaf(
        self,
        names: Sequence[str],
        not_before: datetime,
        not_after: datetime,
        key: Key,
        common_name: str | None,
    ) -> x509.Certificate:
        subject = _subject(names[0] if common_name is None else common_name)
        sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        return (
            _builder(subject, key, self.intermediate.subject, self._key)
            .not_valid_before(not_before.replace(microsecond=0))
            .not_valid_after(not_after.replace(microsecond=0))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(of_ca=False), critical=True)
            .add_extension(usage, critical=False)
            # An empty subject requires a critical SAN (RFC 5280 §4.2.1.6).
            .add_extension(sans, critical=not list(subject))
            .sign(self._key, hashes.SHA256())
        )


def _ca_certificate(
    subject: x509.Name, key: Key, issuer: x509.Name, issuer_key: Key, path_length: int | None
) -> x509.Certificate:
    return (
        _builder(subject, key, issuer, issuer_key)
        .not_valid_before(CA_NOT_BEFORE)
        .not_valid_after(CA_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(of_ca=True), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, key: Key, issuer: x509.Name, issuer_key: Key
) -> x509.CertificateBuilder:
    public, issuer_public = key.public_key(), issuer_key.public_key()
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer_id, critical=False)
    )


def _subject(common_name: str) -> x509.Name:
    if not 0 < len(common_name) <= COMMON_NAME_LIMIT:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_usage(*, of_ca: bool) -> x509.KeyUsage:
    """Return the key usage: a CA's key signs certificates, a leaf's key signs handshakes."""
    return x509.KeyUsage(
        digital_signature=not of_ca,
        key_cert_sign=of_ca,
        crl_sign=of_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _generate(key_type: KeyType) -> Key:
    if key_type == "rsa2048":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())
