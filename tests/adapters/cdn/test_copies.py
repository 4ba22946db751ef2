"""Copies in stores whose lists show a fingerprint, a serial, or neither."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import pytest

from certferry.adapters.cdn.copies import (
    CERTIFICATES_AGE,
    OWN_WRITES_AGE,
    Certificates,
    Copies,
    StoredCertificate,
)
from certferry.adapters.cdn.failure import CallFailure
from certferry.adapters.cdn.settling import SEARCHES, Settler
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.errors import TargetInUse, TargetRejected, TargetUnavailable
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.memory_issuer import MemoryAccount

NOW = datetime(2026, 12, 2, tzinfo=UTC)
BUNDLE = make_bundle("img.example.com", not_before=NOW)
OTHER = make_bundle("img.example.com", not_before=NOW)
LABEL = label_of("img", BUNDLE.certificate.fingerprint)

Facts = Callable[[CertificateBundle], StoredCertificate]
"""Makes the entry of a store's list, with an empty id and an empty name."""


def by_fingerprint(bundle: CertificateBundle) -> StoredCertificate:
    return StoredCertificate("", fingerprint=bundle.certificate.fingerprint)


def by_serial(bundle: CertificateBundle) -> StoredCertificate:
    return StoredCertificate("", serial=int("00" + bundle.certificate.serial, 16))


def by_dates(bundle: CertificateBundle) -> StoredCertificate:
    certificate = bundle.certificate
    begin, end = certificate.not_before.timestamp(), certificate.not_after.timestamp()
    return StoredCertificate("", "", certificate.names, int(begin), int(end))


class MemoryStore:
    """A store of certificates. The next writes are carried out and then raise the `failures`."""

    def __init__(self, facts: Facts, *, recognises: bool = False) -> None:
        self.held: dict[str, StoredCertificate] = {}
        self.facts, self.recognises = facts, recognises
        self.uploads = 0
        self.failures: list[CallFailure] = []

    def put(self, bundle: CertificateBundle, name: str) -> str:
        remote_id = f"id-{len(self.held)}"
        self.held[remote_id] = replace(self.facts(bundle), remote_id=remote_id, name=name)
        return remote_id

    def certificates(self) -> Iterable[StoredCertificate]:
        return list(self.held.values())

    def upload(self, lineage: str, bundle: CertificateBundle) -> StoredCertificate:
        self.uploads += 1
        same = self.facts(bundle)
        for held in self.held.values():
            if self.recognises and replace(held, remote_id="", name="") == same:
                return held
        remote_id = self.put(bundle, label_of(lineage, bundle.certificate.fingerprint))
        self._fail()
        return self.held[remote_id]

    def remove(self, remote_id: str) -> bool:
        self._fail()
        return self.held.pop(remote_id, None) is not None

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


class Service:
    """A service's copies, and time that only pauses move."""

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.pauses = store, list[float]()
        settler = Settler(self.pauses.append)
        self.certificates = Certificates(store, lambda: sum(self.pauses))
        memory = MemoryAccount(self.now)
        self.copies = Copies(store, Text("Harbour"), self.certificates, settler, memory, self.now)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=sum(self.pauses))

    def ids_of(self, bundle: CertificateBundle) -> list[str]:
        return [remote.remote_id for remote in self.copies.of("img", [bundle.certificate])]


def lost() -> CallFailure:
    return CallFailure(TargetUnavailable(Text("no answer")), maybe_done=True)


@pytest.mark.parametrize("facts", [by_fingerprint, by_serial])
def test_a_copy_under_another_name_is_not_uploaded_again(facts: Facts) -> None:
    """The fingerprint or the serial identifies the copy, whatever its name."""
    store = MemoryStore(facts)
    theirs = store.put(BUNDLE, "by hand")
    service = Service(store)

    assert theirs == service.copies.upload("img", BUNDLE)
    assert 0 == store.uploads
    assert [theirs] == service.ids_of(BUNDLE)


