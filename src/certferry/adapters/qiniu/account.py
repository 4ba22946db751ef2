"""What a Qiniu account holds: listed at most every few seconds, our own writes always counted in.

A thousand lineages on one account read the same lists, and Qiniu's lists may lag behind a
write for some seconds (docs/facts/qiniu.md §5.1): without the memory of what was just uploaded, it
would be uploaded again. The detail of a domain stands while the list of domains shows no change,
since at ten requests a second ten thousand domains take a quarter of an hour.
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

from certferry.adapters.qiniu import errors, records
from certferry.adapters.qiniu.client import QiniuClient
from certferry.adapters.qiniu.errors import NO_SUCH_DOMAIN, QiniuFailure
from certferry.adapters.qiniu.records import CertificateRecord, UploadBody
from certferry.core.certificates import lineage as lineages
from certferry.core.certificates.certificate import Certificate, CertificateBundle, short
from certferry.core.observed.observation import RemoteCertificate
from certferry.core.observed.records import TRIED_AGAIN, OtherCertificate, Quota
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.text import Text

log = logging.getLogger(__name__)

LIST_AGE = 5.0  # seconds that a list is good for
CERTIFICATES_AGE = 30.0  # seconds; what this process uploads and removes is counted in anyway
PER_SECOND = 50  # certificates for which a list may be a second older before an upload
OWN_WRITES_AGE = 120.0  # seconds until any list shows what we wrote

DETAIL_AGE = 300.0
"""Seconds that a detail is good for while the list shows no change. That each change moves what is
compared is a guess, so it is not good for ever."""
TASK_AGE = 900.0  # the same while Qiniu works on the domain: what can change then is in the list
NOTE_AGE = timedelta(hours=36)
"""How long a later run goes by what this one read: the next of daily runs does, the one after it
reads everything anew."""

CROWD, DOMAINS_PER_SECOND = 100, 400
"""Domains up to which the list is as fresh as each wait wants it, and, of larger accounts, domains
for which it may be a second old: reading it must not take the requests that their changes need."""

AT_WORK = "processing"

T = TypeVar("T")
Clock = Callable[[], float]  # counts seconds, and never goes back


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
    def cached(self) -> tuple[float, T] | None:
        """The value that was fetched last, however old, and when it was asked for."""
        return self._found

    def forget(self) -> None:
        """Let the next caller fetch it."""
        with self._lock:
            self._found = None


@dataclass(frozen=True, slots=True)
class Notes(Generic[T]):
    """Values of one type that later runs find in the account's memory."""

    memory: AccountMemory
    type_: type[T]
    prefix: str = ""

    def read(self, name: str) -> T | None:
        """Return a note's value; `None` if there is no note, or a newer certferry wrote it."""
        text = self.memory.note(self.prefix + name)
        if text is None:
            return None
        try:
            return records.decode(text.encode(), self.type_)
        except ValueError as problem:
            log.debug("the note %r is passed over: %s", name, problem)
            return None

    def write(self, name: str, value: T) -> None:
        """Replace a note."""
        text = msgspec.json.encode(value).decode()
        self.memory.update(self.prefix + name, lambda _: text)

    def remove(self, name: str) -> None:
        """Remove a note, if it is there."""
        if self.memory.note(self.prefix + name) is not None:
            self.memory.update(self.prefix + name, lambda _: None)


