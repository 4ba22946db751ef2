"""Tencent Cloud's store of certificates, the service `ssl` (docs/facts/tencentcloud.md §4)."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from certferry_sandbox.tencentcloud.wire import Body, Params, Refused

BEIJING = timezone(timedelta(hours=8))  # the zone of the moments in answers (§4.2)
EVER = datetime.min.replace(tzinfo=UTC)  # before every other moment
MOST_LISTED = 1000  # certificates on a page; a larger limit counts as the limit (§4.2)


def written(moment: datetime) -> str:
    """Return a moment as written in answers, without a zone."""
    return f"{moment.astimezone(BEIJING):%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True)
class StoredCertificate:
    """An upload. `owner` is the SecretId of the account's key."""

    id: str
    owner: str
    alias: str
    fullchain_pem: str
    privkey_pem: str = field(repr=False)
    leaf: x509.Certificate = field(repr=False)
    created: datetime

    @property
    def names(self) -> list[str]:
        """The DNS names of the leaf."""
        sans = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return sans.value.get_values_for_type(x509.DNSName)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the leaf in DER, as lowercase hex."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()

    @property
    def algorithm(self) -> str:
        """The kind of the key."""
        key = self.leaf.public_key()
        return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else "ECC 256"

    def covers(self, host: str) -> bool:
        """Whether the certificate has the host's name. A wildcard covers a single label."""
        return host in self.names or f"*.{host.partition('.')[2]}" in self.names

    def to_wire(self) -> dict[str, Any]:
        """Return the object of the list (§4.2)."""
        return {
            "CertificateId": self.id,
            "Alias": self.alias,
            "Domain": self.names[0],
            "SubjectAltName": self.names,
            "CertSANs": self.names,
            "CertBeginTime": written(self.leaf.not_valid_before_utc),
            "CertEndTime": written(self.leaf.not_valid_after_utc),
            "InsertTime": written(self.created),
            "EncryptAlgorithm": self.algorithm,
            "From": "upload",
            "CertificateType": "SVR",
            "Status": 1,
            "PackageType": None,
            "BoundResource": [],
            "Deployable": True,
        }


class Timeline:
    """The certificates of a host, each with the moment from which the certificate is in force."""

    def __init__(self, certificate: StoredCertificate | None) -> None:
        self._entries = [(EVER, certificate)]

    def note(self, moment: datetime, certificate: StoredCertificate | None) -> None:
        """Put a certificate in force from `moment` on; None is no certificate."""
        self._entries.append((moment, certificate))

    def at(self, moment: datetime) -> StoredCertificate | None:
        """Return the certificate in force at `moment`."""
        return [certificate for since, certificate in self._entries if since <= moment][-1]


