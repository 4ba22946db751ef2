"""Uploading to Qiniu: once for each certificate, also when answers are lost."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from certferry.adapters.qiniu.account import OWN_WRITES_AGE
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import TargetRules
from certferry.errors import (
    DeployError,
    Interrupted,
    TargetAccessDenied,
    TargetRejected,
    TargetUnavailable,
)
from certferry.ports.target import Scope
from certferry_sandbox.authority import Authority
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.place import LOST, WWW, Place, bundle, bundle_of, fault_id, refusal
from tests.sandbox import qiniu_calls

STUCK_LIST = Fault.status(200, b'{"code":200,"certs":null,"marker":""}')

UNDONE = [
    Fault.reset_before(),
    Fault.html(502),
    refusal(500, 500000),
    refusal(503, None, "unavailable"),
]


@pytest.fixture
def made() -> CertificateBundle:
    """Give a certificate to upload."""
    return bundle(WWW, "*.example.com")


def test_an_upload_carries_our_mark(place: Place, target: Qiniu, made: CertificateBundle) -> None:
    """Label with lineage and fingerprint, first name as common name, chain without root, PKCS#8."""
    cert_id = target.upload("img", made)

    [stored] = place.service.certificates.stored()
    assert (cert_id, label_of("img", made.certificate.fingerprint)) == (stored.id, stored.name)
    [sent] = place.service.requests("POST /sslcert")
    assert {
        "name": stored.name,
        "common_name": WWW,
        "ca": made.fullchain_pem,
        "pri": made.privkey_pem.reveal(),
    } == json.loads(sent.body)
    assert made.privkey_pem.reveal().startswith("-----BEGIN PRIVATE KEY-----")


def test_a_certificate_without_a_common_name(place: Place, target: Qiniu) -> None:
    """Where Qiniu takes it, its first name stands in."""
    place.service.certificates.rules.refuse_empty_common_name = False

    target.upload("img", bundle("b.example.com", "a.example.com", common_name=""))

    [sent] = place.service.requests("POST /sslcert")
    assert "b.example.com" == json.loads(sent.body)["common_name"]


def test_uploading_again_adopts(place: Place, target: Qiniu, made: CertificateBundle) -> None:
    """The second time, and from another process, the same id and nothing sent."""
    first = target.upload("img", made)

    assert first == target.upload("img", made)
    assert first == place.target().upload("img", made)
    assert 1 == place.count("POST *")


def test_the_oldest_of_equal_uploads_is_adopted(place: Place, target: Qiniu) -> None:
    """Two copies, as a lost answer may leave them: every run picks the same one, and both are
    seen, so that both are retired one day.
    """
    issued = qiniu_calls.issue(WWW)
    made = bundle_of(issued)
    label = label_of("img", made.certificate.fingerprint)
    first = place.service.add_certificate(issued, label)
    place.time.pause(60)
    second = place.service.add_certificate(issued, label)

    assert first == target.upload("img", made)
    found = target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes
    assert [first, second] == [remote.remote_id for remote in found]


def test_our_own_upload_is_seen_though_the_list_lags(
    place: Place, target: Qiniu, made: CertificateBundle
) -> None:
    """A list that does not show an upload yet leads to no second one."""
    cert_id = target.upload("img", made)
    place.time.pause(6)
    place.service.fusion.faults.add(STUCK_LIST, on="GET /sslcert", times=None)

    found = target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes

    assert [cert_id] == [remote.remote_id for remote in found]
    assert cert_id == target.upload("img", made)
    assert 1 == place.count("POST *")


def test_an_upload_that_others_removed_is_made_again(
    place: Place, target: Qiniu, made: CertificateBundle
) -> None:
    """After two minutes, the list alone says what is there."""
    cert_id = target.upload("img", made)
    qiniu_calls.Client(place.service).delete(cert_id)
    place.time.pause(OWN_WRITES_AGE)

    assert cert_id != target.upload("img", made)
    assert 1 == len(place.service.certificates.stored())


