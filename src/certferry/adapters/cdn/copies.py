"""Copies of our certificates in a service's store of certificates.

- `Certificates` caches the store's list for all lineages of a run, and adds the uploads and
  removals of this process: lists lag behind writes, and a copy missing from the list would be
  uploaded again.
- `Copies` finds our copies by fingerprint, serial or label, and uploads and removes copies.

Each vendor implements the `CertificateStore`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

import msgspec
from msgspec import Struct

from certferry.adapters.cdn.answers import shown_hosts, shown_name
from certferry.adapters.cdn.caches import LIST_AGE, Clock, Notes, TtlCache
from certferry.adapters.cdn.failure import CallFailure, rejected
from certferry.adapters.cdn.settling import Settler
from certferry.core.certificates import lineage as lineages
from certferry.core.certificates.certificate import (
    Certificate,
    CertificateBundle,
    covered_by,
    short,
)
from certferry.core.observed.observation import ObservedTarget, RemoteCertificate, Scope
from certferry.core.observed.records import TRIED_AGAIN, OtherCertificate, Quota
from certferry.ports.state import AccountMemory
from certferry.text import Text
from certferry.values import replace

log = logging.getLogger(__name__)

CERTIFICATES_AGE = 30.0  # seconds; `Certificates` adds the writes of this process to the list
PER_SECOND = 50  # before an upload, the list may be a second older for every 50 certificates
OWN_WRITES_AGE = 120.0  # seconds after which every list shows our writes


class StoredCertificate(Struct, frozen=True):
    """A certificate in a service's store. Moments are unix seconds. `None` means that the service's
    list lacks the fact.
    """

    #: The service's id, or the service's name of the certificate where the service has no ids.
    remote_id: str
    #: The name given at upload, only for comparisons: a service may quote a key in any answer.
    name: str = ""
    #: The DNS names as listed.
    names: tuple[str, ...] | None = None
    #: The beginning of the validity.
    not_before: int | None = None
    #: The end of the validity.
    not_after: int | None = None
    #: When the service stored the certificate.
    created: int | None = None
    #: The SHA-256 of the leaf, in lowercase hexadecimal.
    fingerprint: str | None = None
    #: The serial as a number, because services write serials with and without leading zeros.
    serial: int | None = None

    @classmethod
    def of(cls, remote_id: str, name: str, certificate: Certificate) -> StoredCertificate:
        """Return the copy that an upload made."""
        begins, ends = certificate.not_before, certificate.not_after
        moments = int(begins.timestamp()), int(ends.timestamp())
        proof = certificate.fingerprint
        return cls(remote_id, name, certificate.names, *moments, fingerprint=proof)

    @property
    def label(self) -> str:
        """The name for operators, see `shown_name`."""
        return shown_name(self.name)

    @property
    def shown_names(self) -> tuple[str, ...] | None:
        """The well-formed DNS names in lowercase; `None` if the list lacks names."""
        return None if self.names is None else shown_hosts(self.names)

    @property
    def begins(self) -> datetime | None:
        """The beginning of the validity."""
        return _moment(self.not_before)

    @property
    def ends(self) -> datetime | None:
        """The moment of expiry."""
        return _moment(self.not_after)

    def may_cover(self, domain: str) -> bool:
        """Return whether the certificate covers a domain, or the list lacks the names."""
        return self.names is None or covered_by(self.names, domain)

    @property
    def age_order(self) -> tuple[int, str]:
        """Sorts the oldest of several copies first, so every run chooses the same copy."""
        return (self.created or 0, self.remote_id)


def _moment(seconds: int | None) -> datetime | None:
    """Read unix seconds; return `None` for zero and for a moment outside the calendar."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


class CertificateStore(Protocol):
    """A service's store of certificates. Every method raises `CallFailure`."""

    def certificates(self) -> Iterable[StoredCertificate]:
        """List every certificate of the account."""

    def upload(self, lineage: str, bundle: CertificateBundle) -> StoredCertificate:
        """Upload a certificate under a label of the lineage, and return the copy. A service that
        recognises the certificate may return an earlier copy.

        The failure says whether the account is full.
        """

    def remove(self, remote_id: str) -> bool:
        """Remove a certificate, and return whether the certificate was there. The failure's error
        is a `TargetInUse` if the service refuses, because something uses the certificate.
        """


