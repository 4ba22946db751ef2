"""Qiniu's certificate service: `/sslcert` (docs/facts/qiniu.md §4)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from certferry_sandbox.httpd import Response
from certferry_sandbox.qiniu_answers import Refused, success
from certferry_sandbox.qiniu_paging import Pager
from certferry_sandbox.qiniu_signing import Visit
from certferry_sandbox.qiniu_upload import UploadRules, common_name, dns_names

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

    def upload(self, visit: Visit) -> Response:
        """`POST /sslcert`: the same PEM twice gets two ids (§4.1)."""
        fields = visit.fields("UploadCertArgs")
        name, ca, pri = (fields.string(key) for key in ("name", "ca", "pri"))
        fields.string("common_name")  # must be a string, and is not looked at otherwise
        if len(name) > self.name_limit:
            raise Refused(400000, "certification name too long")
        self.rules.check(ca, pri, visit.now)
        if self.quota is not None and len(self._of(visit.uid)) >= self.quota:
            raise Refused(400500)
        return success(certID=self.store(visit.uid, name, ca, pri, visit.now).id)

    def listing(self, visit: Visit) -> Response:
        """`GET /sslcert`: null in place of an empty page (§4.2)."""
        page, marker = self.pager.page(self._shown(visit), visit.query)
        return success(certs=[stored.to_wire() for stored in page] or None, marker=marker)

    def read(self, visit: Visit) -> Response:
        """`GET /sslcert/<id>`: nested, with chain and key (§4.3)."""
        stored = self.find(visit.name, visit.uid)
        return success(
            cert={**stored.to_wire(), "ca": stored.fullchain_pem, "pri": stored.privkey_pem}
        )

    def delete(self, visit: Visit) -> Response:
        """`DELETE /sslcert/<id>`: refused while a domain uses it (§4.4)."""
        stored = self.find(visit.name, visit.uid)
        if code := self._in_use(stored.id, visit.now):
            raise Refused(code)
        del self._stored[stored.id]
        self._deleted.append((visit.now, stored))
        return success()

    def _shown(self, visit: Visit) -> list[StoredCertificate]:
        """What the list shows: what there was `list_lag` ago."""
        then = visit.now - self.list_lag
        there = [stored for stored in self._of(visit.uid) if stored.created <= then]
        gone = [stored for at, stored in self._deleted if at > then and stored.uid == visit.uid]
        return sorted([*there, *gone], key=lambda stored: stored.number)

    def _of(self, uid: int) -> list[StoredCertificate]:
        return [stored for stored in self.stored() if stored.uid == uid]
