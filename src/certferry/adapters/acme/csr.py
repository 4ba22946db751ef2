"""Keys of accounts and certificates, and the requests that certificates are issued from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from certferry.adapters.acme.client import Client
from certferry.core.certificates.certificate import KeyType
from certferry.core.certificates.pem import common_name, parse_certificates, pkcs8_pem
from certferry.core.secret import Secret
from certferry.errors import CertificateError
from certferry.text import Text

LONGEST_COMMON_NAME = 64  # characters (RFC 5280 appendix A.1, ub-common-name)
PUBLIC_EXPONENT = 65537

_CURVES: dict[KeyType, ec.EllipticCurve] = {
    KeyType.EC256: ec.SECP256R1(),
    KeyType.EC384: ec.SECP384R1(),
}
_SIZES = {KeyType.RSA2048: 2048, KeyType.RSA3072: 3072, KeyType.RSA4096: 4096}

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key(key_type: KeyType) -> Secret:
    """Make a private key, as PKCS#8 PEM without a passphrase."""
    if key_type in _CURVES:
        return pkcs8_pem(ec.generate_private_key(_CURVES[key_type]))
    return pkcs8_pem(rsa.generate_private_key(PUBLIC_EXPONENT, _SIZES[key_type]))


def is_of_type(key_pem: Secret, key_type: KeyType) -> bool:
    """Tell whether a private key is of the type; one that cannot be read is of none."""
    try:
        key = _load(key_pem)
    except (ValueError, TypeError):
        return False
    if isinstance(key, rsa.RSAPrivateKey):
        return _SIZES.get(key_type) == key.key_size
    return key_type in _CURVES and _CURVES[key_type].name == key.curve.name


def make_csr(names: Sequence[str], key_pem: Secret) -> x509.CertificateSigningRequest:
    """Ask for the names, in their order, with the first that is short enough as common name.

    Some places refuse a certificate without a common name, though clients have ignored it for
    years.
    """
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(names))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        .sign(_load(key_pem), hashes.SHA256())
    )


def _load(key_pem: Secret) -> _Key:
    key = serialization.load_pem_private_key(key_pem.reveal().encode(), password=None)
    if not isinstance(key, _Key):
        raise TypeError(type(key))
    return key


def _subject(names: Sequence[str]) -> x509.Name:
    fitting = [name for name in names if len(name) <= LONGEST_COMMON_NAME]
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in fitting[:1]])


MOST_CHAINS = 10
"""Chains that are looked at; Let's Encrypt offers two or three."""

_log = logging.getLogger(__name__)


def chosen_chain(client: Client, url: str, root: str | None) -> str:
    """Download the certificate, with the chain whose topmost certificate was issued by `root`, a
    common name; where there is none, or none is wanted, the one that the CA prefers.
    """
    usual, others = client.chains(url, most=MOST_CHAINS)
    if root is None:
        return usual
    offered = []
    for chain in _each(usual, others):
        topmost = _topmost_issuer(chain)
        if topmost == root:
            return chain
        offered.append(topmost)
    _log.warning(
        Text(
            "the CA offers no chain to {root} (`preferred_chain`), only to {roots}",
            root=root,
            roots=offered,
        )
    )
    return usual


def _each(usual: str, others: Iterator[str]) -> Iterator[str]:
    yield usual
    yield from others


def _topmost_issuer(chain: str) -> str:
    """Return who issued the last certificate of a chain, as certbot's `--preferred-chain` has it;
    of one that cannot be read, nothing: what is wrong is told if it is the one that is taken.
    """
    try:
        return common_name(parse_certificates(chain)[-1].issuer)
    except CertificateError:
        return ""