@pytest.mark.parametrize("facts", [by_fingerprint, by_serial])
def test_a_label_does_not_make_a_copy(facts: Facts) -> None:
    """A certificate with our label and another fingerprint or serial is another certificate."""
    store = MemoryStore(facts)
    store.put(OTHER, LABEL)
    service = Service(store)

    assert [] == service.ids_of(BUNDLE)
    assert "id-1" == service.copies.upload("img", BUNDLE)
    assert 1 == store.uploads


def test_a_list_without_identities_shows_only_our_labels() -> None:
    """Names and dates alone do not identify a certificate."""
    store = MemoryStore(by_dates)
    store.put(BUNDLE, "by hand")
    ours = store.put(BUNDLE, LABEL)

    assert [ours] == Service(store).ids_of(BUNDLE)


def test_a_service_that_recognises_a_certificate_answers_with_the_earlier_id() -> None:
    """A list that hides the copy costs an upload, and no second copy."""
    store = MemoryStore(by_dates, recognises=True)
    theirs = store.put(BUNDLE, "by hand")
    service = Service(store)

    assert theirs == service.copies.upload("img", BUNDLE)
    assert [theirs] == list(store.held)


@pytest.mark.parametrize("facts", [by_fingerprint, by_serial, by_dates])
def test_a_lost_answer_to_an_upload_is_settled_by_a_search(facts: Facts) -> None:
    """The copy of the first upload is found; there is no second upload."""
    store = MemoryStore(facts)
    store.failures.append(lost())
    service = Service(store)

    assert "id-0" == service.copies.upload("img", BUNDLE)
    assert 1 == store.uploads
    assert [SEARCHES[0]] == service.pauses


def test_a_refusal_of_a_full_account_is_noted_until_an_upload_succeeds() -> None:
    """The note holds the count; the next accepted upload removes the note."""
    store = MemoryStore(by_fingerprint)
    store.failures.append(CallFailure(TargetRejected(Text("full")), is_full=True))
    service = Service(store)

    with pytest.raises(CallFailure, match="full"):
        service.copies.upload("img", BUNDLE)

    quota = service.copies.quota()
    assert quota is not None
    assert (1, 1) == (quota.held, quota.most)
    service.copies.upload("img", OTHER)
    assert service.copies.quota() is None


def test_a_removal_refused_while_bound_leaves_the_copy() -> None:
    """The service's refusal reaches the caller, and the copy stays in the list."""
    store = MemoryStore(by_fingerprint)
    service = Service(store)
    ours = service.copies.upload("img", BUNDLE)
    service.pauses.append(CERTIFICATES_AGE)  # the list is read again, and shows the upload
    store.failures.append(CallFailure(TargetInUse(Text("in use"))))

    copy = service.certificates.find(ours)
    assert copy is not None
    with pytest.raises(CallFailure) as caught:
        service.copies.retire(copy, LABEL, unmanaged=False)

    assert isinstance(caught.value.error, TargetInUse)
    assert [ours] == service.ids_of(BUNDLE)


def test_a_copy_of_another_owner_is_never_removed_as_ours() -> None:
    """A copy found by fingerprint may be bound, and keeps its owner."""
    store = MemoryStore(by_fingerprint)
    store.put(BUNDLE, "by hand")
    service = Service(store)
    [copy] = service.certificates.all().values()

    with pytest.raises(TargetRejected, match="at Harbour does not carry certferry's mark"):
        service.copies.retire(copy, copy.label, unmanaged=False)

    assert ["id-0"] == list(store.held)


def test_a_removed_copy_is_gone_although_the_list_lags() -> None:
    """For two minutes the writes of this process count for more than the list."""
    store = MemoryStore(by_fingerprint)
    service = Service(store)
    ours = service.copies.upload("img", BUNDLE)
    copy = service.certificates.find(ours)
    assert copy is not None
    stale = store.held[ours]

    assert service.copies.retire(copy, LABEL, unmanaged=False)
    store.held[ours] = stale

    assert [] == service.ids_of(BUNDLE)
    service.pauses.append(OWN_WRITES_AGE)
    assert [ours] == service.ids_of(BUNDLE)
