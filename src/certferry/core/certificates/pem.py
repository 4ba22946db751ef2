"""Functions that read and write certificates and keys in PEM. Errors are in words for operators."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from certferry.core.certificates.certificate import Certificate, CertificateBundle, fingerprint
from certferry.core.redaction import Secret
from certferry.errors import CertificateError
from certferry.text import Text, verbatim

_LEAF_FIRST = Text("a fullchain is PEM text: the leaf first, then the issuer certificates")
_COPY_AGAIN = Text(
    "another client may be writing the file right now: try again in a moment. If the error"
    " persists, copy the whole file again"
)

_KINDS = Text("issue a certificate with a common kind of key: RSA, or ECDSA with P-256 or P-384")

_FIRST_YEAR = 1950
_EARLIEST = datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC)
"""The earliest moment of the date format UTCTime (RFC 5280 §4.1.2.5.1). certferry refuses a leaf
that ended earlier. So code may subtract lifetimes and pauses from a leaf's end without leaving
Python's calendar.
"""

# OIDs of the curve and the signature (GM/T 0006-2012)
_SM2 = {"1.2.156.10197.1.301", "1.2.156.10197.1.501"}
_OBJECT_IDENTIFIER = re.compile(r"\d+(?:\.\d+)+")

_UNREADABLE = (
    ValueError,
    KeyError,  # the oldest allowed cryptography, for a name of an unknown ASN.1 type
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def parse_bundle(fullchain_pem: str, privkey_pem: Secret) -> CertificateBundle:
    """Read a fullchain (leaf first) and a key into a bundle. Raises `CertificateError`, as do
    `parse_chain`, `parse_key` and `bundle_of`.
    """
    return bundle_of(parse_chain(fullchain_pem), parse_key(privkey_pem))


def parse_chain(fullchain_pem: str) -> list[x509.Certificate]:
    """Read the leaf and the issuers of a PEM text.

    Roots after the leaf (certificates whose subject is their issuer) are dropped, because clients
    have the roots. If only roots follow the leaf, the root that signed the leaf stays, if
    marked as a CA: a company's own CA may sign leaves with the root. Raises `CertificateError` if
    the text has no certificate, or if a kept certificate is unreadable.
    """
    with _translating_errors():
        first, *others = _load(fullchain_pem)
        roots = [other for other in others if other.subject == other.issuer]
        kept = [first, *(other for other in others if other not in roots)]
        if len(kept) == 1:
            kept += _issuer_among(roots, first)
        for certificate in kept:  # the library parses a field on first access, and raises then
            _ = (certificate.extensions, certificate.public_key(), certificate.version)
            _ = (certificate.subject, certificate.issuer, certificate.not_valid_after_utc)
    return kept


def parse_certificates(pem: str) -> list[x509.Certificate]:
    """Read the certificates of a PEM text. Raises `CertificateError` if the text has no
    certificate, or if a certificate's form, subject or issuer is unreadable. Other fields are not
    checked.
    """
    with _translating_errors():
        certificates = _load(pem)
        for certificate in certificates:
            _ = (certificate.subject, certificate.issuer)
        return certificates


def _load(pem: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem.encode())


def with_issuer(chain: list[x509.Certificate], bundle_pem: bytes) -> list[x509.Certificate]:
    """Return a chain with one more certificate: the issuer of the last certificate, taken from a
    PEM bundle. Return the chain unchanged if the bundle lacks the issuer or is unreadable.
    """
    try:
        return chain + _issuer_among(x509.load_pem_x509_certificates(bundle_pem), chain[-1])
    except (*_UNREADABLE, UnsupportedAlgorithm):
        return chain


def _issuer_among(others: list[x509.Certificate], leaf: x509.Certificate) -> list[x509.Certificate]:
    return [issuer for issuer in others if _is_issuer(issuer) and _issued_by(leaf, issuer)][:1]


def certificate_pem(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM (RFC 7468 section 5)."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def pkcs8_pem(key: PrivateKeyTypes) -> Secret:
    """Return a private key as PKCS#8 in PEM without a passphrase (RFC 7468 section 10)."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Secret(pem.decode())


@contextmanager
def _translating_errors() -> Iterator[None]:
    """Raise `CertificateError` in place of the library's errors, which are not written for
    operators.
    """
    try:
        yield
    except UnsupportedAlgorithm as exc:
        raise CertificateError(
            Text("certferry cannot read this kind of certificate: {kind}", kind=_kind(exc)),
            hint=_KINDS,
        ) from None
    except _UNREADABLE:
        raise CertificateError(
            Text("the certificate cannot be read: damaged or incomplete"),
            hint=_COPY_AGAIN,
        ) from None


def _kind(exc: UnsupportedAlgorithm) -> Text:
    """Return the OID of the curve or algorithm that the library refused, and "SM2" for an OID of
    SM2. Return a sentence if the library's error has no OID.
    """
    match = _OBJECT_IDENTIFIER.search(str(exc))
    if match is None:
        return Text("the key's algorithm is unknown")
    return verbatim("SM2" if match[0] in _SM2 else match[0])


def parse_key(privkey_pem: Secret) -> PrivateKeyTypes:
    """Read a private key. Raises `CertificateError` if the key is unreadable, of an unknown kind,
    or protected by a passphrase.
    """
    # The library's message is dropped, because the message may quote the key.
    try:
        return serialization.load_pem_private_key(privkey_pem.reveal().encode(), password=None)
    except TypeError:
        raise CertificateError(
            Text("the private key is protected by a passphrase"),
            hint=Text("remove the passphrase: openssl pkey -in privkey.pem -out plain.pem"),
        ) from None
    except UnsupportedAlgorithm as exc:
        raise CertificateError(
            Text("certferry cannot read this kind of private key: {kind}", kind=_kind(exc)),
            hint=_KINDS,
        ) from None
    except ValueError:
        raise CertificateError(
            Text("the private key cannot be read"),
            hint=Text("a private key is PEM text that begins with BEGIN PRIVATE KEY"),
        ) from None