class Certificates:
    """The uploads of all accounts, and the actions on them.

    Switches, which may change at any time:
    `quota`: the most uploads of an account; None is no limit.
    `repeated_in`: the fields with the id of an earlier upload (§4.1); unknown, so tests use
    each.
    `hides_algorithm`: the list omits the kind of the key.
    `role_is_granted`: whether the account lets the service look for users of a certificate (§4.3).
    `looks`: how many times a removal is shown as in progress.
    `elsewhere`: ids of certificates that other products use.
    `in_use`: asked before a checked removal.
    """

    def __init__(self, in_use: Callable[[str], bool]) -> None:
        self.quota: int | None = None
        self.repeated_in: Literal["both", "CertificateId", "RepeatCertId"] = "both"
        self.hides_algorithm = False
        self.role_is_granted = True
        self.looks = 1
        self.page_limit = MOST_LISTED
        self.elsewhere: set[str] = set()
        self._in_use = in_use
        self._stored: dict[str, StoredCertificate] = {}
        self._tasks: dict[str, list[Any]] = {}
        self._numbers = itertools.count(1)

    def stored(self, owner: str | None = None) -> list[StoredCertificate]:
        """Return the uploads that still exist, oldest first, of one account or of all."""
        return [one for one in self._stored.values() if owner in {None, one.owner}]

    def find(self, cert_id: str, owner: str) -> StoredCertificate | None:
        """Return an account's upload; `None` if unknown."""
        stored = self._stored.get(cert_id)
        return stored if stored is not None and stored.owner == owner else None

    def store(
        self, owner: str, alias: str, fullchain_pem: str, privkey_pem: str, now: datetime
    ) -> StoredCertificate:
        """Keep an upload under a new id, without any check."""
        leaf = x509.load_pem_x509_certificates(fullchain_pem.encode())[0]
        cert_id = secrets.token_urlsafe(6).replace("-", "x").replace("_", "y")
        stored = StoredCertificate(cert_id, owner, alias, fullchain_pem, privkey_pem, leaf, now)
        self._stored[stored.id] = stored
        return stored

    def upload(self, owner: str, params: Params, now: datetime) -> Body:
        """UploadCertificate: keep a pair, or return the id of the same pair (§4.1)."""
        chain, key = params.text("CertificatePublicKey"), params.text("CertificatePrivateKey", "")
        alias, kind = params.text("Alias", ""), params.text("CertificateType", "SVR")
        repeatable = params.boolean("Repeatable", default=True)
        params.done()
        if kind != "SVR":
            raise Refused("InvalidParameter", "Only server certificates are known here.")
        leaf = _checked(chain, key, now)
        fingerprint = leaf.fingerprint(hashes.SHA256()).hex()
        same = [one.id for one in self.stored(owner) if one.fingerprint == fingerprint]
        if same and not repeatable:
            both = {"CertificateId": same[0], "RepeatCertId": same[0]}
            hidden = {"CertificateId", "RepeatCertId"} - {self.repeated_in}
            return both if self.repeated_in == "both" else both | dict.fromkeys(hidden, "")
        if self.quota is not None and len(self.stored(owner)) >= self.quota:
            raise Refused("InvalidParameter.CertificatesNumberExceeded", "Too many certificates.")
        return {
            "CertificateId": self.store(owner, alias, chain, key, now).id,
            "RepeatCertId": "",
        }

    def listing(self, owner: str, params: Params) -> Body:
        """DescribeCertificates: return a page, newest first."""
        offset, limit = params.number("Offset", 0), params.number("Limit", 10)
        kind = params.text("CertificateType", "SVR")
        params.done()
        if offset < 0 or limit <= 0 or kind not in {"SVR", "CA"}:
            raise Refused("InvalidParameter", "The parameters are wrong.")
        newest_first = self.stored(owner)[::-1] if kind == "SVR" else []
        page = newest_first[offset : offset + min(limit, self.page_limit)]
        shown = [one.to_wire() for one in page]
        if self.hides_algorithm:
            for one in shown:
                del one["EncryptAlgorithm"]
        return {"TotalCount": len(newest_first), "Certificates": shown}

    def delete(self, owner: str, params: Params) -> Body:
        """DeleteCertificate: at once and without a look for users, or as a task with a look."""
        cert_id = params.text("CertificateId")
        is_checked = params.boolean("IsCheckResource", default=False)
        params.done()
        if self.find(cert_id, owner) is None:
            raise Refused("FailedOperation.CertificateNotFound", "There is no such certificate.")
        if not is_checked:
            del self._stored[cert_id]
            return {"DeleteResult": True, "TaskId": ""}
        status = 1
        if not self.role_is_granted:
            status = 3
        elif cert_id in self.elsewhere or self._in_use(cert_id):
            status = 4
        else:
            del self._stored[cert_id]
        task_id = str(next(self._numbers))
        self._tasks[task_id] = [owner, cert_id, status, self.looks]
        return {"DeleteResult": True, "TaskId": task_id}

    def deletions(self, owner: str, params: Params) -> Body:
        """DescribeDeleteCertificatesTaskResult: return how removals ended (§4.3)."""
        task_ids = params.texts("TaskIds")
        params.done()
        results = []
        for task_id in task_ids:
            task = self._tasks.get(task_id)
            if task is None or task[0] != owner:
                raise Refused("InvalidParameter", "There is no such task.")
            _, cert_id, status, looks = task
            task[3] -= 1
            shown = 0 if looks > 0 else status
            results.append({"TaskId": task_id, "CertId": cert_id, "Status": shown, "Error": ""})
        return {"DeleteTaskResult": results}


def _checked(chain: str, key: str, now: datetime) -> x509.Certificate:
    """Return the leaf of a pair. Raises `Refused` for the first broken rule."""
    try:
        leaf = x509.load_pem_x509_certificates(chain.encode())[0]
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise Refused("FailedOperation.CertificateParseError", "It cannot be read.") from problem
    if private.public_key() != leaf.public_key():
        raise Refused("FailedOperation.CertificateMismatch", "Key and certificate differ.")
    if leaf.not_valid_after_utc <= now:
        raise Refused("FailedOperation.CertificateInvalid", "It has expired.")
    return leaf
