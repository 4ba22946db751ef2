"""Changes, inferred bindings and owners of uploads, derived from observations."""

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

# --- The change of a step, in words for people


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
def test_short_form_of_a_change(change: Change, was: str, becomes: str) -> None:
    """A certificate is shown by the beginning of its fingerprint, or else by the target's id.
    Missing and future values have a mark that no document uses.
    """
    assert (was, becomes) == (change.was, change.becomes)


# --- The bound certificate at a target that hides bindings: the edges, and our last change


OBSERVED_AT = datetime(2026, 11, 1, tzinfo=UTC)
TIMEOUT = timedelta(hours=1)
OURS = ("a", "b")
REMOTES = [RemoteCertificate(f"id-{name}", name, name, OBSERVED_AT) for name in OURS]


def edges(*fingerprints: str | None, silent: bool = False) -> list[Served]:
    return [
        Served(f"192.0.2.{n}", f, valid=True, silent=silent) for n, f in enumerate(fingerprints)
    ]


def last(fingerprint: str, *, ago: timedelta, is_seen: bool) -> LastChange:
    return LastChange(fingerprint, OBSERVED_AT - ago, is_seen)


def likely(served: list[Served], change: LastChange | None = None) -> str | None:
    return likely_binding(REMOTES, served, change, OBSERVED_AT, TIMEOUT)


def test_recent_change_counts_before_the_edges() -> None:
    """The edges serve the earlier certificate for a while, so the change is not repeated."""
    change = last("b", ago=timedelta(minutes=5), is_seen=False)

    assert "id-b" == likely(edges("a", "a"), change)
    assert "id-b" == likely(edges("stranger"), change)


def test_change_that_timed_out_is_ignored() -> None:
    """After the timeout the served certificate counts, so the change is tried again."""
    change = last("b", ago=TIMEOUT, is_seen=False)

    assert "id-a" == likely(edges("a"), change)
    assert None is likely(edges("stranger"), change)


def test_certificate_that_every_edge_serves_is_bound() -> None:
    """Also without a stored change; edges with different certificates leave the binding unknown."""
    assert "id-a" == likely(edges("a", "a"))
    assert None is likely(edges("a", "b"))
    assert None is likely(edges("a", None))
    assert None is likely(edges())


def test_stored_change_counts_if_no_edge_answers() -> None:
    """An unreachable domain would otherwise be bound again in every run."""
    change = last("a", ago=10 * TIMEOUT, is_seen=True)

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
        is_seen=st.booleans(),
    ),
)
def test_only_our_copies_count_as_bound(
    fingerprints: list[str | None],
    silent: bool,  # noqa: FBT001 - given by hypothesis
    change: LastChange | None,
) -> None:
    """A missing copy is not bound, whatever the stored change says."""
    binding = likely(edges(*fingerprints, silent=silent), change)

    assert binding in {None, "id-a", "id-b"}


def test_bound_copy_of_ours_before_the_target_lists_it() -> None:
    """Another run uploaded and bound the copy: the state has it before the target's list. Unbound
    copies stay out.
    """
    newest = version(1, certificate())
    fingerprint = newest.certificate.fingerprint
    uploads = [
        Upload("img", "qiniu", remote_id, "label", fingerprint, OBSERVED_AT)
        for remote_id in ("new", "old")
    ]
    domain = ObservedDomain("img.example.com", Kind.CDN, DomainState.READY, bound="new")

    observed = with_unlisted_copies(ObservedTarget(domains=(domain,)), [newest], uploads)

    assert ["new"] == [remote.remote_id for remote in observed.remotes]
    assert fingerprint == observed.fingerprint_of(domain.bound)
    assert observed == with_unlisted_copies(observed, [newest], uploads)


def test_bound_copy_with_a_former_lineage() -> None:
    """After a rename the copy has another lineage's label, and is still ours."""
    newest = version(1, certificate())
    upload = Upload("pics", "qiniu", "id", "old", newest.certificate.fingerprint, OBSERVED_AT)
    domain = ObservedDomain("img.example.com", Kind.CDN, DomainState.READY, bound="id")
    others = (
        OtherCertificate("id", "old", OBSERVED_AT),
        OtherCertificate("another", "", OBSERVED_AT),
    )

    observed = with_unlisted_copies(
        ObservedTarget(domains=(domain,), others=others), [newest], [upload]
    )

    assert ["id"] == [remote.remote_id for remote in observed.remotes]
    assert ["another"] == [other.remote_id for other in observed.others]


# --- Owners of certificates at an account, by the stored uploads


CERTIFICATE = certificate()
FINGERPRINT = CERTIFICATE.fingerprint


def upload(remote_id: str, *, lineage: str = LINEAGE, target: str = "qiniu") -> Upload:
    return Upload(lineage, target, remote_id, label_of(LINEAGE, FINGERPRINT), FINGERPRINT, NOW)


def ledger(*uploads: Upload) -> UploadOwners:
    """Return the owners for a stored certificate and these copies."""
    return UploadOwners([(LINEAGE, Remembered((version(1, CERTIFICATE),), uploads=uploads))])


def test_stored_upload_is_ours_under_any_label() -> None:
    """The id of the account is enough, at that account alone."""
    upload_owners = ledger(upload("id-1"))

    assert Owner.OURS == upload_owners.owner("qiniu", "id-1", "renamed by hand")
    assert FINGERPRINT == upload_owners.fingerprint("qiniu", "id-1", "renamed by hand")
    assert Owner.FOREIGN == upload_owners.owner("other", "id-1", "renamed by hand")
    assert upload_owners.fingerprint("other", "id-1", "renamed by hand") is None


def test_label_of_a_stored_certificate_gives_its_fingerprint() -> None:
    """Also if the upload is missing in the state, for either form of the label."""
    for label in labels_of(LINEAGE, FINGERPRINT):
        assert Owner.OURS == ledger().owner("qiniu", "id-1", label)
        assert FINGERPRINT == ledger().fingerprint("qiniu", "id-1", label)


@given(st.sampled_from([label_of, short_label_of]), st.text(min_size=1, max_size=40), fingerprints)
def test_any_label_is_ours_without_a_state(
    make: Callable[[str, str], str], lineage: str, fingerprint: str
) -> None:
    """The upload may come from another machine or from before the loss of the state; its
    certificate is unknown.
    """
    label = make(lineage, fingerprint)

    assert Owner.OURS == UploadOwners().owner("qiniu", "id-1", label)
    assert UploadOwners().fingerprint("qiniu", "id-1", label) is None


def test_certificate_that_is_only_noted_as_in_use_is_foreign() -> None:
    """A note about a stranger's certificate does not make the upload ours."""
    assert Owner.FOREIGN == ledger(upload("id-1", lineage=NO_LINEAGE)).owner("qiniu", "id-1", "x")


def test_copy_is_named_if_it_is_the_only_copy() -> None:
    """With two copies the bound copy is unknown."""
    first, second = upload("id-1"), upload("id-2")

    assert "id-1" == ledger(first).remote_id("qiniu", FINGERPRINT)
    assert ledger(first, second).remote_id("qiniu", FINGERPRINT) is None
    assert ledger(first).remote_id("other", FINGERPRINT) is None
    assert CERTIFICATE == ledger().issued(FINGERPRINT)
    assert ledger().issued("00" * 32) is None
