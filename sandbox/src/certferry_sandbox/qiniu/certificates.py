"""Qiniu's certificate service, `/sslcert` (docs/facts/qiniu.md §4), and what it checks before it
takes a certificate: PEM, key, validity, chain, common name.

The order of the checks and the codes are those of §11.2.
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
    """What an upload must satisfy. Every switch may be turned at any time.

    `min_remaining`: life that must be left; 30 days is what users report (§4.6).
    `refuse_sec1_keys`: refuse EC keys labelled `EC PRIVATE KEY`, as a support ticket tells (§4.6).
    `refuse_empty_common_name`: whether Qiniu does is unknown, so the strict answer is yes (§4.6).
    `mismatch_code`: of a key that is not the certificate's; a test of 2026 saw 400324 (§4.5).
    `names_days`: too little life is refused in the console's words, without an own code (§4.6).
    """

    min_remaining: timedelta = timedelta(days=30)
    refuse_sec1_keys: bool = True
    refuse_empty_common_name: bool = True
    mismatch_code: Literal[400324, 400328] = 400328
    names_days: bool = False
    roots: list[x509.Certificate] = field(default_factory=list)

    def check(self, ca: str, pri: str, now: datetime) -> x509.Certificate:
        """Go through the list and return the leaf. Raises Refused with the code that applies."""
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
        """Each certificate is issued by the next, the last by a trusted root or one itself.

        A parent that is not where it should be is 400338; a parent that is there but does not
        lead to a trusted root is 400323 (§4.6: either has been reported).
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
    """The subject's common name, or ""."""
    return next(
        (str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)), ""
    )


def dns_names(leaf: x509.Certificate) -> list[str]:
    """The DNS names of the SAN, in their order; none without one."""
    try:
        sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return sans.value.get_values_for_type(x509.DNSName)


def covers(names: Iterable[str], domain: str) -> bool:
    """Whether a certificate with these names serves a CDN domain (§5.3).

    A wildcard reaches one label deep; the wildcard domain `.x` is served only by `*.x` itself.
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
        # TypeError is what an encrypted key gives without its passphrase.
        raise Refused(400327) from problem
    if not isinstance(key, Key):
        raise Refused(400327)
    return key


def _issued(issuer: x509.Certificate, child: x509.Certificate) -> bool:
    """Whether the issuer's name and key are those that signed the child."""
    try:
        child.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_issue(issuer: x509.Certificate, now: datetime) -> bool:
    """Whether it is a CA certificate in its validity (RFC 5280 §6.1.4)."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return constraints.value.ca and (
        issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc
    )


NAME_LIMIT = 128  # characters; that there is a limit is known, where it lies is not (§4.1)


@dataclass(frozen=True)
class StoredCertificate:
    """One upload. `number` is its place in the list; `fullchain_pem` is what was sent as `ca`."""

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
        """SHA-256 over the DER leaf, lowercase hex."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()

    def to_wire(self) -> dict[str, Any]:
        """The object of the list: everything but chain and key (§4.3)."""
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

    `quota`: how many an account may keep (None: as many as it likes). `list_lag`: for how long
    the list does not show an upload, and still shows a deleted one (§5.1 of domains). `name_limit`:
    characters of a name; a widespread client keeps to 23 (§4.1). `in_use` is
    asked before a deletion and gives the code to refuse it with, or None.
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
        """Every upload that has not been deleted, oldest first."""
        return list(self._stored.values())

    def ever_stored(self) -> list[StoredCertificate]:
        """Every upload, also those that have been deleted since."""
        return [*self._stored.values(), *(stored for _, stored in self._deleted)]

    def find(self, cert_id: str, uid: int) -> StoredCertificate:
        """The account's upload of this id. Raises Refused 400401, or 404908 if another's."""
        stored = self._stored.get(cert_id)
        if stored is None:
            raise Refused(400401)
        if stored.uid != uid:
            raise Refused(404908)
        return stored

    def store(self, uid: int, name: str, ca: str, pri: str, now: datetime) -> StoredCertificate:
        """Keep an upload under a new id, without looking at it."""
        self._last_number += 1
        leaf = x509.load_pem_x509_certificates(ca.encode())[0]
        stored = StoredCertificate(
            secrets.token_hex(12), self._last_number, uid, name, ca, pri, leaf, now
        )
        self._stored[stored.id] = stored
        return stored

    def upload(self, call: SignedCall) -> Response:
        """`POST /sslcert`: the same PEM twice gets two ids (§4.1)."""
        fields = call.fields("UploadCertArgs")
        name, ca, pri = (fields.string(key) for key in ("name", "ca", "pri"))
        fields.string("common_name")  # must be a string, and is not looked at otherwise
        if len(name) > self.name_limit:
            raise Refused(400000, "certification name too long")
        self.rules.check(ca, pri, call.now)
        if self.quota is not None and len(self._of(call.uid)) >= self.quota:
            raise Refused(400500)
        return success(certID=self.store(call.uid, name, ca, pri, call.now).id)

    def listing(self, call: SignedCall) -> Response:
        """`GET /sslcert`: null in place of an empty page (§4.2)."""
        page, marker = self.pager.page(self._shown(call), call.query)
        return success(certs=[stored.to_wire() for stored in page] or None, marker=marker)

    def read(self, call: SignedCall) -> Response:
        """`GET /sslcert/<id>`: nested, with chain and key (§4.3)."""
        stored = self.find(call.name, call.uid)
        return success(
            cert={**stored.to_wire(), "ca": stored.fullchain_pem, "pri": stored.privkey_pem}
        )

    def delete(self, call: SignedCall) -> Response:
        """`DELETE /sslcert/<id>`: refused while a domain uses it (§4.4)."""
        stored = self.find(call.name, call.uid)
        if code := self._in_use(stored.id, call.now):
            raise Refused(code)
        del self._stored[stored.id]
        self._deleted.append((call.now, stored))
        return success()

    def _shown(self, call: SignedCall) -> list[StoredCertificate]:
        """What the list shows: what there was `list_lag` ago."""
        then = call.now - self.list_lag
        there = [stored for stored in self._of(call.uid) if stored.created <= then]
        gone = [stored for at, stored in self._deleted if at > then and stored.uid == call.uid]
        return sorted([*there, *gone], key=lambda stored: stored.number)

    def _of(self, uid: int) -> list[StoredCertificate]:
        return [stored for stored in self.stored() if stored.uid == uid]