class Certificates:
    """The certificates of an account, by id. Reading them raises `CallFailure`."""

    def __init__(self, store: CertificateStore, clock: Clock) -> None:
        self._clock = clock
        self._listed = TtlCache(
            lambda: {record.remote_id: record for record in store.certificates()},
            CERTIFICATES_AGE,
            clock,
        )
        self._lock = threading.Lock()
        # The uploads and removals of this process, by id: the moment, and the uploaded record, or
        # None for a removal.
        self._own: dict[str, tuple[float, StoredCertificate | None]] = {}

    def all(self, *, anew: bool = False, age: float | None = None) -> dict[str, StoredCertificate]:
        """Return the listed certificates by id, with the writes of this process applied. `anew` and
        `age` are those of `TtlCache.get`.
        """
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

    def find(self, cert_id: str) -> StoredCertificate | None:
        """Return a certificate, from the cached list or else from a list read anew. Return `None`
        if both lists lack the id.
        """
        return self.all().get(cert_id) or self.all(anew=True).get(cert_id)

    def for_uploads(self) -> dict[str, StoredCertificate]:
        """Return the list to search for a copy before an upload.

        The list is at most `LIST_AGE` old, because another machine may have uploaded the copy a
        moment ago. A long list takes long to read, and may be older: by a second for every
        `PER_SECOND` certificates.
        """
        cached = self._listed.cached
        return self.all(age=max(LIST_AGE, 0.0 if cached is None else len(cached[1]) / PER_SECOND))

    def note_own(self, cert_id: str, record: StoredCertificate | None) -> None:
        """Store a write of this process: an uploaded record, or `None` for a removal."""
        with self._lock:
            self._own[cert_id] = (self._clock(), record)

    def forget_own(self, cert_id: str) -> None:
        """Drop the stored write of this process for an id, so that only the service's list tells
        whether the certificate is there.
        """
        with self._lock:
            self._own.pop(cert_id, None)

    def forget(self) -> None:
        """Have the next caller read the list again."""
        self._listed.forget()


_QUOTA = "most certificates"


class QuotaNote(msgspec.Struct, frozen=True):
    """The last refusal of an upload to a full account, as stored in the account's memory."""

    #: Certificates in the account at the refusal.
    held: int
    #: When the service refused the upload.
    at: datetime


