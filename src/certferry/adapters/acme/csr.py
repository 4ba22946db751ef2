"""Private keys, certificate signing requests, and a certificate's identifier for a CA."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from josepy.b64 import b64encode

from certferry.core.certificates.certificate import KeyType
from certferry.core.certificates.pem import pkcs8_pem
from certferry.core.redaction import Secret

LONGEST_COMMON_NAME = 64  # characters (RFC 5280 appendix A.1, ub-common-name)
PUBLIC_EXPONENT = 65537

_CURVES: dict[KeyType, ec.EllipticCurve] = {
    KeyType.EC256: ec.SECP256R1(),
    KeyType.EC384: ec.SECP384R1(),
}
_SIZES = {KeyType.RSA2048: 2048, KeyType.RSA3072: 3072, KeyType.RSA4096: 4096}

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key(key_type: KeyType) -> Secret:
    """Return a new private key as unencrypted PKCS#8 PEM."""
    if key_type in _CURVES:
        return pkcs8_pem(ec.generate_private_key(_CURVES[key_type]))
    return pkcs8_pem(rsa.generate_private_key(PUBLIC_EXPONENT, _SIZES[key_type]))


def is_of_type(key_pem: Secret, key_type: KeyType) -> bool:
    """Return whether a private key has the given type; `False` for an unreadable key."""
    try:
        key = _load(key_pem)
    except (ValueError, TypeError):
        return False
    if isinstance(key, rsa.RSAPrivateKey):
        return _SIZES.get(key_type) == key.key_size
    return key_type in _CURVES and _CURVES[key_type].name == key.curve.name


def make_csr(names: Sequence[str], key_pem: Secret) -> x509.CertificateSigningRequest:
    """Return a CSR for the names.

    Some targets demand a common name, so the first name of at most `LONGEST_COMMON_NAME` characters
    becomes the common name. If all names are longer, the subject is empty.
    """
    fitting = [name for name in names if len(name) <= LONGEST_COMMON_NAME]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in fitting[:1]])
    all_names = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    request = x509.CertificateSigningRequestBuilder(subject).add_extension(all_names, False)  # noqa: FBT003 - not critical
    return request.sign(_load(key_pem), hashes.SHA256())


def _load(key_pem: Secret) -> _Key:
    key = serialization.load_pem_private_key(key_pem.reveal().encode(), password=None)
    if not isinstance(key, _Key):
        raise TypeError(type(key))
    return key


def certificate_id(cert_pem: str) -> str | None:
    """Return the identifier by which the CA knows a certificate (RFC 9773 §4.1).

    Return `None` if the certificate has no readable authority key identifier.
    """
    certificate = x509.load_pem_x509_certificate(cert_pem.encode())
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
    serial = certificate.serial_number
    size = math.ceil((max(serial, ~serial).bit_length() + 1) / 8)  # with room for the sign
    authority, number = extension.value.key_identifier, serial.to_bytes(size, "big", signed=True)
    return None if authority is None else b".".join(map(b64encode, (authority, number))).decode()
