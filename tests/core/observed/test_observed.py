"""What is made of observations: changes, what is inferred, what the ledger keeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.lineage import label_of, labels_of, short_label_of
from certferry.core.desired.certificate import Kind
from certferry.core.observed.inferred import (
    LastChange,
    Owner,
    UploadOwners,
    likely_binding,
    with_unlisted_copies,
)
from certferry.core.observed.observation import (
    Change,
    DomainState,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
    Served,
)
from certferry.core.observed.records import NO_LINEAGE, OtherCertificate, Remembered, Upload
from tests.core.strategies import LINEAGE, NOW, certificate, fingerprints, version

# --- What a step changes: as it is for programs, in words for people


OLD, NEW = "0123456789abcdef" * 4, "fedcba9876543210" * 4
ID = "5f3c8a0e7b9d4c21a6f01e37"


@pytest.mark.parametrize(
    ("change", "was", "becomes"),
    [
        (Change("certificate", OLD, NEW, remote_id="5f3c"), OLD[:12], NEW[:12]),
        (Change("certificate", None, NEW, remote_id=ID), ID[:12], NEW[:12]),
        (Change("certificate", None, None), "—", "…"),
        (Change("certificate", None, None, untold=True), "unknown", "…"),
        (Change("http2", None, "true", untold=True), "unknown", "true"),
        (Change("http2", "false", "true"), "false", "true"),
        (Change("privkey.pem", "missing", "delivered"), "missing", "delivered"),
    ],
)
def test_people_read_a_short_form(change: Change, was: str, becomes: str) -> None:
    """A certificate by the beginning of its fingerprint, or by the target's id where no more is
    known of it. What there was not, and what is to come, has a mark that no document has.
    """
    assert (was, becomes) == (change.was, change.becomes)


# --- Which certificate is bound where the target does not tell: the edges, and our last change


OBSERVED_AT = datetime(2026, 11, 1, tzinfo=UTC)
TIMEOUT = timedelta(hours=1)
OURS = ("a", "b")
REMOTES = [RemoteCertificate(f"id-{name}", name, name, OBSERVED_AT) for name in OURS]


def edges(*fingerprints: str | None, silent: bool = False) -> list[Served]:
    return [
        Served(f"192.0.2.{n}", f, valid=True, silent=silent) for n, f in enumerate(fingerprints)
    ]


def last(fingerprint: str, *, ago: timedelta, seen: bool) -> LastChange:
    return LastChange(fingerprint, OBSERVED_AT - ago, seen)


def likely(served: list[Served], change: LastChange | None = None) -> str | None:
    return likely_binding(REMOTES, served, change, OBSERVED_AT, TIMEOUT)


def test_a_change_of_a_moment_ago_counts_before_the_edges() -> None:
    """They serve what was before for a while: it is not asked for again."""
    change = last("b", ago=timedelta(minutes=5), seen=False)

    assert "id-b" == likely(edges("a", "a"), change)
    assert "id-b" == likely(edges("stranger"), change)


def test_a_change_that_never_arrived_counts_no_more() -> None:
    """After the timeout, what the edges serve counts: it is asked for again."""
    change = last("b", ago=TIMEOUT, seen=False)

    assert "id-a" == likely(edges("a"), change)
    assert None is likely(edges("stranger"), change)


def test_what_every_edge_serves_is_bound() -> None:
    """Also when nothing is remembered; one that serves another says that nothing is certain."""
    assert "id-a" == likely(edges("a", "a"))
    assert None is likely(edges("a", "b"))
    assert None is likely(edges("a", None))
    assert None is likely(edges())


def test_where_no_edge_answers_the_record_counts() -> None:
    """A domain that is not reached is not bound again in every run."""
    change = last("a", ago=10 * TIMEOUT, seen=True)

    assert "id-a" == likely(edges(None, silent=True), change)
    assert "id-a" == likely([], change)


@given(
    st.lists(st.sampled_from([*OURS, "stranger", None])),
    st.booleans(),
    st.none()
    | st.builds(
        last,
        st.sampled_from([*OURS, "gone"]),
        ago=st.timedeltas(timedelta(0), timedelta(days=9)),
        seen=st.booleans(),
    ),
)
def test_only_what_is_ours_is_ever_taken_for_bound(
    fingerprints: list[str | None],
    silent: bool,  # noqa: FBT001 - given by hypothesis
    change: LastChange | None,
) -> None:
    """A copy that is not there is not bound, whatever the record says."""
    found = likely(edges(*fingerprints, silent=silent), change)

    assert found in {None, "id-a", "id-b"}


def test_bound_copy_of_ours_is_known_before_it_is_listed() -> None:
    """Another run has uploaded and bound it: the state knows it, the target's list does not yet.
    Copies of ours that nothing is bound to are not made up.
    """
    known = version(1, certificate())
    fingerprint = known.certificate.fingerprint
    uploads = [
        Upload("img", "qiniu", remote_id, "label", fingerprint, OBSERVED_AT)
        for remote_id in ("new", "old")
    ]
    domain = ObservedDomain("img.example.com", Kind.CDN, DomainState.READY, bound="new")

    found = with_unlisted_copies(ObservedTarget(domains=(domain,)), [known], uploads)

    assert ["new"] == [remote.remote_id for remote in found.remotes]
    assert fingerprint == found.fingerprint_of(domain.bound)
    assert found == with_unlisted_copies(found, [known], uploads)


def test_bound_copy_with_a_former_name_is_none_that_may_go() -> None:
    """After a rename it carries another lineage's mark: it is no certificate of others."""
    known = version(1, certificate())
    upload = Upload("pics", "qiniu", "id", "old", known.certificate.fingerprint, OBSERVED_AT)
    domain = ObservedDomain("img.example.com", Kind.CDN, DomainState.READY, bound="id")
    others = (
        OtherCertificate("id", "old", OBSERVED_AT),
        OtherCertificate("another", "", OBSERVED_AT),
    )

    found = with_unlisted_copies(
        ObservedTarget(domains=(domain,), others=others), [known], [upload]
    )

    assert ["id"] == [remote.remote_id for remote in found.remotes]
    assert ["another"] == [other.remote_id for other in found.others]


