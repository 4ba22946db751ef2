"""A Qiniu account's certificates, domains and uploads, shared by all lineages of a run.

- `Certificates` caches the list of certificates, and adds the uploads and removals of this process:
  Qiniu's lists lag behind writes by some seconds (docs/facts/qiniu.md §5.1), and a copy missing
  from the list would be uploaded again.
- `Details` caches the detail of each domain while the list of domains shows the same state: at ten
  requests a second, ten thousand details take a quarter of an hour.
- `Settler` repeats a write after a lost answer; `Copies` finds, uploads and removes our copies.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from certferry.adapters.qiniu import errors, records
from certferry.adapters.qiniu.errors import NO_SUCH_DOMAIN, QiniuFailure
from certferry.adapters.qiniu.qiniu_client import QiniuClient
from certferry.adapters.qiniu.records import CertificateRecord, UploadBody
from certferry.core.certificates import lineage as lineages
from certferry.core.certificates.certificate import Certificate, CertificateBundle, short
from certferry.core.observed.observation import RemoteCertificate
from certferry.core.observed.records import TRIED_AGAIN, OtherCertificate, Quota
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.text import Text

log = logging.getLogger(__name__)

LIST_AGE = 5.0  # seconds until a cached list is read again
CERTIFICATES_AGE = 30.0  # seconds; `Certificates` adds the writes of this process to the list
PER_SECOND = 50  # before an upload, the list may be a second older for every 50 certificates
OWN_WRITES_AGE = 120.0  # seconds after which every list shows our writes

DETAIL_AGE = 300.0
"""Seconds until a detail is read again although the list shows no change: certferry
only guesses that the list shows every change of a domain."""
TASK_AGE = 900.0  # the same while Qiniu works on the domain: the list shows the end of the work
NOTE_AGE = timedelta(hours=36)
"""How long later runs may use a stored detail: the next daily run uses it, the second one reads
every detail again."""

CROWD, DOMAINS_PER_SECOND = 100, 400
"""The most domains of an account whose list is read anew for every wait; and, in a larger account,
the number of domains for each second of the list's age. Reading the list thus leaves requests for
the changes."""

AT_WORK = "processing"

T = TypeVar("T")
Clock = Callable[[], float]  # monotonic seconds


class TtlCache(Generic[T]):
    """A cached value, fetched again once too old. Other callers wait during a fetch."""

    def __init__(self, fetch: Callable[[], T], age: float, clock: Clock) -> None:
        self._fetch = fetch
        self._age = age
        self._clock = clock
        self._lock = threading.Lock()
        self._cached: tuple[float, T] | None = None

    def get(self, *, anew: bool = False, age: float | None = None) -> T:
        """Return the value; fetch it first if `anew`, or if the cached value is older than `age`
        (in seconds, at most the cache's own age).
        """
        oldest = self._age if age is None else min(age, self._age)
        with self._lock:
            asked = self._clock()
            if anew or self._cached is None or asked - self._cached[0] >= oldest:
                self._cached = (asked, self._fetch())
            return self._cached[1]

    @property
    def cached(self) -> tuple[float, T] | None:
        """The moment of the last fetch and its value of any age; `None` before the first fetch."""
        return self._cached

    def forget(self) -> None:
        """Have the next caller fetch the value."""
        with self._lock:
            self._cached = None


class Notes(Struct, Generic[T], frozen=True):
    """Values of one type, stored in the account's memory for later runs."""

    memory: AccountMemory
    type_: type[T]
    #: Precedes the names of these notes in the memory.
    prefix: str = ""

    def read(self, name: str) -> T | None:
        """Return a note's value; `None` if it is absent, or unreadable for this version."""
        text = self.memory.note(self.prefix + name)
        if text is None:
            return None
        try:
            return records.decode(text.encode(), self.type_)
        except ValueError as problem:
            log.debug("the note %r is passed over: %s", name, problem)
            return None

    def write(self, name: str, value: T) -> None:
        """Store a value under a name, in place of an earlier value."""
        text = msgspec.json.encode(value).decode()
        self.memory.update(self.prefix + name, lambda _: text)

    def remove(self, name: str) -> None:
        """Remove a note, if present."""
        if self.memory.note(self.prefix + name) is not None:
            self.memory.update(self.prefix + name, lambda _: None)


class Certificates:
    """The certificates of an account, by id. Reading them raises `QiniuFailure`."""

    def __init__(self, client: QiniuClient, clock: Clock) -> None:
        self._clock = clock
        self._listed = TtlCache(
            lambda: {record.certid: record for record in client.list_certificates()},
            CERTIFICATES_AGE,
            clock,
        )
        self._lock = threading.Lock()
        # The writes of this process by id: their moment, and the record (None: removed).
        self._own: dict[str, tuple[float, records.CertificateRecord | None]] = {}

    def all(
        self, *, anew: bool = False, age: float | None = None
    ) -> dict[str, records.CertificateRecord]:
        """Return the listed certificates, with the writes of this process applied."""
        certificates = dict(self._listed.get(anew=anew, age=age))
        with self._lock:
            oldest = self._clock() - OWN_WRITES_AGE
            self._own = {id_: own for id_, own in self._own.items() if own[0] > oldest}
            own_writes = list(self._own.items())
        for cert_id, (_, record) in own_writes:
            if record is None:
                certificates.pop(cert_id, None)
            else:
                certificates.setdefault(cert_id, record)
        return certificates

    def find(self, cert_id: str) -> records.CertificateRecord | None:
        """Return a certificate; `None` if a freshly read list lacks the id too."""
        return self.all().get(cert_id) or self.all(anew=True).get(cert_id)

    def for_uploads(self) -> dict[str, records.CertificateRecord]:
        """Return the list to search for a copy before an upload.

        The list is fresh, because another machine may have uploaded a moment ago under the
        lineage's lease. A long list may be older, so that many uploads share one reading.
        """
        cached = self._listed.cached
        return self.all(age=max(LIST_AGE, 0.0 if cached is None else len(cached[1]) / PER_SECOND))

    def note_own(self, cert_id: str, record: records.CertificateRecord | None) -> None:
        """Store a write of this process: an uploaded record, or `None` for a removal."""
        with self._lock:
            self._own[cert_id] = (self._clock(), record)

    def forget_own(self, cert_id: str) -> None:
        """Drop this process's write for an id: only the list shows whether a removal worked."""
        with self._lock:
            self._own.pop(cert_id, None)

    def forget(self) -> None:
        """Have the next caller read the list again."""
        self._listed.forget()


class Note(msgspec.Struct, frozen=True):
    """A domain's detail as stored in the account's memory."""

    #: When the detail was read.
    at: datetime
    detail: records.DomainRecord


class _Known(Struct, frozen=True):
    """A domain's detail as this process read it. Moments are those of the monotonic clock."""

    detail: records.DomainRecord
    read_at: float
    #: When this process first saw Qiniu at work on the domain; `None` at rest.
    at_work_since: float | None


class Details:
    """The details of an account's CDN and DCDN domains, for all threads of a run.

    `read` serves observations, `read_now` serves writes. `clock` is monotonic, `now` is the
    wall clock.
    """

    def __init__(
        self, client: QiniuClient, memory: AccountMemory, clock: Clock, now: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._notes = Notes(memory, Note, "domain: ")
        self._clock = clock
        self._now = now
        self.listed = TtlCache(self._list, LIST_AGE, clock)
        self._lock = threading.Lock()
        # None: the note of an earlier run has been used, and this run has read no detail yet.
        self._known: dict[str, _Known | None] = {}
        self._unlisted_until = clock()

    def read(self, domain: str) -> records.DomainRecord:
        """Return a domain's detail for an observation.

        Reuse the cached detail while the list shows no change. A detail stored by an earlier run
        is used once, so decisions after the first observation rest on a fresh detail.
        """
        with self._lock:
            is_first = domain not in self._known
            cached = self._known.setdefault(domain, None)
        note = self._note(domain) if is_first else None
        if cached is None and note is None:
            return self.read_now(domain)
        item = self._fresh_list(cached).get(domain)
        if item is None:
            return self.read_now(domain)
        if cached is None:
            return note if note and shows_no_change(item, note) else self.read_now(domain)
        age = TASK_AGE if cached.detail.operating_state == AT_WORK else DETAIL_AGE
        if self._clock() - cached.read_at >= age:
            return self.read_now(domain)
        if self._is_listed_before(cached.read_at) or shows_no_change(item, cached.detail):
            return cached.detail
        if item.operating_state != AT_WORK:
            return self.read_now(domain)
        # During the work, the domain keeps its certificate and settings: only the state moves.
        return self._keep(domain, _as_listed(cached.detail, item), cached.read_at)

    def read_now(self, domain: str) -> records.DomainRecord:
        """Read a domain's detail from Qiniu, for a write. Raises `QiniuFailure`."""
        read_at = self._clock()
        try:
            detail = self._client.read_domain(records.name_at_qiniu(domain))
        except QiniuFailure as failure:
            if failure.code in NO_SUCH_DOMAIN:
                self._known[domain] = None
            raise
        if detail.operating_state == "success":
            self._notes.write(domain, Note(self._now(), detail))
        return self._keep(domain, detail, read_at)

    def survey(self, item: records.DomainItem) -> records.DomainRecord:
        """Return a listed domain's detail: from the list or an earlier run, else from Qiniu."""
        if (without_https := item.without_https) is not None:
            return without_https
        note = self._note(records.name_here(item.name))
        if note is not None and shows_no_change(item, note):
            return note
        return self._client.read_domain(item.name)

    def doubt(self, domain: str) -> None:
        """Have the next observation read a domain whose edges contradict the cached detail.

        The list alone would show no change of the domain. Keep a detail younger than `LIST_AGE`.
        """
        cached = self._known.get(domain)
        if cached is None or self._clock() - cached.read_at >= LIST_AGE:
            self._known[domain] = None
            self._notes.remove(domain)

    def forget(self, domain: str) -> None:
        """Have the next observation of any run read a domain from Qiniu: it is about to change."""
        self._known[domain] = None
        self._notes.remove(domain)

    def note_change(self, domain: str, before: records.DomainRecord) -> None:
        """Store that Qiniu works on a domain, until a newer list or detail shows another state."""
        processing = msgspec.structs.replace(
            before, operating_state=AT_WORK, modify_at=None, oper_task_id=None
        )
        if self._freshest() == 0:
            self.listed.forget()
        self._keep(domain, processing, self._clock())

    def _list(self) -> dict[str, records.DomainItem]:
        return {records.name_here(item.name): item for item in self._client.list_domains()}

    def _note(self, domain: str) -> records.DomainRecord | None:
        note = self._notes.read(domain)
        is_young = note is not None and timedelta(0) <= self._now() - note.at < NOTE_AGE
        return note.detail if note is not None and is_young else None

    def _keep(
        self, domain: str, detail: records.DomainRecord, read_at: float
    ) -> records.DomainRecord:
        with self._lock:
            cached, since = self._known.get(domain), None
            if detail.operating_state == AT_WORK:
                since = self._clock() if cached is None else cached.at_work_since or self._clock()
            self._known[domain] = _Known(detail, read_at, since)
        return detail

    def _is_listed_before(self, read_at: float) -> bool:
        cached = self.listed.cached
        return cached is not None and cached[0] < read_at

    def _fresh_list(self, cached: _Known | None) -> Mapping[str, records.DomainItem]:
        """Return the list, fresh enough for the wait; empty if only the list is unreadable.

        Raises `QiniuFailure` for a failure that any other call would share.
        """
        if self._clock() < self._unlisted_until:
            return {}
        try:
            return self.listed.get(age=self._list_age(cached))
        except QiniuFailure as failure:
            if failure.is_common:
                raise
            log.info("the list of domains cannot be read; each is read by itself: %s", failure)
            self._unlisted_until = self._clock() + LIST_AGE
            return {}

    def _list_age(self, cached: _Known | None) -> float:
        """Return how old the list may be, in seconds. A longer wait allows an older list: see the
        waiting rule in `core.reasons`.
        """
        if cached is None or cached.at_work_since is None:
            return LIST_AGE
        waited = self._clock() - cached.at_work_since
        return min(max(waited / 60 + 0.2, self._freshest()), LIST_AGE)

    def _freshest(self) -> float:
        cached = self.listed.cached
        count = 0 if cached is None else len(cached[1])
        return 0 if count <= CROWD else count / DOMAINS_PER_SECOND


def shows_no_change(item: records.DomainItem, detail: records.DomainItem) -> bool:
    """Return whether list and detail agree on the last change, the task and the state."""
    pairs = ((item.modify_at, detail.modify_at), (item.oper_task_id, detail.oper_task_id))
    equal = [listed == cached for listed, cached in pairs if listed and cached]
    return bool(equal) and all(equal) and item.operating_state == detail.operating_state


def _as_listed(detail: records.DomainRecord, item: records.DomainItem) -> records.DomainRecord:
    return msgspec.structs.replace(
        detail,
        operating_state=AT_WORK,
        operating_state_desc=None,
        operation_type=str(item.operation_type or "") or None,
        modify_at=item.modify_at,
        oper_task_id=item.oper_task_id,
    )


ATTEMPTS = 2  # for a write with lost answers
# Seconds before each search for an unanswered write, which Qiniu may still be carrying out.
SEARCHES = (0.5, 1.5, 4.0)


class Settler(Struct, frozen=True):
    """Repeats writes after a lost answer, unless a search shows that the write was done."""

    pause: Pause

    def until_settled(self, write: Callable[[], T], find: Callable[[], T | None]) -> T:
        """Return the result of `write`, or of `find` after a lost answer.

        `find` returns `None` while the write has left no trace; then the write is repeated.
        Raises `QiniuFailure`.
        """
        for _ in range(ATTEMPTS):
            try:
                return write()
            except QiniuFailure as failure:
                if not failure.maybe_done:
                    raise
                lost = failure
            for seconds in SEARCHES:
                self.pause(seconds)
                if (result := find()) is not None:
                    return result
        raise lost


_QUOTA = "most certificates"
_NAMES, _SHORT = "names of certificates", "short"
"""Name and value of the note that Qiniu refused a certificate's usual name as too long."""
_TOO_LONG = "name too long"  # as in "certification name too long", of unknown code (§4.1)


class QuotaNote(msgspec.Struct, frozen=True):
    """The last refusal of an upload to a full account, as stored in the account's memory."""

    #: Certificates in the account at the refusal.
    held: int
    #: When Qiniu refused the upload.
    at: datetime


@dataclass(eq=False)
class Copies:
    """Our copies of certificates at one account, and the account's quota."""

    client: QiniuClient
    certificates: Certificates
    settler: Settler
    memory: AccountMemory
    #: The wall clock.
    now: Callable[[], datetime]
    #: Held during an upload, so two lineages upload one after the other.
    _uploading: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def _quota(self) -> Notes[QuotaNote]:
        return Notes(self.memory, QuotaNote)

    def of(self, lineage: str, known: Sequence[Certificate]) -> Iterator[RemoteCertificate]:
        """Yield the copies of a lineage's certificates, found by label, names and dates."""
        for certificate in known:
            for record in _copies(lineage, certificate, self.certificates.all()):
                label, proof = record.label, certificate.fingerprint
                yield RemoteCertificate(record.certid, label, proof, certificate.not_after)

    def others(self, ours: Sequence[RemoteCertificate]) -> Iterator[OtherCertificate]:
        """Return the account's other certificates."""
        ids = {remote.remote_id for remote in ours}
        listed = self.certificates.all().values()
        return (_other(record) for record in listed if record.certid not in ids)

    def unremembered(
        self, lineage: str, known: Sequence[Certificate]
    ) -> Iterator[OtherCertificate]:
        """Yield copies with a label of the lineage for a certificate outside `known`.

        An empty `known` yields nothing: every copy would look unknown.
        """
        if not known:
            return
        labels = {
            label
            for certificate in known
            for label in lineages.labels_of(lineage, certificate.fingerprint)
        }
        begins, ours = lineages.prefixes(lineage), lineages.owners(lineage)
        for record in self.certificates.all().values():
            name = record.name or ""
            if name.startswith(begins) and name not in labels and lineages.owner_of(name) in ours:
                yield _other(record)

    def quota(self) -> Quota | None:
        """Return how full the account is; `None` unless Qiniu refused an upload within
        `TRIED_AGAIN`.
        """
        refused = self._quota.read(_QUOTA)
        if refused is None or not timedelta(0) <= self.now() - refused.at < TRIED_AGAIN:
            return None
        held = len(self.certificates.all())
        return Quota(held, refused.held, refused.at + TRIED_AGAIN)

    def forget_refusal(self) -> None:
        """See `ports.target.LimitedTarget`."""
        self._quota.remove(_QUOTA)

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Return the id of an existing copy, or upload one. Uploads follow one another.

        Raises `QiniuFailure`.
        """

        def find(listed: Mapping[str, CertificateRecord]) -> str | None:
            copies = _copies(lineage, bundle.certificate, listed)
            return copies[0].certid if copies else None

        with self._uploading:
            cert_id = None
            try:
                cert_id = find(self.certificates.for_uploads())
            except errors.QiniuFailure as unread:
                # An absent list stops the upload, because the list may name a copy. A list in an
                # unknown shape is ignored: otherwise it would stop every upload for ever.
                if unread.is_common or unread.is_passing:
                    raise
            return cert_id or self.settler.until_settled(
                partial(self._upload, lineage, bundle),
                lambda: find(self.certificates.all(anew=True)),
            )

    def forget(self, remote_id: str) -> None:
        """Have the next upload search a new list, after Qiniu denied having this copy."""
        self.certificates.forget_own(remote_id)
        self.certificates.forget()

    def retire(self, copy: CertificateRecord, label: str, *, unmanaged: bool) -> bool:
        """Remove a copy named `label`; return whether the copy was there.

        The label must be one of certferry's, except for an `unmanaged` certificate. Raises
        `TargetRejected` for another name or label, and `QiniuFailure`.
        """
        if copy.label != label or not (unmanaged or lineages.owner_of(label) is not None):
            sentence = Text("certificate {id} at Qiniu does not carry certferry's mark {label}")
            hint = Text(
                "certferry removes only its own uploads; check the certificate in Qiniu's console"
            )
            raise errors.rejected(sentence, hint, id=short(copy.certid), label=label)
        self.certificates.forget_own(copy.certid)
        return self.settler.until_settled(
            lambda: self._remove(copy.certid),
            lambda: copy.certid not in self.certificates.all(anew=True) or None,
        )

    def _upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Upload under the usual name, or under the short name after Qiniu has refused a usual name
        as too long.
        """
        certificate, pem, key = bundle.certificate, bundle.fullchain_pem, bundle.privkey_pem
        usual = lineages.label_of(lineage, certificate.fingerprint)
        short_name = lineages.short_label_of(lineage, certificate.fingerprint)
        is_short = self.memory.note(_NAMES) == _SHORT
        common_name = certificate.common_name or certificate.names[0]
        for name in (short_name,) if is_short else (usual, short_name):
            try:
                cert_id = self.client.upload_certificate(
                    UploadBody(name, common_name, pem, key.reveal())
                )
                break
            except errors.QiniuFailure as failure:
                if failure.code == errors.ACCOUNT_FULL:
                    self._note_full()
                is_too_long = _TOO_LONG in failure.words.lower() and not failure.maybe_done
                if name == short_name or not is_too_long:
                    raise
        if name == short_name and not is_short:
            self.memory.update(_NAMES, lambda _: _SHORT)
        self._quota.remove(_QUOTA)
        moments = (int(certificate.not_before.timestamp()), int(certificate.not_after.timestamp()))
        record = CertificateRecord(cert_id, name, certificate.names, *moments)
        self.certificates.note_own(cert_id, record)
        return cert_id

    def _note_full(self) -> None:
        """Store that the account was full, with the present number of certificates."""
        listed = errors.attempt(partial(self.certificates.all, anew=True))
        if isinstance(listed, errors.QiniuFailure):
            log.info("how many certificates there are cannot be seen: %s", listed)
        else:
            self._quota.write(_QUOTA, QuotaNote(len(listed), self.now()))

    def _remove(self, remote_id: str) -> bool:
        try:
            self.client.delete_certificate(remote_id)
        except errors.QiniuFailure as failure:
            if failure.code not in errors.NO_SUCH_CERTIFICATE:
                raise
            return False
        self.certificates.note_own(remote_id, None)
        return True


def _copies(
    lineage: str, certificate: Certificate, listed: Mapping[str, CertificateRecord]
) -> list[CertificateRecord]:
    """Return the copies of a certificate, oldest first, so every run adopts the same copy."""
    labels = lineages.labels_of(lineage, certificate.fingerprint)
    copies = (
        record
        for record in listed.values()
        if record.name in labels and _agrees(record, certificate)
    )
    return sorted(copies, key=lambda record: record.age_order)


def _agrees(record: CertificateRecord, certificate: Certificate) -> bool:
    """Return whether names and dates of a listed copy fit the certificate."""
    names = {name.lower() for name in record.dnsnames or certificate.names}
    return (
        names == set(certificate.names)
        and record.not_before in {None, int(certificate.not_before.timestamp())}
        and record.not_after in {None, int(certificate.not_after.timestamp())}
    )


def _other(record: CertificateRecord) -> OtherCertificate:
    return OtherCertificate(record.certid, record.label, record.ends, not_before=record.begins)