def test_two_processes_and_a_list_that_lags(place: Place, made: CertificateBundle) -> None:
    """The second cannot see the first's upload. As soon as the list shows both, every run adopts
    the same one, and both are seen, so that both are retired one day.
    """
    place.service.certificates.list_lag = timedelta(seconds=3)
    first = place.target().upload("img", made)
    place.time.pause(1)
    second = place.target().upload("img", made)
    place.time.pause(3)

    assert {first} == {place.target().upload("img", made) for _ in range(3)}
    found = place.target().observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes
    assert [first, second] == [remote.remote_id for remote in found]


# --- lost answers ---------------------------------------------------------------------------


def test_a_list_that_cannot_be_had_stops_the_upload(
    place: Place, target: Qiniu, made: CertificateBundle
) -> None:
    """Without knowing what is there, nothing is sent."""
    place.service.fusion.faults.add(Fault.status(500), on="GET *", times=None)

    with pytest.raises(TargetUnavailable):
        target.upload("img", made)

    assert [] == place.service.writes()


def test_a_stopped_run_lets_the_next_one_upload(place: Place, made: CertificateBundle) -> None:
    """An interruption passes, and delays no other thread."""
    stopped: list[float] = []

    def pause(seconds: float) -> None:
        stopped.append(seconds)
        raise Interrupted("stopped")

    passing = place.time
    target = Qiniu(
        place.client(),
        TargetRules(),
        place.memory,
        pause=pause,
        now=passing.now,
        clock=passing.clock,
    )
    place.service.fusion.faults.add(Fault.reset_after(), on="POST *")

    with pytest.raises(Interrupted):
        target.upload("img", made)

    [stored] = place.service.certificates.stored()
    assert stored.id == place.target().upload("img", made)
    place.time.pause(6)
    assert stored.id == target.upload("img", made)
    assert 1 == place.count("POST *")


# --- what Qiniu refuses ---------------------------------------------------------------------

STRANGER = Authority("Private")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"days": 20}, 400322),
        ({"start": qiniu_calls.START + timedelta(days=1)}, 400321),
        ({"start": qiniu_calls.START - timedelta(days=99)}, 400329),
        ({"by": STRANGER}, 400323),
        ({"common_name": ""}, 400348),
    ],
)
def test_a_certificate_that_is_refused(
    options: dict[str, Any], code: int, place: Place, target: Qiniu
) -> None:
    """Told with its code and advice, not tried again, and nothing is left behind."""
    with pytest.raises(TargetRejected, match=str(code)) as caught:
        target.upload("img", bundle(WWW, **options))

    assert caught.value.hint
    assert not caught.value.retry.allowed
    assert 1 == place.count("POST *")
    assert [] == place.service.certificates.stored()


def test_refused_keys(place: Place, target: Qiniu, made: CertificateBundle) -> None:
    """Asked by each way once."""
    for host in (place.service.fusion, place.service.api):
        host.faults.add(refusal(401, None, "bad token"), on="POST *", times=None)

    with pytest.raises(TargetAccessDenied):
        target.upload("img", made)

    assert 3 == place.count("POST *")


@pytest.mark.parametrize(
    "fault", [*LOST, *UNDONE, refusal(400, 400322), refusal(401, None, "bad token")], ids=fault_id
)
def test_no_error_shows_a_key(
    fault: Fault, place: Place, target: Qiniu, made: CertificateBundle
) -> None:
    """Whatever happens to an upload, neither its key nor a token is in what is said about it."""
    place.service.fusion.faults.add(fault, on="POST *", times=None)
    place.service.fusion.faults.add(STUCK_LIST, on="GET *", times=None)

    with pytest.raises(DeployError) as caught:
        target.upload("img", made)

    shown = f"{caught.value!r} {caught.value} {caught.value.hint!r} {caught.value.hint}"
    tokens = [request.headers["Authorization"] for request in place.service.requests()]
    for secret in [*made.privkey_pem.reveal().splitlines(), *tokens, qiniu_calls.SECRET_KEY]:
        assert secret not in shown
    assert caught.value.__cause__ is None