# --- Which certificates at an account are ours, by what is remembered of them


CERTIFICATE = certificate()
FINGERPRINT = CERTIFICATE.fingerprint


def upload(remote_id: str, *, lineage: str = LINEAGE, target: str = "qiniu") -> Upload:
    return Upload(lineage, target, remote_id, label_of(LINEAGE, FINGERPRINT), FINGERPRINT, NOW)


def ledger(*uploads: Upload) -> UploadOwners:
    """Remember one certificate, and these copies of it."""
    return UploadOwners([(LINEAGE, Remembered((version(1, CERTIFICATE),), uploads=uploads))])


def test_upload_that_is_remembered_is_ours_whatever_it_is_called() -> None:
    """The account's id is enough, at that account alone."""
    known = ledger(upload("id-1"))

    assert Owner.OURS == known.owner("qiniu", "id-1", "renamed by hand")
    assert FINGERPRINT == known.fingerprint("qiniu", "id-1", "renamed by hand")
    assert Owner.FOREIGN == known.owner("other", "id-1", "renamed by hand")
    assert known.fingerprint("other", "id-1", "renamed by hand") is None


def test_label_of_a_known_certificate_shows_which_it_is() -> None:
    """Also where the upload itself is not remembered, under either name."""
    for label in labels_of(LINEAGE, FINGERPRINT):
        assert Owner.OURS == ledger().owner("qiniu", "id-1", label)
        assert FINGERPRINT == ledger().fingerprint("qiniu", "id-1", label)


@given(st.sampled_from([label_of, short_label_of]), st.text(min_size=1, max_size=40), fingerprints)
def test_any_label_is_ours_without_a_state(
    make: Callable[[str, str], str], lineage: str, fingerprint: str
) -> None:
    """Another machine's upload, or one from before the state was lost; which it is, is unknown."""
    label = make(lineage, fingerprint)

    assert Owner.OURS == UploadOwners().owner("qiniu", "id-1", label)
    assert UploadOwners().fingerprint("qiniu", "id-1", label) is None


def test_what_is_only_known_to_be_in_use_is_foreign() -> None:
    """A note that a stranger's certificate could not be removed makes it no upload of ours."""
    assert Owner.FOREIGN == ledger(upload("id-1", lineage=NO_LINEAGE)).owner("qiniu", "id-1", "x")


def test_copy_is_named_where_it_is_the_only_one() -> None:
    """Which of two copies is bound nothing tells."""
    one, two = upload("id-1"), upload("id-2")

    assert "id-1" == ledger(one).remote_id("qiniu", FINGERPRINT)
    assert ledger(one, two).remote_id("qiniu", FINGERPRINT) is None
    assert ledger(one).remote_id("other", FINGERPRINT) is None
    assert CERTIFICATE == ledger().issued(FINGERPRINT)
    assert ledger().issued("00" * 32) is None
