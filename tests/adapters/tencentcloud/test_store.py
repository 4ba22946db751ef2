"""Tencent Cloud's store of certificates: earlier copies, lost answers, the quota, removals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

import pytest

from certferry.adapters.cdn.copies import CERTIFICATES_AGE, OWN_WRITES_AGE
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import RemoteCertificate
from certferry.errors import DeployError, TargetInUse, TargetRejected, TargetUnavailable
from certferry.ports.target import Scope
from certferry_sandbox.authority import Issued
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.account import bundle_of, fault_id
from tests.adapters.tencentcloud.places import LOST, TencentPlaces, open_places
from tests.sandbox.qiniu_calls import issue

LINEAGE = "img"
IMG = "img.example.com"
NAMES = (IMG, "*.example.com")


@pytest.fixture
def places() -> Iterator[TencentPlaces]:
    with open_places() as places:
        yield places


@pytest.fixture
def issued() -> Issued:
    return issue(*NAMES)


def label(known: CertificateBundle) -> str:
    return label_of(LINEAGE, known.certificate.fingerprint)


def remotes(places: TencentPlaces, known: CertificateBundle) -> tuple[RemoteCertificate, ...]:
    scope = Scope(LINEAGE, NAMES, None, Kind.CDN, (known.certificate,))
    return places.target().observe(scope).remotes


# --- Uploads


@pytest.mark.parametrize("said", ["both", "CertificateId", "RepeatCertId"])
def test_copy_of_another_owner_is_adopted(
    places: TencentPlaces, issued: Issued, said: Literal["both", "CertificateId", "RepeatCertId"]
) -> None:
    """The vendor knows the certificate, and returns the earlier id. Later runs know it too, by the
    fingerprint noted in the account's memory; the copy is never removed.
    """
    places.service.certificates.repeated_in = said
    theirs, known = places.service.add_certificate(issued, "theirs"), bundle_of(issued)
    assert () == remotes(places, known)
    places.time.pause(CERTIFICATES_AGE)

    assert theirs == places.target().upload(LINEAGE, known)
    places.time.pause(OWN_WRITES_AGE)

    [remote] = remotes(places, known)
    assert (theirs, "theirs") == (remote.remote_id, remote.label)
    assert theirs == places.target().upload(LINEAGE, known)
    assert 1 == len(places.service.calls("UploadCertificate"))
    for claimed in ("theirs", label(known), ""):
        with pytest.raises(TargetRejected):
            places.target().retire(theirs, claimed)
    assert ["theirs"] == places.labels()


def test_notes_of_earlier_copies_end(places: TencentPlaces) -> None:
    """The memory holds only earlier copies that the store still lists."""
    first, second = issue(*NAMES), issue(*NAMES)
    gone = places.service.add_certificate(first, "theirs")
    target = places.target()
    target.upload(LINEAGE, bundle_of(first))
    assert target.retire(gone, "theirs", unmanaged=True)
    places.time.pause(OWN_WRITES_AGE)
    places.service.add_certificate(second, "theirs")

    target.upload(LINEAGE, bundle_of(second))

    note = places.memory.note("fingerprints of earlier certificates")
    assert note is not None
    assert gone not in note


@pytest.mark.parametrize("fault", LOST, ids=fault_id)
def test_lost_answer_to_an_upload(places: TencentPlaces, issued: Issued, fault: Fault) -> None:
    """The copy is found by its label, and made once."""
    places.service.faults.add(fault, on="POST /UploadCertificate")

    remote_id = places.target().upload(LINEAGE, bundle_of(issued))

    [stored] = places.service.certificates.stored()
    assert (stored.id, label(bundle_of(issued))) == (remote_id, stored.alias)
    assert 1 == len(places.service.calls("UploadCertificate"))


def test_full_account(places: TencentPlaces, issued: Issued) -> None:
    """The quota is reported until the operator says otherwise; nothing is removed."""
    places.service.certificates.quota = 1
    places.service.add_certificate(issue(*NAMES), "theirs")
    target, known = places.target(), bundle_of(issued)

    with pytest.raises(TargetRejected) as caught:
        target.upload(LINEAGE, known)

    assert "quota" in str(caught.value)
    quota = target.observe(Scope(LINEAGE, NAMES, None, Kind.CDN, ())).quota
    assert quota is not None
    assert 1 == quota.held
    target.forget_refusal()
    assert target.observe(Scope(LINEAGE, NAMES, None, Kind.CDN, ())).quota is None
    assert ["theirs"] == places.labels()


def test_answer_quotes_the_key(places: TencentPlaces, issued: Issued) -> None:
    """No error shows a private key that the vendor quotes."""
    places.service.answer_next(
        "UploadCertificate", "FailedOperation.CertificateParseError", words=issued.privkey_pem
    )

    with pytest.raises(DeployError) as caught:
        places.target().upload(LINEAGE, bundle_of(issued))

    lines = [line for line in issued.privkey_pem.splitlines() if "-----" not in line]
    shown = f"{caught.value} {caught.value.hint}"
    assert not any(line[:20] in shown for line in lines)


# --- Removals


def test_removal_is_checked(places: TencentPlaces, issued: Issued) -> None:
    """Tencent Cloud looks for users that certferry cannot see, such as other products."""
    target, known = places.target(), bundle_of(issued)
    remote_id = target.upload(LINEAGE, known)

    assert target.retire(remote_id, label(known))

    [call] = places.service.calls("DeleteCertificate")
    assert call.fields["IsCheckResource"] is True
    assert [] == places.labels()


def test_user_that_certferry_cannot_see(places: TencentPlaces, issued: Issued) -> None:
    """The vendor's refusal leaves the copy, and allows a retry."""
    target, known = places.target(), bundle_of(issued)
    remote_id = target.upload(LINEAGE, known)
    places.service.certificates.elsewhere.add(remote_id)

    with pytest.raises(TargetInUse) as caught:
        target.retire(remote_id, label(known))

    assert caught.value.retry.allowed
    assert [label(known)] == places.labels()


