"""The certificates of a Qiniu account: which are ours, how one gets there, how one goes
(docs/facts/qiniu.md §4).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import msgspec

from certferry.adapters.qiniu.account import Certificates, Notes, Settler
from certferry.adapters.qiniu.client import QiniuClient
from certferry.adapters.qiniu.errors import (
    ACCOUNT_FULL,
    NO_SUCH_CERTIFICATE,
    QiniuFailure,
    attempt,
    rejected,
)
from certferry.adapters.qiniu.records import CertificateRecord, UploadBody
from certferry.core.certificates.certificate import Certificate, CertificateBundle, short
from certferry.core.certificates.lineage import (
    label_of,
    labels_of,
    owner_of,
    owners,
    prefixes,
    short_label_of,
)
from certferry.core.observed.observation import RemoteCertificate
from certferry.core.observed.records import TRIED_AGAIN, OtherCertificate, Quota
from certferry.ports.state import AccountMemory
from certferry.text import Text

log = logging.getLogger(__name__)

_QUOTA = "most certificates"
_NAMES, _SHORT = "names of certificates", "short"
"""A note of the account, and what it says where the usual name of a certificate is too long."""
_TOO_LONG = "name too long"  # as in "certification name too long", whose code is not known (§4.1)


class QuotaNote(msgspec.Struct, frozen=True):
    """What the account's memory keeps: how many there were when one more was refused."""

    held: int
    at: datetime


