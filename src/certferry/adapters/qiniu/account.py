"""A Qiniu account's certificates and domains, shared by all lineages of a run.

- `Store` lists, uploads and removes certificates, for `adapters.cdn.copies`. Qiniu's lists lag
  behind writes by some seconds (docs/facts/qiniu.md §5.1).
- `Details` caches the detail of each domain for some minutes while the list of domains shows no
  change: at ten requests a second, ten thousand details take a quarter of an hour.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from certferry.adapters.cdn.answers import name_here, with_leading_dot
from certferry.adapters.cdn.caches import LIST_AGE, Clock, Notes, TtlCache
from certferry.adapters.cdn.copies import StoredCertificate
from certferry.adapters.qiniu import records
from certferry.adapters.qiniu.errors import NO_SUCH_CERTIFICATE, NO_SUCH_DOMAIN, QiniuFailure
from certferry.adapters.qiniu.qiniu_client import QiniuClient
from certferry.adapters.qiniu.records import UploadBody
from certferry.core.certificates import lineage as lineages
from certferry.core.certificates.certificate import CertificateBundle
from certferry.ports.state import AccountMemory

log = logging.getLogger(__name__)

DETAIL_AGE = 300.0
"""Seconds until a detail is read again although the list shows no change: certferry
only guesses that the list shows every change of a domain."""
TASK_AGE = 900.0  # the same while Qiniu works on the domain: the list shows the end of the work
NOTE_AGE = timedelta(hours=36)
"""How long later runs may use a stored detail: the next daily run uses it, the second one reads
every detail again."""

CROWD, DOMAINS_PER_SECOND = 100, 400
"""In an account with at most `CROWD` domains, the age of the list follows only the wait. In a
larger account, the list may also be a second old for every `DOMAINS_PER_SECOND` domains, so reading
the list leaves requests for the changes."""

AT_WORK = "processing"

_NAMES, _SHORT = "names of certificates", "short"
"""Name and value of the note that Qiniu refused a certificate's usual name as too long."""
_TOO_LONG = "name too long"  # as in "certification name too long", of unknown code (§4.1)


class Store(Struct, frozen=True):
    """See `CertificateStore`."""

    client: QiniuClient
    memory: AccountMemory

    def certificates(self) -> Iterator[StoredCertificate]:
        return (record.stored for record in self.client.list_certificates())

    def upload(self, lineage: str, bundle: CertificateBundle) -> StoredCertificate:
        """Upload under the usual label, or under the short label after Qiniu has refused a usual
        label as too long.
        """
        certificate, pem, key = bundle.certificate, bundle.fullchain_pem, bundle.privkey_pem
        usual = lineages.label_of(lineage, certificate.fingerprint)
        short_label = lineages.short_label_of(lineage, certificate.fingerprint)
        is_short = self.memory.note(_NAMES) == _SHORT
        common_name = certificate.common_name or certificate.names[0]
        for label in (short_label,) if is_short else (usual, short_label):
            try:
                cert_id = self.client.upload_certificate(
                    UploadBody(label, common_name, pem, key.reveal())
                )
                break
            except QiniuFailure as failure:
                is_too_long = _TOO_LONG in failure.words.lower() and not failure.maybe_done
                if label == short_label or not is_too_long:
                    raise
        if label == short_label and not is_short:
            self.memory.update(_NAMES, lambda _: _SHORT)
        moments = (int(certificate.not_before.timestamp()), int(certificate.not_after.timestamp()))
        return StoredCertificate(cert_id, label, certificate.names, *moments)

    def remove(self, remote_id: str) -> bool:
        try:
            self.client.delete_certificate(remote_id)
        except QiniuFailure as failure:
            if failure.code not in NO_SUCH_CERTIFICATE:
                raise
            return False
        return True


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

    `read` may return a cached detail, and is for observations. `read_now` asks Qiniu, and is for
    writes, and for observations after another run's change. `clock` is monotonic, `now` is the wall
    clock.
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
        # By domain. None means that the stored note was used or removed, so the next reader asks
        # Qiniu.
        self._known: dict[str, _Known | None] = {}
        self._unlisted_until = clock()

    def read(self, domain: str) -> records.DomainRecord:
        """Return a domain's detail for an observation. Raises `QiniuFailure`.

        A cached detail is returned if young enough (`DETAIL_AGE`, `TASK_AGE`) and if the list shows
        no change. If the list shows that Qiniu is at work, the cached detail is returned with the
        listed state. A detail stored by an earlier run is used at most once, so later decisions
        rest on a detail of this run.
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
        # While Qiniu works, the domain keeps its certificate and settings. Only the state changes.
        return self._keep(domain, _as_listed(cached.detail, item), cached.read_at)

    def read_now(self, domain: str) -> records.DomainRecord:
        """Read a domain's detail from Qiniu, and cache the detail. If the domain's last change
        succeeded, store the detail for later runs. Raises `QiniuFailure`.
        """
        read_at = self._clock()
        try:
            detail = self._client.read_domain(with_leading_dot(domain))
        except QiniuFailure as failure:
            if failure.code in NO_SUCH_DOMAIN:
                self._known[domain] = None
            raise
        if detail.operating_state == "success":
            self._notes.write(domain, Note(self._now(), detail))
        return self._keep(domain, detail, read_at)

    def survey(self, item: records.DomainItem) -> records.DomainRecord:
        """Return a listed domain's detail. The detail of a domain with HTTP only is made from the
        list. For any other domain, return the stored detail if the list shows no change, and
        otherwise ask Qiniu. Raises `QiniuFailure`.
        """
        if (without_https := item.without_https) is not None:
            return without_https
        note = self._note(name_here(item.name))
        if note is not None and shows_no_change(item, note):
            return note
        return self._client.read_domain(item.name)

    def doubt(self, domain: str) -> None:
        """Have the next observation read a domain from Qiniu, because the domain's edges contradict
        the cached detail. The list may show no change of the domain. A detail younger than
        `LIST_AGE` is kept.
        """
        cached = self._known.get(domain)
        if cached is None or self._clock() - cached.read_at >= LIST_AGE:
            self._known[domain] = None
            self._notes.remove(domain)

    def forget(self, domain: str) -> None:
        """Drop the cached and the stored detail of a domain that is about to change."""
        self._known[domain] = None
        self._notes.remove(domain)

    def note_change(self, domain: str, before: records.DomainRecord) -> None:
        """Cache that Qiniu works on a domain, until a newer list or detail shows another state.
        `before` is the detail from before the change.
        """
        processing = msgspec.structs.replace(
            before, operating_state=AT_WORK, modify_at=None, oper_task_id=None
        )
        if self._freshest() == 0:
            self.listed.forget()
        self._keep(domain, processing, self._clock())

    def _list(self) -> dict[str, records.DomainItem]:
        return {name_here(item.name): item for item in self._client.list_domains()}

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
        """Return the list of domains, at most as old as `_list_age` allows. If only this list
        cannot be read, return an empty mapping, for the next `LIST_AGE` as well.

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
        """Return how old the list may be, in seconds. The longer a run has waited for Qiniu's work,
        the rarer are the run's passes (`core.reasons.wait_for`), and the older the list may be.
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
    """Return whether list and detail agree on the state, and on the moment and the task of the last
    change. A moment or a task that is missing on either side is not compared. If neither moment nor
    task can be compared, return `False`.
    """
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
