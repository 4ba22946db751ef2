"""Chains of every kind, made for the current time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certferry.core.certificates.pem import certificate_pem, pkcs8_pem
from certferry_sandbox.authority import key_usage

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Made:
    certificate: x509.Certificate
    key: Key

    def pem(self, *issuers: Made) -> str:
        """Return the configuration of an edge: the leaf, the given issuers, and the key."""
        chain = (self, *issuers)
        certificates = "".join(certificate_pem(made.certificate) for made in chain)
        return certificates + pkcs8_pem(self.key).reveal()


def made(
    name: str,
    begins: datetime,
    ends: datetime,
    *,
    issuer: Made | None = None,
    hosts: Iterable[str] = (),
    is_ca: bool = False,
    for_servers: bool = True,
    key: Key | None = None,
) -> Made:
    """Make a certificate with a common name; without an issuer the certificate is self-signed."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = key if issuer is None else issuer.key
    subject = _named(name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(key_usage(of_ca=is_ca), critical=True)
    )
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(list(map(_general_name, hosts))), critical=False
        )
    if not is_ca:
        purpose = (
            ExtendedKeyUsageOID.SERVER_AUTH if for_servers else ExtendedKeyUsageOID.CLIENT_AUTH
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return Made(builder.sign(signer, hashes.SHA256()), key)


class Ca:
    """A root and an intermediate with a common name, made a year ago and valid for another year."""

    def __init__(
        self, name: str, now: datetime, *, intermediate_ends: timedelta = timedelta(days=365)
    ) -> None:
        self.now = now
        year = timedelta(days=365)
        self.root = made(f"{name} Root", now - year, now + year, is_ca=True)
        self.intermediate = made(
            f"{name} E7", now - year, now + intermediate_ends, issuer=self.root, is_ca=True
        )

    def leaf(
        self,
        *hosts: str,
        age: timedelta = timedelta(days=30),
        remaining: timedelta = timedelta(days=60),
        for_servers: bool = True,
    ) -> Made:
        """Issue for hosts, with a given age and remaining lifetime."""
        begins, ends = self.now - age, self.now + remaining
        return made(
            next(iter(hosts), "no host"),
            begins,
            ends,
            issuer=self.intermediate,
            hosts=hosts,
            for_servers=for_servers,
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
