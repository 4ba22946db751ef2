"""What a Qiniu account holds: listed at most every few seconds, our own writes always counted in.

A thousand lineages on one account look at the same lists, and Qiniu's lists may lag behind a
write for some seconds (Qiniu fact sheet §5.1): without the memory of what was just uploaded, it
would be uploaded again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from certferry.adapters.clients.qiniu import QiniuClient
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_records import CertificateRecord, DomainItem

log = logging.getLogger(__name__)

LIST_AGE = 5.0  # seconds that a list is good for
OWN_WRITES_AGE = 60.0  # seconds until any list shows what we wrote
SOURCES_AGE = 300.0  # seconds; asked for only to explain a mistake, at one request per bucket

T = TypeVar("T")
Clock = Callable[[], float]


class Remembered(Generic[T]):
    """A value that is fetched when it has grown too old; whoever comes meanwhile waits for it."""

    def __init__(self, fetch: Callable[[], T], age: float, clock: Clock) -> None:
        self._fetch = fetch
        self._age = age
        self._clock = clock
        self._lock = threading.Lock()
        self._found: tuple[float, T] | None = None

    def get(self, *, anew: bool = False) -> T:
        """Give the value, fetched `anew` if that is asked for."""
        with self._lock:
            asked = self._clock()
            if anew or self._found is None or asked - self._found[0] >= self._age:
                self._found = (asked, self._fetch())
            return self._found[1]


class QiniuAccount:
    """The lists of one account. `clock` counts seconds and never goes back."""

    def __init__(self, client: QiniuClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._certificates = Remembered(self._list_certificates, LIST_AGE, clock)
        self._domains = Remembered(client.list_domains, LIST_AGE, clock)
        self._sources = Remembered(self._list_sources, SOURCES_AGE, clock)
        self._lock = threading.Lock()
        # An id → what became of it by our hand (None: removed), and when.
        self._own: dict[str, tuple[float, CertificateRecord | None]] = {}

    def certificates(self, *, anew: bool = False) -> dict[str, CertificateRecord]:
        """Give the certificates by id. Raises `QiniuFailure`."""
        found = dict(self._certificates.get(anew=anew))
        for cert_id, record in self._own_writes():
            if record is None:
                found.pop(cert_id, None)
            else:
                found.setdefault(cert_id, record)
        return found

    def note_uploaded(self, record: CertificateRecord) -> None:
        """Count a certificate in from now on."""
        self._note(record.certid, record)

    def note_removed(self, cert_id: str) -> None:
        """Count a certificate out from now on."""
        self._note(cert_id, None)

    def forget_own(self, cert_id: str) -> None:
        """Believe the list again, before a removal is looked for in it."""
        with self._lock:
            self._own.pop(cert_id, None)

    def domains(self) -> list[DomainItem]:
        """Give the CDN and DCDN domains. Raises `QiniuFailure`."""
        return self._domains.get()

    def bucket_of(self, domain: str) -> str | None:
        """Give the Kodo bucket that a source domain belongs to, `None` where none is known."""
        return self._sources.get().get(domain)

    def _note(self, cert_id: str, record: CertificateRecord | None) -> None:
        with self._lock:
            self._own[cert_id] = (self._clock(), record)

    def _own_writes(self) -> list[tuple[str, CertificateRecord | None]]:
        with self._lock:
            oldest = self._clock() - OWN_WRITES_AGE
            self._own = {id_: own for id_, own in self._own.items() if own[0] > oldest}
            return [(cert_id, record) for cert_id, (_, record) in self._own.items()]

    def _list_certificates(self) -> dict[str, CertificateRecord]:
        return {record.certid: record for record in self._client.list_certificates()}

    def _list_sources(self) -> dict[str, str]:
        """Find source domains as far as the keys may see them: they only make a message better."""
        sources: dict[str, str] = {}
        try:
            for bucket in self._client.list_buckets():
                domains = self._client.list_bucket_domains(bucket)
                sources |= {domain.domain: bucket for domain in domains if domain.is_source}
        except QiniuFailure as failure:
            log.debug("source domains cannot be listed: %s", failure)
        return sources
