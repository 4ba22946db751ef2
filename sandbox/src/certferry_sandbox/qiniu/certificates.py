"""Qiniu's certificate service, `/sslcert` (docs/facts/qiniu.md §4), and the checks of an upload:
PEM, key, validity, chain, common name.

§11.2 has the order and the codes of the checks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from certferry_sandbox.httpd import Response
from certferry_sandbox.qiniu.answers import Pager, Refused, success
from certferry_sandbox.qiniu.signing import SignedCall

PEM_BEGIN = "-----BEGIN CERTIFICATE-----"
SEC1_LABEL = "-----BEGIN EC PRIVATE KEY-----"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass
class UploadRules:
    """The rules for an upload. Each rule may be changed at any time.

    `min_remaining`: the least life left; users report 30 days (§4.6).
    `refuse_sec1_keys`: refuse keys labelled `EC PRIVATE KEY`, as a support ticket reports (§4.6).
    `refuse_empty_common_name`: refuse a certificate without a common name. Qiniu's rule is
    uncertain, so the default is strict (§4.6).
    `mismatch_code`: the code for a key of another certificate; a test of 2026 saw 400324 (§4.5).
    `names_days`: refuse too little life in the console's words, with the general 400000 (§4.6).
    `roots`: the roots that count as public.
    """

    min_remaining: timedelta = timedelta(days=30)
    refuse_sec1_keys: bool = True
    refuse_empty_common_name: bool = True
    mismatch_code: Literal[400324, 400328] = 400328
    names_days: bool = False
    roots: list[x509.Certificate] = field(default_factory=list)

    def check(self, ca: str, pri: str, now: datetime) -> x509.Certificate:
        """Check an upload and return the leaf. Raises `Refused` for the first broken rule."""
        leaf, *issuers = _read_certificates(ca)
        self._check_key(pri, leaf)
        self._check_validity(leaf, now)
        self._check_chain(leaf, issuers, now)
        if self.refuse_empty_common_name and not common_name(leaf):
            raise Refused(400348)
        return leaf

    def _check_key(self, pri: str, leaf: x509.Certificate) -> None:
        if self.refuse_sec1_keys and SEC1_LABEL in pri:
            raise Refused(400327)
        if _read_key(pri).public_key() != leaf.public_key():
            raise Refused(self.mismatch_code)

    def _check_validity(self, leaf: x509.Certificate, now: datetime) -> None:
        if now < leaf.not_valid_before_utc:
            raise Refused(400321)
        if now > leaf.not_valid_after_utc:
            raise Refused(400329)
        if leaf.not_valid_after_utc - now < self.min_remaining:
            if self.names_days:
                words = f"certification expire day should more than {self.min_remaining.days} days"
                raise Refused(400000, words)
            raise Refused(400322)

    def _check_chain(
        self, leaf: x509.Certificate, issuers: list[x509.Certificate], now: datetime
    ) -> None:
        """Check that each certificate is issued by the next, and the last by a root of `roots`.

        The last certificate may also be such a root. Raises `Refused`: 400338 for a parent that is
        missing or out of order, 400323 for any other break in the chain. Users have reported both
        codes (§4.6).
        """
        child = leaf
        for issuer in issuers:
            if issuer.subject != child.issuer:
                raise Refused(400338)
            if not (_issued(issuer, child) and _may_issue(issuer, now)):
                raise Refused(400323)
            child = issuer
        if child in self.roots or any(_issued(root, child) for root in self.roots):
            return
        raise Refused(400323 if issuers or child.issuer == child.subject else 400338)


def common_name(leaf: x509.Certificate) -> str:
    """Return the subject's common name, or ""."""
    return next(
        (str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)), ""
    )


def dns_names(leaf: x509.Certificate) -> list[str]:
    """Return the DNS names of the SAN, in order, [] without a SAN."""
    try:
        sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return sans.value.get_values_for_type(x509.DNSName)


def covers(names: Iterable[str], domain: str) -> bool:
    """Whether a certificate with these names serves a CDN domain (§5.3).

    A wildcard covers a single label. Only the name `*.x` covers the wildcard domain `.x`.
    """
    have = {name.lower() for name in names}
    _, _, parent = domain.partition(".")
    return domain in have or f"*.{parent}" in have


def _read_certificates(ca: str) -> list[x509.Certificate]:
    if PEM_BEGIN not in ca:
        raise Refused(404906)
    try:
        return x509.load_pem_x509_certificates(ca.encode())
    except ValueError as problem:
        raise Refused(404907) from problem