class Certificates:
    """The certificates of an account, by id. Reading them raises `QiniuFailure`."""

    def __init__(self, client: QiniuClient, clock: Clock) -> None:
        self._clock = clock
        self._listed = TtlCache(
            lambda: {one.certid: one for one in client.list_certificates()}, CERTIFICATES_AGE, clock
        )
        self._lock = threading.Lock()
        # An id → what became of it by our hand (None: removed), and when.
        self._own: dict[str, tuple[float, records.CertificateRecord | None]] = {}

    def all(
        self, *, anew: bool = False, age: float | None = None
    ) -> dict[str, records.CertificateRecord]:
        """Return every certificate, our own writes counted in."""
        found = dict(self._listed.get(anew=anew, age=age))
        with self._lock:
            oldest = self._clock() - OWN_WRITES_AGE
            self._own = {id_: own for id_, own in self._own.items() if own[0] > oldest}
            own_writes = list(self._own.items())
        for cert_id, (_, record) in own_writes:
            if record is None:
                found.pop(cert_id, None)
            else:
                found.setdefault(cert_id, record)
        return found

    def find(self, cert_id: str) -> records.CertificateRecord | None:
        """Return a certificate; `None` if even a list that is read now lacks it."""
        return self.all().get(cert_id) or self.all(anew=True).get(cert_id)

    def for_uploads(self) -> dict[str, records.CertificateRecord]:
        """Return the list to find a copy in before an upload: fresh, for another machine may have
        had the lease a moment ago, but a long one is not read for each of many uploads.
        """
        cached = self._listed.cached
        return self.all(age=max(LIST_AGE, 0.0 if cached is None else len(cached[1]) / PER_SECOND))

    def note_own(self, cert_id: str, record: records.CertificateRecord | None) -> None:
        """Count a certificate in from now on, or out where there is no record of it."""
        with self._lock:
            self._own[cert_id] = (self._clock(), record)

    def forget_own(self, cert_id: str) -> None:
        """Let the list alone decide, before a removal is looked for in it."""
        with self._lock:
            self._own.pop(cert_id, None)

    def forget(self) -> None:
        """Have the next caller read the list."""
        self._listed.forget()


class Note(msgspec.Struct, frozen=True):
    """What the account's memory keeps of a domain: its detail, and when it was read."""

    at: datetime
    detail: records.DomainRecord


@dataclass(frozen=True, slots=True)
class _Known:
    """A detail, when it was read, and since when Qiniu has been seen at work on the domain."""

    detail: records.DomainRecord
    read_at: float
    at_work_since: float | None


