"""CDN and DCDN domains at Qiniu.

API: the Qiniu fact sheet, from https://developer.qiniu.com/fusion.
Permissions: a key pair that may read and change CDN domains and SSL certificates. Reading Kodo
buckets as well lets certferry say that a domain is a bucket's source domain.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from certferry.adapters.clients.qiniu import Hosts, QiniuClient
from certferry.adapters.clients.qiniu_account import QiniuAccount
from certferry.adapters.clients.qiniu_codes import (
    NO_SUCH_CERTIFICATE,
    UNCHANGED,
)
from certferry.adapters.clients.qiniu_domains import is_in_force, must_be_at_rest, wanted_conf
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_records import (
    CertificateRecord,
    DomainRecord,
    HttpsConf,
    Upload,
)
from certferry.adapters.clients.qiniu_signing import Keys
from certferry.adapters.clients.qiniu_survey import Survey
from certferry.core.certificate import Certificate, CertificateBundle
from certferry.core.desired import HttpsWish, Kind
from certferry.core.lineage import MARK, mark
from certferry.core.observed import ObservedTarget, RemoteCertificate, TargetRules
from certferry.core.secret import Secret
from certferry.errors import DeployError, TargetRejected
from certferry.ports.progress import Pause
from certferry.ports.target import DeployTarget, Look
from certferry.text import Text

MIN_REMAINING_DAYS = 30  # what users report; Qiniu gives no number (Qiniu fact sheet §4.1)

ATTEMPTS = 2  # at a write whose answer does not come
# Seconds before each look for a write without an answer: it may still be on its way.
LOOKS = (0.5, 1.5, 4.0)

_A_MARK = re.compile(rf"{MARK}-[a-z0-9.-]*-[0-9a-f]{{20}}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """An account at Qiniu. The addresses are others only in tests and for mirrors."""

    access_key: Secret
    secret_key: Secret
    api: str = "https://api.qiniu.com"
    fusion: str = "https://fusion.qiniuapi.com"
    uc: str = "https://uc.qiniuapi.com"
    min_remaining_days: int = MIN_REMAINING_DAYS


def connect(settings: Settings, *, pause: Pause, now: Callable[[], datetime]) -> DeployTarget:
    """Give the target for an account: one for all deployments to it, since it holds their pace."""
    hosts = Hosts(*(url.rstrip("/") for url in (settings.api, settings.fusion, settings.uc)))
    keys = Keys(settings.access_key, settings.secret_key)
    client = QiniuClient(keys, hosts, pause=pause, now=now)
    return Qiniu(client, timedelta(days=settings.min_remaining_days), pause=pause)


class Qiniu:
    """The CDN and DCDN domains of one account. Safe to share between threads.

    Writes whose answer is lost are looked for before they are made again.
    """

    def __init__(
        self,
        client: QiniuClient,
        min_remaining: timedelta,
        *,
        pause: Pause,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._rules = TargetRules(min_remaining)
        self._pause = pause
        self._account = QiniuAccount(client, clock)
        self._survey = Survey(client, self._account)
        self._uploading = threading.Lock()

    def observe(self, look: Look) -> ObservedTarget:
        """Read the domains, and find our copies by mark, names and dates."""
        _must_be_served_here(look.kind)
        with _door():
            named = look.domains
            found = self._survey.covered(look.names) if named is None else self._survey.named(named)
            return ObservedTarget(
                rules=self._rules, domains=tuple(found), remotes=tuple(self._remotes(look))
            )

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Adopt the copy that is there, or upload one. One upload at a time for the account."""
        certificate = bundle.certificate
        upload = Upload(
            name=mark(lineage, certificate.fingerprint),
            common_name=certificate.common_name or certificate.names[0],
            ca=bundle.fullchain_pem,
            pri=bundle.privkey_pem.reveal(),
        )
        with _door(), self._uploading:
            return self._find_upload(lineage, certificate) or self._until_settled(
                lambda: self._upload(upload, certificate),
                lambda: self._find_upload(lineage, certificate, anew=True),
            )

    def bind(self, domain: str, kind: Kind, remote_id: str, https: HttpsWish) -> None:
        """Switch HTTPS on, or change it, unless the domain is as wished already."""
        _must_be_served_here(kind)
        with _door():
            record = self._survey.read(domain)
            must_be_at_rest(domain, record)
            conf = wanted_conf(record, remote_id, https)
            if not is_in_force(record, conf):
                self._until_settled(
                    lambda: self._change(record, conf), lambda: self._is_taken(record, conf)
                )

    def retire(self, remote_id: str, label: str) -> bool:
        """Remove a copy whose name is the label, which must be a mark of ours."""
        with _door():
            record = self._certificate(remote_id)
            if record is None:
                return False
            if not _A_MARK.fullmatch(label) or record.name != label:
                raise _not_ours(remote_id, label)
            self._account.forget_own(remote_id)
            return self._until_settled(
                lambda: self._remove(remote_id), lambda: self._is_gone(remote_id)
            )

    # --- domains

    def _change(self, record: DomainRecord, conf: HttpsConf) -> bool:
        """Write, choosing the call by what the domain has: neither stands in for the other."""
        write = self._client.httpsconf if record.has_https else self._client.sslize
        try:
            write(record.name, conf)
        except QiniuFailure as failure:
            if failure.code != UNCHANGED:
                raise
        return True

    def _is_taken(self, before: DomainRecord, conf: HttpsConf) -> bool | None:
        """Whether a change went through: the domain was at rest before, so work means ours."""
        now = self._client.read_domain(before.name)
        return now.operating_state == "processing" or is_in_force(now, conf) or None

    # --- certificates

    def _remotes(self, look: Look) -> Iterator[RemoteCertificate]:
        for certificate in look.known:
            for record in self._copies(look.lineage, certificate):
                yield RemoteCertificate(
                    record.certid,
                    mark(look.lineage, certificate.fingerprint),
                    certificate.fingerprint,
                    certificate.not_after,
                )

    def _find_upload(
        self, lineage: str, certificate: Certificate, *, anew: bool = False
    ) -> str | None:
        copies = self._copies(lineage, certificate, anew=anew)
        return copies[0].certid if copies else None

    def _copies(
        self, lineage: str, certificate: Certificate, *, anew: bool = False
    ) -> list[CertificateRecord]:
        """List the copies of a certificate, oldest first, so that everybody adopts the same one."""
        label = mark(lineage, certificate.fingerprint)
        listed = self._account.certificates(anew=anew).values()
        found = [r for r in listed if r.name == label and _agrees(r, certificate)]
        return sorted(found, key=lambda record: (record.create_time or 0, record.certid))

    def _upload(self, upload: Upload, certificate: Certificate) -> str:
        cert_id = self._client.upload_certificate(upload)
        self._account.note_uploaded(
            CertificateRecord(
                certid=cert_id,
                name=upload.name,
                dnsnames=certificate.names,
                not_before=int(certificate.not_before.timestamp()),
                not_after=int(certificate.not_after.timestamp()),
            )
        )
        return cert_id

    def _certificate(self, remote_id: str) -> CertificateRecord | None:
        listed = self._account.certificates().get(remote_id)
        return listed or self._account.certificates(anew=True).get(remote_id)

    def _remove(self, remote_id: str) -> bool:
        try:
            self._client.delete_certificate(remote_id)
        except QiniuFailure as failure:
            if failure.code != NO_SUCH_CERTIFICATE:
                raise
            return False
        self._account.note_removed(remote_id)
        return True

    def _is_gone(self, remote_id: str) -> bool | None:
        return remote_id not in self._account.certificates(anew=True) or None

    def _until_settled(self, write: Callable[[], T], look: Callable[[], T | None]) -> T:
        """Write; when the answer is lost, look whether it was done before doing it again."""
        for _ in range(ATTEMPTS):
            try:
                return write()
            except QiniuFailure as failure:
                if not failure.maybe_done:
                    raise
                lost = failure
            found = self._look_for(look)
            if found is not None:
                return found
        raise lost

    def _look_for(self, look: Callable[[], T | None]) -> T | None:
        for seconds in LOOKS:
            self._pause(seconds)
            found = look()
            if found is not None:
                return found
        return None


@contextmanager
def _door() -> Iterator[None]:
    """Let nothing of the client's pass but the error it made for the door."""
    try:
        yield
    except QiniuFailure as failure:
        raise failure.error from None


def _must_be_served_here(kind: Kind) -> None:
    if kind not in (Kind.AUTO, Kind.CDN):
        raise TargetRejected(
            Text('certferry does not deploy to domains of kind "{kind}" yet', kind=kind.value),
            hint=Text('set kind = "cdn" for a CDN or DCDN domain, or leave it out'),
        )


def _agrees(record: CertificateRecord, certificate: Certificate) -> bool:
    """Tell whether what the list says of a copy, beside its mark, is true of the certificate."""
    names = {name.lower() for name in record.dnsnames or certificate.names}
    return (
        names == set(certificate.names)
        and record.not_before in {None, int(certificate.not_before.timestamp())}
        and record.not_after in {None, int(certificate.not_after.timestamp())}
    )


def _not_ours(remote_id: str, label: str) -> DeployError:
    return TargetRejected(
        Text(
            "certificate {id} at Qiniu does not carry our mark {label}", id=remote_id, label=label
        ),
        hint=Text("certferry removes only what it uploaded; look at it in Qiniu's console"),
    )