@dataclass(eq=False)
class Copies:
    """Our copies of certificates at one account, and the account's quota."""

    #: The service's store.
    store: CertificateStore
    #: The service's name for people.
    service: Text
    #: The cached list of the store.
    certificates: Certificates
    #: Repeats uploads and removals whose answers were lost.
    settler: Settler
    #: Keeps the last refusal of an upload.
    memory: AccountMemory
    #: The wall clock.
    now: Callable[[], datetime]
    #: Whether a copy counts as in use until the certificate's end.
    lasting: bool = False
    #: Held during an upload, so two lineages upload one after the other.
    _uploading: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def _quota(self) -> Notes[QuotaNote]:
        return Notes(self.memory, QuotaNote)

    def of(self, lineage: str, issued: Sequence[Certificate]) -> Iterator[RemoteCertificate]:
        """Yield the copies of a lineage's certificates, see `_is_copy`."""
        for certificate in issued:
            for record in _copies(lineage, certificate, self.certificates.all()):
                label, proof, ends = record.label, certificate.fingerprint, certificate.not_after
                in_use = ends if self.lasting else None
                yield RemoteCertificate(record.remote_id, label, proof, ends, in_use)

    def added_to(
        self, target: ObservedTarget, scope: Scope, more: Iterable[RemoteCertificate] = ()
    ) -> ObservedTarget:
        """Add the copies of the lineage's certificates and `more` copies to an observation, with
        the quota and the scope's other certificates. Raises `CallFailure`.
        """
        ours = (*self.of(scope.lineage, scope.known), *more)
        ids = {remote.remote_id for remote in ours}
        listed = self.certificates.all().values() if scope.others else ()
        others = (self._other(record) for record in listed if record.remote_id not in ids)
        return replace(
            target,
            remotes=ours,
            others=tuple(others),
            unremembered=tuple(self.unremembered(scope.lineage, scope.known)),
            quota=self.quota(),
        )

    def unremembered(
        self, lineage: str, issued: Sequence[Certificate]
    ) -> Iterator[OtherCertificate]:
        """Yield the copies that certferry uploaded for the lineage, by the label, and that are not
        copies of the certificates in `issued`.

        If `issued` is empty, yield nothing, because every copy would be in the result.
        """
        if not issued:
            return
        labels = {
            label
            for certificate in issued
            for label in lineages.labels_of(lineage, certificate.fingerprint)
        }
        begins, ours = lineages.prefixes(lineage), lineages.owners(lineage)
        for record in self.certificates.all().values():
            name = record.name
            if name.startswith(begins) and name not in labels and lineages.owner_of(name) in ours:
                yield self._other(record)

    def quota(self) -> Quota | None:
        """Return how full the account is; `None` unless the service refused an upload within
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
        """Upload a certificate unless the account has a copy, and return the id of the copy.
        Uploads to an account are made one at a time. Raises `CallFailure`.
        """

        def find(listed: Mapping[str, StoredCertificate]) -> str | None:
            copies = _copies(lineage, bundle.certificate, listed)
            return copies[0].remote_id if copies else None

        with self._uploading:
            cert_id = None
            try:
                cert_id = find(self.certificates.for_uploads())
            except CallFailure as unread:
                # A list that cannot be read now may have a copy, so the upload must wait. A list in
                # an unknown form would stop every upload for ever, so the upload goes on.
                if unread.is_common or unread.is_passing:
                    raise
            return cert_id or self.settler.until_settled(
                partial(self._upload, lineage, bundle),
                lambda: find(self.certificates.all(anew=True)),
            )

    def forget(self, remote_id: str) -> None:
        """Drop the stored facts about a copy that the service says is gone. The next upload then
        reads the list again.
        """
        self.certificates.forget_own(remote_id)
        self.certificates.forget()

    def retire(self, copy: StoredCertificate, label: str, *, unmanaged: bool) -> bool:
        """Remove a copy named `label`; return whether the copy was there.

        Raises `TargetRejected` if the copy has another name, or if the label is not certferry's;
        the label of an `unmanaged` certificate may be anyone's. Raises `CallFailure`.
        """
        if copy.label != label or not (unmanaged or lineages.owner_of(label) is not None):
            sentence = Text("certificate {id} at {service} does not carry certferry's mark {label}")
            hint = Text(
                "certferry removes only its own uploads; check the certificate in the console of"
                " {service}",
                service=self.service,
            )
            shown = {"id": short(copy.remote_id), "service": self.service, "label": label}
            raise rejected(sentence, hint, **shown)
        self.certificates.forget_own(copy.remote_id)
        return self.settler.until_settled(
            lambda: self._remove(copy.remote_id),
            lambda: copy.remote_id not in self.certificates.all(anew=True) or None,
        )

    def _upload(self, lineage: str, bundle: CertificateBundle) -> str:
        try:
            copy = self.store.upload(lineage, bundle)
        except CallFailure as failure:
            if failure.is_full:
                self._note_full()
            raise
        self._quota.remove(_QUOTA)
        self.certificates.note_own(copy.remote_id, copy)
        return copy.remote_id

    def _note_full(self) -> None:
        """Store that the account is full, with the present number of certificates. Store nothing if
        the list is unreadable.
        """
        try:
            listed = self.certificates.all(anew=True)
        except CallFailure as failure:
            log.info("how many certificates there are cannot be seen: %s", failure)
        else:
            self._quota.write(_QUOTA, QuotaNote(len(listed), self.now()))

    def _remove(self, remote_id: str) -> bool:
        was_there = self.store.remove(remote_id)
        if was_there:
            self.certificates.note_own(remote_id, None)
        return was_there

    def _other(self, record: StoredCertificate) -> OtherCertificate:
        in_use, begins = record.ends if self.lasting else None, record.begins
        return OtherCertificate(
            record.remote_id, record.label, record.ends, in_use_until=in_use, not_before=begins
        )


def _copies(
    lineage: str, certificate: Certificate, listed: Mapping[str, StoredCertificate]
) -> list[StoredCertificate]:
    """Return the copies of a certificate, oldest first, so every run adopts the same copy."""
    labels = lineages.labels_of(lineage, certificate.fingerprint)
    copies = (record for record in listed.values() if _is_copy(record, certificate, labels))
    return sorted(copies, key=lambda record: record.age_order)


def _is_copy(record: StoredCertificate, certificate: Certificate, labels: Collection[str]) -> bool:
    """Return whether `record` is a copy of `certificate`. If the fingerprint is listed, the
    fingerprint decides. Otherwise the listed names, dates and serial must fit. If the serial is not
    listed, the record's name must be one of our `labels`.
    """
    if record.fingerprint is not None:
        return record.fingerprint == certificate.fingerprint
    names = {name.lower() for name in record.names or certificate.names}
    if record.serial is None:
        is_same = record.name in labels
    else:
        is_same = record.serial == int(certificate.serial, 16)
    return (
        is_same
        and names == set(certificate.names)
        and record.not_before in {None, int(certificate.not_before.timestamp())}
        and record.not_after in {None, int(certificate.not_after.timestamp())}
    )