class Details:
    """The CDN and DCDN domains of an account, safe to share. `now` is the wall clock."""

    def __init__(
        self, client: QiniuClient, memory: AccountMemory, clock: Clock, now: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._notes = Notes(memory, Note, "domain: ")
        self._clock = clock
        self._now = now
        self.listed = TtlCache(self._list, LIST_AGE, clock)
        self._lock = threading.Lock()
        # Without a value: what an earlier run read has had its one use.
        self._known: dict[str, _Known | None] = {}
        self._unlisted_until = clock()

    def read(self, domain: str) -> records.DomainRecord:
        """Return a domain's detail to observe it by: what is known of it, where the list shows that
        it is so still. What an earlier run read is good for one observation, so that what is done
        about it is decided by a detail that was read now.
        """
        with self._lock:
            is_first = domain not in self._known
            known = self._known.setdefault(domain, None)
        note = self._note(domain) if is_first else None
        if known is None and note is None:
            return self.read_now(domain)
        item = self._fresh_list(known).get(domain)
        if item is None:
            return self.read_now(domain)
        if known is None:
            return note if note and shows_no_change(item, note) else self.read_now(domain)
        age = TASK_AGE if known.detail.operating_state == AT_WORK else DETAIL_AGE
        if self._clock() - known.read_at >= age:
            return self.read_now(domain)
        if self._is_listed_before(known.read_at) or shows_no_change(item, known.detail):
            return known.detail
        if item.operating_state != AT_WORK:
            return self.read_now(domain)
        # The certificate and the settings are those from before, until the change is done.
        return self._keep(domain, _as_listed(known.detail, item), known.read_at)

    def read_now(self, domain: str) -> records.DomainRecord:
        """Return a domain's detail as it is, for a write to go by."""
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
        """Return a listed domain's detail, from the list or an earlier run where these suffice."""
        if (without_https := item.without_https) is not None:
            return without_https
        note = self._note(records.name_here(item.name))
        if note is not None and shows_no_change(item, note):
            return note
        return self._client.read_domain(item.name)

    def doubt(self, domain: str) -> None:
        """Have the next observation read a domain whose edges contradict its detail, although the
        list shows no change. A detail that is as young as a list may be is not read again.
        """
        known = self._known.get(domain)
        if known is None or self._clock() - known.read_at >= LIST_AGE:
            self._known[domain] = None
            self._notes.remove(domain)

    def forget(self, domain: str) -> None:
        """Have the next observation, also a later run's, read a domain that is about to change."""
        self._known[domain] = None
        self._notes.remove(domain)

    def note_change(self, domain: str, before: records.DomainRecord) -> None:
        """Store that Qiniu works on a domain, until a newer list or the domain says otherwise."""
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
            known, since = self._known.get(domain), None
            if detail.operating_state == AT_WORK:
                since = self._clock() if known is None else known.at_work_since or self._clock()
            self._known[domain] = _Known(detail, read_at, since)
        return detail

    def _is_listed_before(self, read_at: float) -> bool:
        cached = self.listed.cached
        return cached is not None and cached[0] < read_at

    def _fresh_list(self, known: _Known | None) -> Mapping[str, records.DomainItem]:
        """Return the list, fresh enough for the wait; empty if unreadable, but common failures."""
        if self._clock() < self._unlisted_until:
            return {}
        try:
            return self.listed.get(age=self._list_age(known))
        except QiniuFailure as failure:
            if failure.is_common:
                raise
            log.info("the list of domains cannot be read; each is read by itself: %s", failure)
            self._unlisted_until = self._clock() + LIST_AGE
            return {}

    def _list_age(self, known: _Known | None) -> float:
        """Return how old the list may be: the share of `core.reasons`' rule that targets decide."""
        if known is None or known.at_work_since is None:
            return LIST_AGE
        waited = self._clock() - known.at_work_since
        return min(max(waited / 60 + 0.2, self._freshest()), LIST_AGE)

    def _freshest(self) -> float:
        cached = self.listed.cached
        count = 0 if cached is None else len(cached[1])
        return 0 if count <= CROWD else count / DOMAINS_PER_SECOND


def shows_no_change(item: records.DomainItem, detail: records.DomainItem) -> bool:
    """Return whether the list shows the change, task and state that the detail was read with."""
    pairs = ((item.modify_at, detail.modify_at), (item.oper_task_id, detail.oper_task_id))
    known = [one == other for one, other in pairs if one and other]
    return bool(known) and all(known) and item.operating_state == detail.operating_state


def _as_listed(detail: records.DomainRecord, item: records.DomainItem) -> records.DomainRecord:
    return msgspec.structs.replace(
        detail,
        operating_state=AT_WORK,
        operating_state_desc=None,
        operation_type=str(item.operation_type or "") or None,
        modify_at=item.modify_at,
        oper_task_id=item.oper_task_id,
    )


ATTEMPTS = 2  # at a write whose answer does not come
# Seconds before each search for a write without an answer: it may still be on its way.
SEARCHES = (0.5, 1.5, 4.0)


@dataclass(frozen=True, slots=True)
class Settler:
    """Makes writes that may be lost."""

    pause: Pause

    def until_settled(self, write: Callable[[], T], find: Callable[[], T | None]) -> T:
        """Write; when the answer is lost, find out whether it was done before doing it again."""
        for _ in range(ATTEMPTS):
            try:
                return write()
            except QiniuFailure as failure:
                if not failure.maybe_done:
                    raise
                lost = failure
            for seconds in SEARCHES:
                self.pause(seconds)
                if (found := find()) is not None:
                    return found
        raise lost


_QUOTA = "most certificates"
_NAMES, _SHORT = "names of certificates", "short"
"""A note of the account, and what it says where the usual name of a certificate is too long."""
_TOO_LONG = "name too long"  # as in "certification name too long", whose code is not known (§4.1)


class QuotaNote(msgspec.Struct, frozen=True):
    """What the account's memory keeps: how many there were when one more was refused."""

    held: int
    at: datetime


@dataclass(eq=False)
class Copies:
    """Copies of certificates at one account, and how many it may hold. `now` is the wall clock."""

    client: QiniuClient
    certificates: Certificates
    settler: Settler
    memory: AccountMemory
    now: Callable[[], datetime]
    _uploading: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def _quota(self) -> Notes[QuotaNote]:
        return Notes(self.memory, QuotaNote)

    def of(self, lineage: str, known: Sequence[Certificate]) -> Iterator[RemoteCertificate]:
        """Find the copies of a lineage's certificates, by mark, names and dates."""
        for certificate in known:
            for record in _copies(lineage, certificate, self.certificates.all()):
                label, proof = record.label, certificate.fingerprint
                yield RemoteCertificate(record.certid, label, proof, certificate.not_after)

    def others(self, ours: Sequence[RemoteCertificate]) -> Iterator[OtherCertificate]:
        """Return every certificate of the account but ours."""
        ids = {remote.remote_id for remote in ours}
        listed = self.certificates.all().values()
        return (_other(record) for record in listed if record.certid not in ids)

    def unremembered(
        self, lineage: str, known: Sequence[Certificate]
    ) -> Iterator[OtherCertificate]:
        """Return what has the lineage's label and is not known; nothing where nothing is known."""
        if not known:
            return
        labels = {label for one in known for label in lineages.labels_of(lineage, one.fingerprint)}
        begins, ours = lineages.prefixes(lineage), lineages.owners(lineage)
        for record in self.certificates.all().values():
            name = record.name or ""
            if name.startswith(begins) and name not in labels and lineages.owner_of(name) in ours:
                yield _other(record)

    def quota(self) -> Quota | None:
        """Return how full the account is, `None` where it refused nothing in the last day."""
        refused = self._quota.read(_QUOTA)
        if refused is None or not timedelta(0) <= self.now() - refused.at < TRIED_AGAIN:
            return None
        held = len(self.certificates.all())
        return Quota(held, refused.held, refused.at + TRIED_AGAIN)

    def forget_refusal(self) -> None:
        """See `ports.target.LimitedTarget`."""
        self._quota.remove(_QUOTA)

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Adopt the copy that is there, or upload one. One upload at a time for the account."""

        def find(listed: Mapping[str, CertificateRecord]) -> str | None:
            copies = _copies(lineage, bundle.certificate, listed)
            return copies[0].certid if copies else None

        with self._uploading:
            found = None
            try:
                found = find(self.certificates.for_uploads())
            except errors.QiniuFailure as unread:
                # A list in an unknown shape would hold up every upload for ever; one that does not
                # come holds the run up, since there may be a copy in it.
                if unread.is_common or unread.is_passing:
                    raise
            return found or self.settler.until_settled(
                lambda: self._upload(lineage, bundle),
                lambda: find(self.certificates.all(anew=True)),
            )

    def forget(self, remote_id: str) -> None:
        """Have the next upload look again for what Qiniu says it does not have."""
        self.certificates.forget_own(remote_id)
        self.certificates.forget()

    def retire(self, copy: CertificateRecord, label: str, *, unmanaged: bool) -> bool:
        """Remove a copy whose name is the label: a mark of ours, unless it is `unmanaged`."""
        if copy.label != label or not (unmanaged or lineages.owner_of(label) is not None):
            sentence = Text("certificate {id} at Qiniu does not carry our mark {label}")
            hint = Text("certferry removes only what it uploaded; look at it in Qiniu's console")
            raise errors.rejected(sentence, hint, id=short(copy.certid), label=label)
        self.certificates.forget_own(copy.certid)
        return self.settler.until_settled(
            lambda: self._remove(copy.certid),
            lambda: copy.certid not in self.certificates.all(anew=True) or None,
        )

    def _upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Upload under the usual name, or under a short one where that was once too long."""
        fingerprint = bundle.certificate.fingerprint
        if self.memory.note(_NAMES) == _SHORT:
            return self._upload_as(lineages.short_label_of(lineage, fingerprint), bundle)
        try:
            return self._upload_as(lineages.label_of(lineage, fingerprint), bundle)
        except errors.QiniuFailure as failure:
            if failure.maybe_done or _TOO_LONG not in failure.words.lower():
                raise
        cert_id = self._upload_as(lineages.short_label_of(lineage, fingerprint), bundle)
        self.memory.update(_NAMES, lambda _: _SHORT)
        return cert_id

    def _upload_as(self, name: str, bundle: CertificateBundle) -> str:
        certificate = bundle.certificate
        common_name = certificate.common_name or certificate.names[0]
        upload = UploadBody(name, common_name, bundle.fullchain_pem, bundle.privkey_pem.reveal())
        try:
            cert_id = self.client.upload_certificate(upload)
        except errors.QiniuFailure as failure:
            if failure.code == errors.ACCOUNT_FULL:
                self._note_full()
            raise
        self._quota.remove(_QUOTA)
        moments = (int(certificate.not_before.timestamp()), int(certificate.not_after.timestamp()))
        record = CertificateRecord(cert_id, name, certificate.names, *moments)
        self.certificates.note_own(cert_id, record)
        return cert_id

    def _note_full(self) -> None:
        """Remember that an upload was refused. How many there are now is read anew."""
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
    """List the copies of a certificate, oldest first, so that every run adopts the same one."""
    labels = lineages.labels_of(lineage, certificate.fingerprint)
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
    return OtherCertificate(record.certid, record.label, record.ends, not_before=record.begins)
