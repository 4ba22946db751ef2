"""Which certificate is bound where the target does not tell: the edges, and our last change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.desired.certificate import Kind
from certferry.core.observed.inferred import LastChange, likely_binding, with_unlisted_copies
from certferry.core.observed.observation import (
    DomainState,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
    Served,
)
from certferry.core.observed.records import OtherCertificate, Upload
from tests.core.strategies import certificate, version

NOW = datetime(2026, 11, 1, tzinfo=UTC)
TIMEOUT = timedelta(hours=1)
OURS = ("a", "b")
REMOTES = [RemoteCertificate(f"id-{name}", name, name, NOW) for name in OURS]


def edges(*fingerprints: str | None, silent: bool = False) -> list[Served]:
    """Give one edge for each fingerprint."""
    return [
        Served(f"192.0.2.{n}", f, valid=True, silent=silent) for n, f in enumerate(fingerprints)
    ]


def last(fingerprint: str, *, ago: timedelta, seen: bool) -> LastChange:
    """Give a change that was asked for some time ago."""
    return LastChange(fingerprint, NOW - ago, seen)


def likely(served: list[Served], change: LastChange | None = None) -> str | None:
    """Judge as of now."""
    return likely_binding(REMOTES, served, change, NOW, TIMEOUT)


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
        Upload("img", "qiniu", remote_id, "label", fingerprint, NOW) for remote_id in ("new", "old")
    ]
    domain = ObservedDomain("img.example.com", Kind.CDN, DomainState.READY, bound="new")

    found = with_unlisted_copies(ObservedTarget(domains=(domain,)), [known], uploads)

    assert ["new"] == [remote.remote_id for remote in found.remotes]
    assert fingerprint == found.fingerprint_of(domain.bound)
    assert found == with_unlisted_copies(found, [known], uploads)


def test_bound_copy_with_a_former_name_is_none_that_may_go() -> None:
    """After a rename it carries another lineage's mark: it is no certificate of others."""
    known = version(1, certificate())
    upload = Upload("pics", "qiniu", "id", "old", known.certificate.fingerprint, NOW)
    domain = ObservedDomain("img.example.com", Kind.CDN, DomainState.READY, bound="id")
    others = (OtherCertificate("id", "old", NOW), OtherCertificate("another", "", NOW))

    found = with_unlisted_copies(
        ObservedTarget(domains=(domain,), others=others), [known], [upload]
    )

    assert ["id"] == [remote.remote_id for remote in found.remotes]
    assert ["another"] == [other.remote_id for other in found.others]
