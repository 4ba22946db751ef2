"""What a Qiniu account holds: listed at most every few seconds, our own writes always counted in.

A thousand lineages on one account look at the same lists, and Qiniu's lists may lag behind a
write for some seconds (docs/facts/qiniu.md §5.1): without the memory of what was just uploaded, it
would be uploaded again.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from certferry.adapters.qiniu.client import QiniuClient
from certferry.adapters.qiniu.errors import QiniuFailure
from certferry.adapters.qiniu.records import BucketDomain, CertificateRecord, DomainItem, name_here
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory

log = logging.getLogger(__name__)

LIST_AGE = 5.0  # seconds that a list is good for
CERTIFICATES_AGE = 30.0  # seconds; what this process uploads and removes is counted in anyway
PER_SECOND = 50  # certificates for which a list may be a second older before an upload
OWN_WRITES_AGE = 120.0  # seconds until any list shows what we wrote
SOURCES_AGE = 300.0  # seconds; one request per bucket, and buckets change their domains seldom

_NAMES, _SHORT = "names of certificates", "short"
"""A note of the account and what it says."""

T = TypeVar("T")
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Sources:
    """The Kodo source domains of an account, by certferry's spelling of their names. `failure` says
    why there may be more: some buckets, or all, could not be looked at.
    """

    domains: Mapping[str, BucketDomain]
    failure: QiniuFailure | None = None


@dataclass(frozen=True, slots=True)
class DomainList:
    """The CDN and DCDN domains of an account, by certferry's spelling of their names. A `number`
    distinguishes it from the lists that were read before.
    """

    number: int
    by_name: Mapping[str, DomainItem]


class TtlCache(Generic[T]):
    """A value that is fetched when it has grown too old; callers meanwhile wait for it."""

    def __init__(self, fetch: Callable[[], T], age: float, clock: Clock) -> None:
        self._fetch = fetch
        self._age = age
        self._clock = clock
        self._lock = threading.Lock()
        self._found: tuple[float, T] | None = None

    def get(self, *, anew: bool = False, age: float | None = None) -> T:
        """Return the value, fetched `anew` or where it is older than the `age`."""
        oldest = self._age if age is None else min(age, self._age)
        with self._lock:
            asked = self._clock()
            if anew or self._found is None or asked - self._found[0] >= oldest:
                self._found = (asked, self._fetch())
            return self._found[1]

    @property
    def cached(self) -> T | None:
        """The value that was fetched last, however old."""
        found = self._found
        return None if found is None else found[1]

    def forget(self) -> None:
        """Let the next caller fetch it."""
        with self._lock:
            self._found = None


class QiniuAccount:
    """The lists of one account: CDN and DCDN `domains`, Kodo's `sources` as far as the keys may see
    them, and the certificate of each source that has one (`bindings`). Reading them raises
    `QiniuFailure`. `clock` counts seconds and never goes back.
    """

    def __init__(self, client: QiniuClient, clock: Clock, memory: AccountMemory) -> None:
        self._client = client
        self._memory = memory
        self._clock = clock
        self._certificates = TtlCache(self._list_certificates, CERTIFICATES_AGE, clock)
        self.domains = TtlCache(self._list_domains, LIST_AGE, clock)
        self.sources = TtlCache(self._list_sources, SOURCES_AGE, clock)
        self.bindings = TtlCache(self._list_bindings, LIST_AGE, clock)
        self._numbers = itertools.count(1)
        self._seen_sources: dict[str, BucketDomain] = {}
        self._lock = threading.Lock()
        # An id → what became of it by our hand (None: removed), and when.
        self._own: dict[str, tuple[float, CertificateRecord | None]] = {}

    def certificates(
        self, *, anew: bool = False, age: float | None = None
    ) -> dict[str, CertificateRecord]:
        """Return the certificates by id. Raises `QiniuFailure`."""
        found = dict(self._certificates.get(anew=anew, age=age))
        for cert_id, record in self._own_writes():
            if record is None:
                found.pop(cert_id, None)
            else:
                found.setdefault(cert_id, record)
        return found

    @property
    def age_for_uploads(self) -> float:
        """How old the list may be in which a copy is looked for before an upload, since another
        machine may have had the lineage's lease a moment ago; of a long list, not to read it for
        each of many uploads.
        """
        listed = self._certificates.cached
        return max(LIST_AGE, 0.0 if listed is None else len(listed) / PER_SECOND)

    @property
    def wants_short_names(self) -> bool:
        """Whether Qiniu once refused the usual name of a certificate as too long."""
        return self._memory.note(_NAMES) == _SHORT

    def note_short_names(self) -> None:
        """Have every later upload take the short name at once, in later runs too."""
        self._memory.update(_NAMES, lambda _: _SHORT)

    def note_uploaded(self, record: CertificateRecord) -> None:
        """Count a certificate in from now on."""
        self._note(record.certid, record)

    def note_removed(self, cert_id: str) -> None:
        """Count a certificate out from now on."""
        self._note(cert_id, None)

    def forget_own(self, cert_id: str) -> None:
        """Let the list alone decide, before a removal is looked for in it."""
        with self._lock:
            self._own.pop(cert_id, None)

    def forget_lists(self) -> None:
        """Have the next look read what domains and certificates there are, and what source domains
        are bound to: another run may have changed it.
        """
        for cache in (self._certificates, self.domains, self.bindings):
            cache.forget()

    def forget_certificates(self) -> None:
        """Have the next look read which there are."""
        self._certificates.forget()

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

    def _list_domains(self) -> DomainList:
        items = self._client.list_domains()
        return DomainList(next(self._numbers), {name_here(item.name): item for item in items})

    def _list_bindings(self) -> dict[str, str]:
        return {name_here(one.domain): one.certid for one in self._client.list_bindings()}

    def _list_sources(self) -> Sources:
        """List the source domains of every bucket that can be read.

        A bucket that cannot hides its own domains only: a sub-account's rights may end at it. One
        whose domains were read before keeps them: a domain that a run waits for must not vanish
        because Kodo fails for a moment.
        """
        found: dict[str, BucketDomain] = {}
        earlier, self._seen_sources = self._seen_sources, found
        failure: QiniuFailure | None = None
        try:
            for bucket in self._client.list_buckets():
                before, failure_before = len(found), failure
                failure = self._read_bucket(bucket, found, failure)
                if failure is not failure_before and len(found) == before:
                    found |= {n: d for n, d in earlier.items() if d.tbl == bucket}
        except QiniuFailure as stopped:
            failure = stopped
            found |= {name: d for name, d in earlier.items() if name not in found}
        if failure is not None:
            log.info("Kodo's source domains cannot all be listed: %s", failure)
        return Sources(found, failure)

    def _read_bucket(
        self, bucket: str, found: dict[str, BucketDomain], failure: QiniuFailure | None
    ) -> QiniuFailure | None:
        """Add a bucket's source domains to those found, and return the last failure. Raises what
        the next bucket would fail of as well: a rate, a wrong clock, no connection, two silences or
        broken answers, each of which takes its time.
        """
        try:
            domains = self._client.list_bucket_domains(bucket)
        except QiniuFailure as unread:
            again = failure is not None and failure.maybe_done and unread.maybe_done
            if (unread.is_common and not unread.is_denied) or unread.silent or again:
                raise
            return unread
        found |= {
            name_here(d.domain): msgspec.structs.replace(d, tbl=bucket)
            for d in domains
            if d.is_source
        }
        return failure


ATTEMPTS = 2  # at a write whose answer does not come
# Seconds before each look for a write without an answer: it may still be on its way.
LOOKS = (0.5, 1.5, 4.0)


class Settler:
    """Makes writes that may be lost."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause

    def until_settled(self, write: Callable[[], T], look: Callable[[], T | None]) -> T:
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
