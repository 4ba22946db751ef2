"""Copies of certificates: in the store (CAS, docs/facts/aliyun.md §5), or kept in memory.

- `CasStore` lists, uploads and removes certificates, for `adapters.cdn.copies`.
- `Pairs` keeps certificate and key for bindings of an AccessKey without rights for CAS. Such a
  binding sends the pair, and leaves no copy in the store.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from datetime import datetime

from certferry.adapters.aliyun.account import CALLED
from certferry.adapters.aliyun.aliyun_client import AliyunClient
from certferry.adapters.aliyun.errors import NO_SUCH_CERTIFICATE, AliyunFailure
from certferry.adapters.cdn.copies import StoredCertificate
from certferry.adapters.cdn.failure import rejected
from certferry.core.certificates import lineage as lineages
from certferry.core.certificates.certificate import Certificate, CertificateBundle, short
from certferry.core.observed.observation import RemoteCertificate
from certferry.errors import DeployError, TargetInUse
from certferry.text import Text


class CasStore:
    """See `CertificateStore`. Names in the store are unique (§5.1)."""

    def __init__(
        self,
        client: AliyunClient,
        now: Callable[[], datetime],
        why_in_use: Callable[[StoredCertificate], DeployError | None],
    ) -> None:
        self._client = client
        self._now = now
        self._why_in_use = why_in_use
        self._listed: dict[str, tuple[StoredCertificate, datetime | None]] = {}
        #: Whether to list expired certificates too, which takes a request more (§5.2).
        self.with_expired = False

    def certificates(self) -> Iterable[StoredCertificate]:
        listed = self._client.list_certificates()
        if self.with_expired:
            listed += self._client.list_certificates("EXPIRED")
        self._listed = {
            str(record.certificate_id): (record.stored, record.is_over_at) for record in listed
        }
        return [record for record, _ in self._listed.values()]

    def upload(self, lineage: str, bundle: CertificateBundle) -> StoredCertificate:
        """Upload under the lineage's label, which is unique and short enough (§5.1)."""
        certificate = bundle.certificate
        label = lineages.label_of(lineage, certificate.fingerprint)
        pem, key = bundle.fullchain_pem, bundle.privkey_pem.reveal()
        return StoredCertificate.of(self._client.upload(label, pem, key), label, certificate)

    def remove(self, remote_id: str) -> bool:
        """Remove an expired copy that no domain uses. The failure's error is a `TargetInUse` for a
        copy that is in use, or has not expired: other products may use the copy, and no call says
        so (§5.3).
        """
        listed, over_at = self._listed.get(remote_id, (None, None))
        error = None if listed is None else self._why_in_use(listed)
        if error is None and (over_at is None or self._now() < over_at):
            sentence = Text(
                "certificate {id} has not expired, and {service} does not say which of its products"
                " use the certificate"
            )
            hint = Text("normal: a run after the certificate's end removes the copy")
            error = rejected(sentence, hint, TargetInUse, id=short(remote_id), service=CALLED)
        if error is not None:
            raise AliyunFailure(error)
        try:
            self._client.delete(remote_id)
        except AliyunFailure as failure:
            if failure.code not in NO_SUCH_CERTIFICATE:
                raise
            return False
        return True


PAIR = "pair-"


def pair_id(fingerprint: str) -> str:
    """Return the id of a certificate that is bound without a copy in the store."""
    return f"{PAIR}{fingerprint}"


def bound_pair(lineage: str, certificate: Certificate) -> RemoteCertificate:
    """Return the copy of a certificate bound as a pair: the copy lasts as long as the binding."""
    proof, ends = certificate.fingerprint, certificate.not_after
    label = lineages.label_of(lineage, proof)
    return RemoteCertificate(pair_id(proof), label, proof, ends, in_use_until=ends)


class Pairs:
    """Certificates with their keys, sent with each binding by an AccessKey without rights for CAS.

    The pairs are lost with the process. A binding in another process finds no pair, and asks for
    another upload, which gives the pair an id of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._kept: dict[str, tuple[str, CertificateBundle]] = {}

    def keep(self, lineage: str, bundle: CertificateBundle) -> str:
        """Keep a pair until the process ends, and return a new id."""
        proof = bundle.certificate.fingerprint
        with self._lock:
            self._kept[proof] = (lineages.label_of(lineage, proof), bundle)
            return f"{pair_id(proof)}.{next(self._numbers)}"

    def find(self, remote_id: str) -> tuple[str, CertificateBundle] | None:
        """Return the label and the pair of an id; `None` unless this process keeps the pair."""
        proof, _, _ = remote_id.removeprefix(PAIR).partition(".")
        return self._kept.get(proof)