def test_without_the_role_copies_stay_until_their_end(
    places: TencentPlaces, issued: Issued
) -> None:
    """Without the right to look, certferry removes a copy only after its end."""
    places.service.certificates.role_is_granted = False
    target, known = places.target(), bundle_of(issued)
    remote_id = target.upload(LINEAGE, known)

    with pytest.raises(TargetInUse) as caught:
        target.retire(remote_id, label(known))
    assert "SSL_QCSLinkedRoleInReplaceLoadCertificate" in str(caught.value.hint)
    assert [label(known)] == places.labels()

    left = known.certificate.not_after - places.time.now() + timedelta(days=1)
    places.time.pause(left.total_seconds())
    assert places.target().retire(remote_id, label(known))
    assert [] == places.labels()


def test_removal_that_takes_long(places: TencentPlaces, issued: Issued) -> None:
    """The run goes on, and a later run finds the copy gone."""
    places.service.certificates.looks = 99
    target, known = places.target(), bundle_of(issued)
    remote_id = target.upload(LINEAGE, known)

    with pytest.raises(TargetUnavailable):
        target.retire(remote_id, label(known))

    assert not places.target().retire(remote_id, label(known))


@pytest.mark.parametrize("fault", LOST, ids=fault_id)
def test_lost_answer_to_a_removal(places: TencentPlaces, issued: Issued, fault: Fault) -> None:
    """The list shows the removal; no second call is made."""
    target, known = places.target(), bundle_of(issued)
    remote_id = target.upload(LINEAGE, known)
    places.service.faults.add(fault, on="POST /DeleteCertificate")

    assert target.retire(remote_id, label(known))

    assert 1 == len(places.service.calls("DeleteCertificate"))


@pytest.mark.parametrize("place", ["cdn", "eo"])
def test_bound_copy_is_not_sent_for_removal(
    places: TencentPlaces, issued: Issued, place: str
) -> None:
    """The look of certferry itself comes first, at both products."""
    target, known = places.target(), bundle_of(issued)
    remote_id = target.upload(LINEAGE, known)
    if place == "cdn":
        places.service.add_cdn_domain(IMG, certificate=remote_id)
    else:
        places.service.add_host(IMG, places.service.add_zone("example.com"), remote_id)

    with pytest.raises(TargetInUse):
        target.retire(remote_id, label(known))

    assert not places.service.calls("DeleteCertificate")


def test_certificate_that_is_gone_is_uploaded_again(places: TencentPlaces, issued: Issued) -> None:
    """A binding of a removed copy makes the next upload look anew."""
    target, known = places.target(), bundle_of(issued)
    places.service.add_cdn_domain(IMG)
    remote_id = target.upload(LINEAGE, known)
    places.target().retire(remote_id, label(known))

    with pytest.raises(TargetRejected):
        target.bind(IMG, Kind.CDN, remote_id, DesiredHttps())

    assert remote_id != target.upload(LINEAGE, known)
