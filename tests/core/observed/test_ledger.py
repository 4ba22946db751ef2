"""Which certificates at an account are ours, by what is remembered of them."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.lineage import label_of, labels_of, short_label_of
from certferry.core.observed.inferred import Owner, UploadOwners
from certferry.core.observed.records import NO_LINEAGE, Remembered, Upload
from tests.core.strategies import LINEAGE, NOW, certificate, fingerprints, version

CERTIFICATE = certificate()
FINGERPRINT = CERTIFICATE.fingerprint


def upload(remote_id: str, *, lineage: str = LINEAGE, target: str = "qiniu") -> Upload:
    """Remember a copy at an account."""
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


def test_mark_of_a_known_certificate_tells_which_it_is() -> None:
    """Also where the upload itself is not remembered, under either name."""
    for label in labels_of(LINEAGE, FINGERPRINT):
        assert Owner.OURS == ledger().owner("qiniu", "id-1", label)
        assert FINGERPRINT == ledger().fingerprint("qiniu", "id-1", label)


@given(st.sampled_from([label_of, short_label_of]), st.text(min_size=1, max_size=40), fingerprints)
def test_any_mark_is_ours_without_a_state(
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
