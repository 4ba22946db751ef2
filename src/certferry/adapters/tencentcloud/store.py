"""The account's store of certificates, for `adapters.cdn.copies` (docs/facts/tencentcloud.md §4).

The list has neither fingerprint nor serial. The id of a certificate that was in the store before
certferry's upload is noted in the account's memory, with the fingerprint that the upload proves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

from msgspec import Struct

from certferry.adapters.cdn.caches import Notes
from certferry.adapters.cdn.copies import StoredCertificate
from certferry.adapters.cdn.failure import rejected
from certferry.adapters.tencentcloud import errors
from certferry.adapters.tencentcloud.account import CALLED
from certferry.adapters.tencentcloud.cdn import shown_id
from certferry.adapters.tencentcloud.edgeone import kind_of
from certferry.adapters.tencentcloud.errors import TencentFailure
from certferry.adapters.tencentcloud.tencent_client import (
    SSL,
    Call,
    Listing,
    TencentClient,
)
from certferry.core.certificates.certificate import CertificateBundle, short
from certferry.core.certificates.lineage import label_of
from certferry.errors import TargetUnavailable
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.text import Text

BEIJING = timezone(timedelta(hours=8))  # the zone of listed moments (§4.2)
PAGE = 1000
LOOKS = (1.0, 1.0, 2.0, 4.0, 8.0)  # seconds before each question whether a removal has ended
_DONE, _FAILED, _NO_ROLE, _IN_USE, _TOO_LONG = 1, 2, 3, 4, 5  # (§4.3)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_EARLIER = "fingerprints of earlier certificates"

_CERTIFICATES = Listing(
    Call(SSL, "DescribeCertificates", Text("the list of certificates")),
    "Certificates",
    "TotalCount",
    PAGE,
)


class CertificateRecord(Struct, frozen=True, rename="pascal"):
    """A certificate, as listed."""

    certificate_id: str
    alias: str | None = None
    domain: str | None = None
    subject_alt_name: tuple[str, ...] | None = None
    cert_begin_time: str | None = None
    cert_end_time: str | None = None
    insert_time: str | None = None
    encrypt_algorithm: str | None = None

    def stored(self, fingerprint: str | None) -> StoredCertificate | None:
        """Return the certificate for `Copies`; `None` for an id of another form."""
        if (remote_id := shown_id(self.certificate_id)) is None:
            return None
        names = self.subject_alt_name or ((self.domain,) if self.domain else None)
        return StoredCertificate(
            remote_id,
            self.alias or "",
            names,
            _seconds(self.cert_begin_time),
            _seconds(self.cert_end_time),
            _seconds(self.insert_time),
            fingerprint,
        )


def _seconds(written: str | None) -> int | None:
    """Read a moment of GMT+8; return `None` for anything else."""
    if written is None or not _MOMENT.fullmatch(written):
        return None
    try:
        return int(datetime.fromisoformat(written).replace(tzinfo=BEIJING).timestamp())
    except (ValueError, OverflowError):
        return None


class _Uploaded(Struct, frozen=True, rename="pascal"):
    certificate_id: str | None = None
    repeat_cert_id: str | None = None


class _Removed(Struct, frozen=True, rename="pascal"):
    delete_result: bool | None = None
    task_id: str | None = None


class _Task(Struct, frozen=True, rename="pascal"):
    task_id: str | None = None
    status: int | None = None


class _Tasks(Struct, frozen=True, rename="pascal"):
    delete_task_result: tuple[_Task, ...] | None = None


class SslStore:
    """See `CertificateStore`. Safe to share between threads."""

    def __init__(
        self,
        client: TencentClient,
        memory: AccountMemory,
        pause: Pause,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._earlier = Notes(memory, dict[str, str])
        self._pause = pause
        self._now = now
        # The certificates of the last list, and the algorithms of listed and uploaded keys, by id.
        self._listed: dict[str, StoredCertificate] = {}
        self._algorithms: dict[str, str] = {}

    def certificates(self) -> Iterator[StoredCertificate]:
        records = self._client.pages(
            _CERTIFICATES, CertificateRecord, lambda r: r.certificate_id, CertificateType="SVR"
        )
        earlier = self._earlier.read(_EARLIER) or {}
        listed = [record.stored(earlier.get(record.certificate_id)) for record in records]
        self._listed = {record.remote_id: record for record in listed if record is not None}
        algorithms = ((r.certificate_id, r.encrypt_algorithm) for r in records)
        self._algorithms |= {remote_id: word for remote_id, word in algorithms if word}
        return iter(self._listed.values())

    def kind_of(self, remote_id: str) -> str | None:
        """See `edgeone.KindOf`."""
        return kind_of(self._algorithms.get(remote_id, ""))

    def upload(self, lineage: str, bundle: CertificateBundle) -> StoredCertificate:
        """Upload under the lineage's label. If the store has the certificate already, return the
        earlier copy without a label: the earlier copy may be another owner's (§4.1).
        """
        certificate = bundle.certificate
        label = label_of(lineage, certificate.fingerprint)
        what = Text("the upload of {label}", label=label)
        uploaded = self._client.call(
            Call(SSL, "UploadCertificate", what, is_write=True),
            _Uploaded,
            CertificatePublicKey=bundle.fullchain_pem,
            CertificatePrivateKey=bundle.privkey_pem.reveal(),
            Alias=label,
            Repeatable=False,
        )
        repeated = shown_id(uploaded.repeat_cert_id)
        remote_id = repeated or shown_id(uploaded.certificate_id)
        if remote_id is None:
            raise TencentFailure.unreadable(what, "an id is missing", maybe_done=True)
        self._algorithms.setdefault(remote_id, certificate.key_type)
        is_earlier = repeated is not None or remote_id in self._listed
        if is_earlier:
            self._note_earlier(remote_id, certificate.fingerprint)
        return StoredCertificate.of(remote_id, "" if is_earlier else label, certificate)

    def remove(self, remote_id: str) -> bool:
        """Remove a certificate that nothing uses, by Tencent Cloud's own look (§4.3). If Tencent
        Cloud may not look, remove only an expired certificate.
        """
        what = Text("the removal of certificate {id}", id=short(remote_id))
        call = Call(SSL, "DeleteCertificate", what, is_write=True)
        params = {"CertificateId": remote_id}
        try:
            removed = self._client.call(call, _Removed, **params, IsCheckResource=True)
            if removed.task_id:
                self._must_end(removed.task_id, remote_id, what)
        except TencentFailure as failure:
            if failure.code == errors.NO_SUCH_CERTIFICATE:
                return False
            if failure.code != errors.NO_ROLE or not self._has_expired(remote_id):
                raise
            self._client.call(call, _Removed, **params, IsCheckResource=False)
        return True

    def _must_end(self, task_id: str, remote_id: str, what: Text) -> None:
        """Wait until a removal has ended. Raises `TencentFailure` unless it succeeded."""
        call = Call(SSL, "DescribeDeleteCertificatesTaskResult", what)
        for seconds in LOOKS:
            self._pause(seconds)
            tasks = self._client.call(call, _Tasks, TaskIds=[task_id]).delete_task_result or ()
            status = next((task.status for task in tasks if task.task_id == task_id), None)
            if status == _DONE:
                return
            if status == _NO_ROLE:
                raise errors.refused_removal(remote_id, errors.NO_ROLE)
            if status == _IN_USE:
                raise errors.refused_removal(remote_id, errors.IN_USE)
            if status in {_FAILED, _TOO_LONG}:
                break
        sentence = Text("{service} has not removed certificate {id} yet")
        hint = Text("a later run looks again")
        values = {"service": CALLED, "id": short(remote_id)}
        error = rejected(sentence, hint, TargetUnavailable, **values)
        raise TencentFailure(error, is_passing=True)

    def _has_expired(self, remote_id: str) -> bool:
        record = self._listed.get(remote_id)
        return record is not None and record.ends is not None and record.ends < self._now()

    def _note_earlier(self, remote_id: str, fingerprint: str) -> None:
        """Note the fingerprint of an earlier copy; forget copies that are no longer listed."""
        noted = self._earlier.read(_EARLIER) or {}
        kept = {id_: proof for id_, proof in noted.items() if id_ in self._listed}
        self._earlier.write(_EARLIER, {**kept, remote_id: fingerprint})