def digests_of_key(privkey_pem: Secret) -> frozenset[str]:
    """Return SHA-256 of the public key (SubjectPublicKeyInfo) of a private key, in lower-case hex;
    nothing for an unreadable key, because no CA certifies an unreadable key.
    """
    try:
        return frozenset({_digest(_public_der(parse_key(privkey_pem).public_key()))})
    except CertificateError:
        return frozenset()


def digests_of_leaf(cert_pem: str) -> frozenset[str]:
    """Return SHA-256 of a leaf's public key, and of the TBSCertificate without SCTs (RFC 6962
    §3.2), in lower-case hex; nothing for an unreadable certificate.

    A log shows the precertificate, the certificate or both, and both digests are the same for both.
    """
    try:
        leaf = parse_certificates(cert_pem)[0]
        with _translating_errors():
            return frozenset({_digest(_public_der(leaf.public_key())), _digest(_tbs(leaf))})
    except CertificateError:
        return frozenset()


def _tbs(certificate: x509.Certificate) -> bytes:
    """Return the TBSCertificate without SCTs."""
    oid = x509.PrecertificateSignedCertificateTimestamps.oid
    has_scts = any(extension.oid == oid for extension in certificate.extensions)
    if has_scts:
        return certificate.tbs_precertificate_bytes
    return certificate.tbs_certificate_bytes


def _digest(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def bundle_of(certificates: list[x509.Certificate], key: PrivateKeyTypes) -> CertificateBundle:
    """Return the bundle of a leaf, the issuers after the leaf, and a private key. Raises
    `CertificateError` if the leaf is not first, if the algorithm of a signature is unknown, and if
    `read_certificate` refuses the leaf.
    """
    leaf, *issuers = certificates
    _must_begin_with_the_leaf(leaf, issuers, key)
    with _translating_errors():
        complete = _is_complete(certificates)
    return CertificateBundle(
        certificate=read_certificate(leaf),
        cert_pem=certificate_pem(leaf),
        chain=tuple(map(certificate_pem, issuers)),
        privkey_pem=pkcs8_pem(key),
        key_matches=_belongs(key, leaf),
        chain_complete=complete,
        issuer_not_after=issuer_end(certificates),
    )


def issuer_end(certificates: list[x509.Certificate]) -> datetime | None:
    """Return the end of validity of the certificate after the leaf. An end before 1950 is returned
    as the beginning of 1950. Return `None` if no certificate follows the leaf.
    """
    ends = [issuer.not_valid_after_utc for issuer in certificates[1:2]]
    return next((max(end, _EARLIEST) for end in ends), None)


def read_certificate(leaf: x509.Certificate) -> Certificate:
    """Read a leaf's facts. Raises `CertificateError` if the leaf lacks the extension for subject
    alternative names, or ended before 1950.
    """
    with _translating_errors():
        if leaf.not_valid_after_utc.year < _FIRST_YEAR:
            raise ValueError
    return Certificate(
        fingerprint=fingerprint(leaf.public_bytes(serialization.Encoding.DER)),
        names=_names(leaf),
        common_name=common_name(leaf.subject),
        serial=f"{leaf.serial_number:x}",
        issuer=common_name(leaf.issuer) or leaf.issuer.rfc4514_string(),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        key_type=_key_type(leaf.public_key()),
    )


def common_name(subject: x509.Name) -> str:
    """Return the first common name of a subject or an issuer, or "" without a common name."""
    attributes = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attributes[0].value) if attributes else ""


def _must_begin_with_the_leaf(
    first: x509.Certificate, others: list[x509.Certificate], key: PrivateKeyTypes
) -> None:
    """Raise `CertificateError` if the key belongs only to a later certificate, or if the first
    certificate is a CA's own. `bundle_of` makes this check before reading names, because the
    certificate of a CA may have none.
    """
    if not _belongs(key, first) and any(_belongs(key, other) for other in others):
        problem = Text("the chain is in the wrong order: the certificate of the key is not first")
        raise CertificateError(problem, hint=_LEAF_FIRST)
    if _is_issuer(first):
        problem = Text("an issuer certificate is in the leaf's place")
        raise CertificateError(problem, hint=_LEAF_FIRST)


def _is_issuer(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return constraints.value.ca


def _belongs(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    return _public_der(key.public_key()) == _public_der(certificate.public_key())


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise CertificateError(
            Text("the certificate has no subject alternative names"),
            hint=Text(
                "clients no longer check common names: issue a new certificate, with every name"
                " as a subject alternative name"
            ),
        ) from None
    return tuple(name.lower() for name in san.get_values_for_type(x509.DNSName))


def _key_type(public_key: object) -> str:
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return f"ec{public_key.curve.key_size}"
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"rsa{public_key.key_size}"
    return type(public_key).__name__.removesuffix("PublicKey").lower()


def _is_complete(chain: list[x509.Certificate]) -> bool:
    """Return whether issuers follow the leaf, and each certificate is signed by the next, which
    must be the certificate of a CA.
    """
    pairs = list(itertools.pairwise(chain))
    return bool(pairs) and all(
        _is_issuer(issuer) and _issued_by(child, issuer) for child, issuer in pairs
    )


def _issued_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        # Reading this field raises `UnsupportedAlgorithm` for an unknown algorithm, so an unknown
        # algorithm does not count as a wrong signature.
        _ = child.signature_hash_algorithm
        return False
    return True


def _public_der(key: object) -> bytes:
    der: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every public key type has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return der