class Copies:
    """Copies of certificates at one account, and how many it may hold. Raises `QiniuFailure` and
    `DeployError`. `now` is the wall clock.
    """

    def __init__(
        self,
        client: QiniuClient,
        certificates: Certificates,
        settler: Settler,
        memory: AccountMemory,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._certificates = certificates
        self._settler = settler
        self._memory = memory
        self._quota = Notes(memory, QuotaNote)
        self._now = now
        self._uploading = threading.Lock()

    def of(self, lineage: str, known: Sequence[Certificate]) -> Iterator[RemoteCertificate]:
        """Find the copies of a lineage's certificates, by mark, names and dates."""
        for certificate in known:
            for record in _copies(lineage, certificate, self._certificates.all()):
                label, proof = record.name or "", certificate.fingerprint
                yield RemoteCertificate(record.certid, label, proof, certificate.not_after)

    def others(self, ours: Sequence[RemoteCertificate]) -> Iterator[OtherCertificate]:
        """Return every certificate of the account but ours."""
        ids = {remote.remote_id for remote in ours}
        listed = self._certificates.all().values()
        return (_other(record) for record in listed if record.certid not in ids)

    def unremembered(
        self, lineage: str, known: Sequence[Certificate]
    ) -> Iterator[OtherCertificate]:
        """Return what carries the lineage's mark, and is none of its known certificates; nothing
        where none is known, since everything may be newer than that.
        """
        if not known:
            return
        labels = {label for one in known for label in labels_of(lineage, one.fingerprint)}
        begins, ours = prefixes(lineage), owners(lineage)
        for record in self._certificates.all().values():
            name = record.name or ""
            if name.startswith(begins) and name not in labels and owner_of(name) in ours:
                yield _other(record)

    def quota(self) -> Quota | None:
        """Return how full the account is, `None` where it refused nothing in the last day."""
        refused = self._quota.read(_QUOTA)
        if refused is None or not timedelta(0) <= self._now() - refused.at < TRIED_AGAIN:
            return None
        held = len(self._certificates.all())
        return Quota(held, refused.held, refused.at + TRIED_AGAIN)

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Adopt the copy that is there, or upload one. One upload at a time for the account."""

        def find(listed: Mapping[str, CertificateRecord]) -> str | None:
            copies = _copies(lineage, bundle.certificate, listed)
            return copies[0].certid if copies else None

        with self._uploading:
            found = None
            try:
                found = find(self._certificates.for_uploads())
            except QiniuFailure as unread:
                # A list in an unknown shape would hold up every upload for ever; one that does not
                # come holds the run up, since there may be a copy in it.
                if unread.is_common or unread.is_passing:
                    raise
            return found or self._settler.until_settled(
                lambda: self._upload(lineage, bundle),
                lambda: find(self._certificates.all(anew=True)),
            )

    def forget(self, remote_id: str) -> None:
        """Have the next upload look again for what Qiniu says it does not have."""
        self._certificates.forget_own(remote_id)
        self._certificates.forget()

    def retire(self, copy: CertificateRecord, label: str, *, unmanaged: bool) -> bool:
        """Remove a copy whose name is the label: a mark of ours, unless it is `unmanaged`."""
        if (copy.name or "") != label or not (unmanaged or owner_of(label) is not None):
            sentence = Text("certificate {id} at Qiniu does not carry our mark {label}")
            hint = Text("certferry removes only what it uploaded; look at it in Qiniu's console")
            raise rejected(sentence, hint, id=short(copy.certid), label=label)
        self._certificates.forget_own(copy.certid)
        return self._settler.until_settled(
            lambda: self._remove(copy.certid),
            lambda: copy.certid not in self._certificates.all(anew=True) or None,
        )

    def _upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Upload under the usual name, or under a short one where that was once too long."""
        fingerprint = bundle.certificate.fingerprint
        if self._memory.note(_NAMES) == _SHORT:
            return self._upload_as(short_label_of(lineage, fingerprint), bundle)
        try:
            return self._upload_as(label_of(lineage, fingerprint), bundle)
        except QiniuFailure as failure:
            if failure.maybe_done or _TOO_LONG not in failure.words.lower():
                raise
        cert_id = self._upload_as(short_label_of(lineage, fingerprint), bundle)
        self._memory.update(_NAMES, lambda _: _SHORT)
        return cert_id

    def _upload_as(self, name: str, bundle: CertificateBundle) -> str:
        certificate = bundle.certificate
        upload = UploadBody(
            name=name,
            common_name=certificate.common_name or certificate.names[0],
            ca=bundle.fullchain_pem,
            pri=bundle.privkey_pem.reveal(),
        )
        try:
            cert_id = self._client.upload_certificate(upload)
        except QiniuFailure as failure:
            if failure.code == ACCOUNT_FULL:
                self._note_full()
            raise
        self._quota.remove(_QUOTA)
        moments = (int(certificate.not_before.timestamp()), int(certificate.not_after.timestamp()))
        record = CertificateRecord(cert_id, name, certificate.names, *moments)
        self._certificates.note_own(cert_id, record)
        return cert_id

    def _note_full(self) -> None:
        """Remember that an upload was refused. How many there are now is read anew."""
        listed = attempt(partial(self._certificates.all, anew=True))
        if isinstance(listed, QiniuFailure):
            log.info("how many certificates there are cannot be seen: %s", listed)
        else:
            self._quota.write(_QUOTA, QuotaNote(len(listed), self._now()))

    def _remove(self, remote_id: str) -> bool:
        try:
            self._client.delete_certificate(remote_id)
        except QiniuFailure as failure:
            if failure.code not in NO_SUCH_CERTIFICATE:
                raise
            return False
        self._certificates.note_own(remote_id, None)
        return True


def _copies(
    lineage: str, certificate: Certificate, listed: Mapping[str, CertificateRecord]
) -> list[CertificateRecord]:
    """List the copies of a certificate, oldest first, so that every run adopts the same one."""
    labels = labels_of(lineage, certificate.fingerprint)
    found = (one for one in listed.values() if one.name in labels and _agrees(one, certificate))
    return sorted(found, key=lambda record: record.age_order)


def _agrees(record: CertificateRecord, certificate: Certificate) -> bool:
    """Return whether the list's entry for a copy, beside its mark, fits the certificate."""
    names = {name.lower() for name in record.dnsnames or certificate.names}
    return (
        names == set(certificate.names)
        and record.not_before in {None, int(certificate.not_before.timestamp())}
        and record.not_after in {None, int(certificate.not_after.timestamp())}
    )


def _other(record: CertificateRecord) -> OtherCertificate:
    return OtherCertificate(record.certid, record.name or "", record.ends, not_before=record.begins)