def _read_key(pri: str) -> Key:
    try:
        key = serialization.load_pem_private_key(pri.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        # An encrypted key without a passphrase raises TypeError.
        raise Refused(400327) from problem
    if not isinstance(key, Key):
        raise Refused(400327)
    return key


def _issued(issuer: x509.Certificate, child: x509.Certificate) -> bool:
    """Whether the child names `issuer`, and the issuer's key signed the child."""
    try:
        child.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_issue(issuer: x509.Certificate, now: datetime) -> bool:
    """Whether `issuer` is a CA certificate and valid now (RFC 5280 §6.1.4)."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return constraints.value.ca and (
        issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc
    )


NAME_LIMIT = 128  # characters, a guess: Qiniu has a limit, but the number is unknown (§4.1)


@dataclass(frozen=True)
class StoredCertificate:
    """An upload. `number` is the place in the list; `fullchain_pem` is the `ca` of the request."""

    id: str
    number: int
    uid: int
    name: str
    fullchain_pem: str
    privkey_pem: str = field(repr=False)
    leaf: x509.Certificate = field(repr=False)
    created: datetime

    @property
    def names(self) -> list[str]:
        """The DNS names of the leaf."""
        return dns_names(self.leaf)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the leaf in DER, as lowercase hex."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()

    def to_wire(self) -> dict[str, Any]:
        """Return the object of the list: every field but the chain and the key (§4.3)."""
        key = self.leaf.public_key()
        is_rsa = isinstance(key, rsa.RSAPublicKey)
        return {
            "certid": self.id,
            "name": self.name,
            "uid": self.uid,
            "common_name": common_name(self.leaf),
            "dnsnames": self.names,
            "create_time": int(self.created.timestamp()),
            "not_before": int(self.leaf.not_valid_before_utc.timestamp()),
            "not_after": int(self.leaf.not_valid_after_utc.timestamp()),
            "orderid": "",
            "product_short_name": "",
            "product_type": "",
            "cert_type": "",
            "encrypt": "RSA" if is_rsa else "ECDSA",
            "encryptParameter": "",
            "enable": True,
            "child_order_id": "",
            "state": "",
            "auto_renew": False,
            "renewable": False,
        }


class Certificates:
    """The uploads of all accounts, and the calls on them.

    `quota`: the most uploads that an account may keep; None is no limit.
    `list_lag`: for how long the list omits a new upload, and still shows a deleted upload. The lag
    is known from the list of domains (§5.1).
    `name_limit`: the most characters in a name; a widespread client keeps to 23 (§4.1).
    `in_use`: called before a deletion; returns the code of a refusal, or None.
    """

    def __init__(self, in_use: Callable[[str, datetime], int | None]) -> None:
        self.rules = UploadRules()
        self.pager = Pager()
        self.quota: int | None = None
        self.list_lag = timedelta(0)
        self.name_limit = NAME_LIMIT
        self._in_use = in_use
        self._stored: dict[str, StoredCertificate] = {}
        self._deleted: list[tuple[datetime, StoredCertificate]] = []
        self._last_number = 0

    def stored(self) -> list[StoredCertificate]:
        """Return the uploads that still exist, oldest first."""
        return list(self._stored.values())

    def ever_stored(self) -> list[StoredCertificate]:
        """Return every upload, deleted uploads last."""
        return [*self._stored.values(), *(stored for _, stored in self._deleted)]

    def find(self, cert_id: str, uid: int) -> StoredCertificate:
        """Return an upload. Raises `Refused`: 400401 if unknown, 404908 for another owner."""
        stored = self._stored.get(cert_id)
        if stored is None:
            raise Refused(400401)
        if stored.uid != uid:
            raise Refused(404908)
        return stored

    def store(self, uid: int, name: str, ca: str, pri: str, now: datetime) -> StoredCertificate:
        """Keep an upload under a new id, without the checks of `rules`."""
        self._last_number += 1
        leaf = x509.load_pem_x509_certificates(ca.encode())[0]
        stored = StoredCertificate(
            secrets.token_hex(12), self._last_number, uid, name, ca, pri, leaf, now
        )
        self._stored[stored.id] = stored
        return stored

    def upload(self, call: SignedCall) -> Response:
        """`POST /sslcert`: the same PEM, uploaded again, gets another id (§4.1)."""
        fields = call.fields("UploadCertArgs")
        name, ca, pri = (fields.string(key) for key in ("name", "ca", "pri"))
        fields.string("common_name")  # must be a string; the value has no effect
        if len(name) > self.name_limit:
            raise Refused(400000, "certification name too long")
        self.rules.check(ca, pri, call.now)
        if self.quota is not None and len(self._of(call.uid)) >= self.quota:
            raise Refused(400500)
        return success(certID=self.store(call.uid, name, ca, pri, call.now).id)

    def listing(self, call: SignedCall) -> Response:
        """`GET /sslcert`: an empty page is null (§4.2)."""
        page, marker = self.pager.page(self._shown(call), call.query)
        return success(certs=[stored.to_wire() for stored in page] or None, marker=marker)

    def read(self, call: SignedCall) -> Response:
        """`GET /sslcert/<id>`: the object inside `cert`, with the chain and the key (§4.3)."""
        stored = self.find(call.name, call.uid)
        return success(
            cert={**stored.to_wire(), "ca": stored.fullchain_pem, "pri": stored.privkey_pem}
        )

    def delete(self, call: SignedCall) -> Response:
        """`DELETE /sslcert/<id>`: refused while a domain uses the certificate (§4.4)."""
        stored = self.find(call.name, call.uid)
        if code := self._in_use(stored.id, call.now):
            raise Refused(code)
        del self._stored[stored.id]
        self._deleted.append((call.now, stored))
        return success()

    def _shown(self, call: SignedCall) -> list[StoredCertificate]:
        """Return the uploads in the list: older than `list_lag`, or deleted within `list_lag`."""
        then = call.now - self.list_lag
        there = [stored for stored in self._of(call.uid) if stored.created <= then]
        gone = [stored for at, stored in self._deleted if at > then and stored.uid == call.uid]
        return sorted([*there, *gone], key=lambda stored: stored.number)

    def _of(self, uid: int) -> list[StoredCertificate]:
        return [stored for stored in self.stored() if stored.uid == uid]
