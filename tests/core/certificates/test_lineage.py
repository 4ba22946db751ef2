"""The marks by which our uploads are known, long and short."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.lineage import (
    is_owner,
    label_of,
    labels_of,
    owner_of,
    owners,
    short_label_of,
)

LINEAGES = st.text(min_size=1, max_size=80)
FINGERPRINTS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(LINEAGES, FINGERPRINTS)
def test_a_mark_tells_its_lineage(lineage: str, fingerprint: str) -> None:
    """Both forms, so that no other tool's clean-up takes them for unclaimed."""
    assert labels_of(lineage, fingerprint) == (
        label_of(lineage, fingerprint),
        short_label_of(lineage, fingerprint),
    )
    for label in labels_of(lineage, fingerprint):
        assert owner_of(label) in owners(lineage)


@given(LINEAGES, FINGERPRINTS)
def test_a_short_mark_has_23_characters(lineage: str, fingerprint: str) -> None:
    """What Qiniu takes from a widely used client; letters, digits and dashes alone."""
    label = short_label_of(lineage, fingerprint)

    assert 23 == len(label)
    assert label.isascii()


@given(st.text(max_size=40))
def test_other_labels_are_untrusted(label: str) -> None:
    """Whatever an operator calls a certificate by hand."""
    assert owner_of(label) is None or label.startswith(("certferry-", "cf-"))


def test_labels_that_are_almost_marks() -> None:
    """A digit too few, another prefix, upper case."""
    for label in ("cf-0123456-0123456789a", "cf-0123456-0123456789AB", "cx-0123456-0123456789ab"):
        assert None is owner_of(label)


@given(FINGERPRINTS)
def test_a_name_that_is_cut_in_a_mark_proves_nothing(fingerprint: str) -> None:
    """Two long names that begin alike have one long mark, but not one short mark."""
    ours, theirs = "static.assets.example.com.cn", "static.assets.example.com.hk"
    assert owner_of(label_of(theirs, fingerprint)) in owners(ours)

    assert not is_owner(ours, label_of(theirs, fingerprint))
    assert not is_owner(ours, label_of(ours, fingerprint))
    assert is_owner(ours, short_label_of(ours, fingerprint))
    assert is_owner("img", label_of("img", fingerprint))
