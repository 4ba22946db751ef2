"""Copies of certificates in Qiniu's account: uploaded and retired."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from certferry.adapters.cdn.caches import LIST_AGE
from certferry.adapters.cdn.copies import OWN_WRITES_AGE
from certferry.adapters.qiniu.qiniu_client import CERTIFICATES_PER_PAGE
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import TargetRules
from certferry.errors import (
    DeployError,
    Interrupted,
    TargetAccessDenied,
    TargetInUse,
    TargetRejected,
    TargetUnavailable,
)
from certferry.ports.target import Scope
from certferry_sandbox.authority import Authority
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu import habits
from tests.adapters.qiniu.account import (
    LOST,
    WWW,
    QiniuAccount,
    bundle,
    bundle_of,
    fault_id,
    refusal,
)
from tests.sandbox import qiniu_calls

# --- Uploading to Qiniu: once for each certificate, even with lost answers


STUCK_LIST = Fault.status(200, b'{"code":200,"certs":null,"marker":""}')

UNDONE = [
    Fault.reset_before(),
    Fault.html(502),
    refusal(500, 500000),
    refusal(503, None, "unavailable"),
]


@pytest.fixture
def made() -> CertificateBundle:
    """A certificate of the lineage with a single name."""
    return bundle(WWW)


def test_content_of_an_upload(account: QiniuAccount, target: Qiniu) -> None:
    """An upload has a mark of lineage and fingerprint, the first name as common name, the chain
    without root, and a PKCS#8 key.
    """
    made = bundle(WWW, "*.example.com")
    cert_id = target.upload("img", made)

    [stored] = account.service.certificates.stored()
    assert (cert_id, label_of("img", made.certificate.fingerprint)) == (stored.id, stored.name)
    [upload_request] = account.service.requests("POST /sslcert")
    assert {
        "name": stored.name,
        "common_name": WWW,
        "ca": made.fullchain_pem,
        "pri": made.privkey_pem.reveal(),
    } == json.loads(upload_request.body)
    assert made.privkey_pem.reveal().startswith("-----BEGIN PRIVATE KEY-----")


def test_certificate_without_a_common_name(account: QiniuAccount, target: Qiniu) -> None:
    """If Qiniu accepts the certificate, its first name is sent as common name."""
    account.service.certificates.rules.refuse_empty_common_name = False

    target.upload("img", bundle("b.example.com", "a.example.com", common_name=""))

    [upload_request] = account.service.requests("POST /sslcert")
    assert "b.example.com" == json.loads(upload_request.body)["common_name"]


def test_second_upload(account: QiniuAccount, target: Qiniu, made: CertificateBundle) -> None:
    """A second upload, even from another process, returns the same id without a request."""
    first = target.upload("img", made)

    assert first == target.upload("img", made)
    assert first == account.target().upload("img", made)
    assert 1 == account.count("POST *")


def test_oldest_of_equal_copies_is_used(account: QiniuAccount, target: Qiniu) -> None:
    """A lost answer may leave two copies: every run uses the same copy, and both copies are
    observed for retirement.
    """
    issued = qiniu_calls.issue(WWW)
    made = bundle_of(issued)
    label = label_of("img", made.certificate.fingerprint)
    first = account.service.add_certificate(issued, label)
    account.time.pause(60)
    second = account.service.add_certificate(issued, label)

    assert first == target.upload("img", made)
    remotes = target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes
    assert [first, second] == [remote.remote_id for remote in remotes]


def test_own_upload_beside_an_outdated_list(
    account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """A list without the new upload does not cause a second upload."""
    cert_id = target.upload("img", made)
    account.time.pause(6)
    account.service.fusion.faults.add(STUCK_LIST, on="GET /sslcert", times=None)

    remotes = target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes

    assert [cert_id] == [remote.remote_id for remote in remotes]
    assert cert_id == target.upload("img", made)
    assert 1 == account.count("POST *")


def test_upload_removed_by_others(
    account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """After two minutes the list alone counts, so the certificate is uploaded again."""
    cert_id = target.upload("img", made)
    qiniu_calls.Client(account.service).delete(cert_id)
    account.time.pause(OWN_WRITES_AGE)

    assert cert_id != target.upload("img", made)
    assert 1 == len(account.service.certificates.stored())


def test_two_processes_beside_an_outdated_list(
    account: QiniuAccount, made: CertificateBundle
) -> None:
    """The second process cannot see the first upload. Once the list shows both, every run uses the
    same copy, and both copies are observed for retirement.
    """
    account.service.certificates.list_lag = timedelta(seconds=3)
    first = account.target().upload("img", made)
    account.time.pause(1)
    second = account.target().upload("img", made)
    account.time.pause(3)

    assert {first} == {account.target().upload("img", made) for _ in range(3)}
    remotes = (
        account.target().observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes
    )
    assert [first, second] == [remote.remote_id for remote in remotes]


def test_upload_needs_the_list(
    account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """Without the list of certificates, no upload is sent."""
    account.service.fusion.faults.add(Fault.status(500), on="GET *", times=None)

    with pytest.raises(TargetUnavailable):
        target.upload("img", made)

    assert [] == account.service.writes()


def test_upload_after_a_stopped_run(account: QiniuAccount, made: CertificateBundle) -> None:
    """After an interruption, the next run and other threads continue at once."""
    stopped: list[float] = []

    def pause(seconds: float) -> None:
        stopped.append(seconds)
        raise Interrupted("stopped")

    passing = account.time
    target = Qiniu(
        account.client(),
        TargetRules(),
        account.memory,
        pause=pause,
        now=passing.now,
        clock=passing.clock,
    )
    account.service.fusion.faults.add(Fault.reset_after(), on="POST *")

    with pytest.raises(Interrupted):
        target.upload("img", made)

    [stored] = account.service.certificates.stored()
    assert stored.id == account.target().upload("img", made)
    account.time.pause(6)
    assert stored.id == target.upload("img", made)
    assert 1 == account.count("POST *")


# --- Refusals of Qiniu -------------------------------------------------------------------------

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
def test_refused_certificate(
    options: dict[str, Any], code: int, account: QiniuAccount, target: Qiniu
) -> None:
    """The error has code and hint, the upload is sent once, and the account is unchanged."""
    with pytest.raises(TargetRejected, match=str(code)) as caught:
        target.upload("img", bundle(WWW, **options))

    assert caught.value.hint
    assert not caught.value.retry.allowed
    assert 1 == account.count("POST *")
    assert [] == account.service.certificates.stored()


def test_refused_keys(account: QiniuAccount, target: Qiniu, made: CertificateBundle) -> None:
    """Each way is tried once."""
    for host in (account.service.fusion, account.service.api):
        host.faults.add(refusal(401, None, "bad token"), on="POST *", times=None)

    with pytest.raises(TargetAccessDenied):
        target.upload("img", made)

    assert 3 == account.count("POST *")


@pytest.mark.parametrize(
    "fault", [*LOST, *UNDONE, refusal(400, 400322), refusal(401, None, "bad token")], ids=fault_id
)
def test_errors_hide_keys(
    fault: Fault, account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """Errors of an upload contain neither the private key nor a token."""
    account.service.fusion.faults.add(fault, on="POST *", times=None)
    account.service.fusion.faults.add(STUCK_LIST, on="GET *", times=None)

    with pytest.raises(DeployError) as caught:
        target.upload("img", made)

    shown = f"{caught.value!r} {caught.value} {caught.value.hint!r} {caught.value.hint}"
    tokens = [request.headers["Authorization"] for request in account.service.requests()]
    for secret in [*made.privkey_pem.reveal().splitlines(), *tokens, qiniu_calls.SECRET_KEY]:
        assert secret not in shown
    assert caught.value.__cause__ is None


# --- Retiring at Qiniu: only unbound copies of certferry's


def test_removed_copy_beside_an_outdated_list(
    account: QiniuAccount, target: Qiniu, ours: str, label: str, made: CertificateBundle
) -> None:
    """A removed copy is not observed, even if the list still shows the copy."""
    listed = qiniu_calls.Client(account.service).certificates().content
    target.retire(ours, label)
    account.service.fusion.faults.add(Fault.status(200, listed), on="GET *", times=None)
    account.time.pause(6)

    assert () == target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes


def test_copy_removed_by_another_process(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """The list is outdated and Qiniu's refusal right: the copy was already gone."""
    account.time.pause(10)
    account.service.certificates.list_lag = timedelta(seconds=5)
    assert account.target().retire(ours, label)

    assert not account.target().retire(ours, label)


def test_copy_missing_in_an_outdated_list(
    account: QiniuAccount, target: Qiniu, made: CertificateBundle, label: str
) -> None:
    """A copy that another process uploaded after the list was read is found."""
    target.observe(Scope("img", (WWW,), (), Kind.AUTO, ()))
    cert_id = account.target().upload("img", made)

    assert target.retire(cert_id, label)


def test_foreign_certificate(account: QiniuAccount, target: Qiniu) -> None:
    """A label without certferry's mark is refused, even if the certificate has that label."""
    foreign = qiniu_calls.seed(account.service, [WWW], "www.example.com")

    with pytest.raises(TargetRejected, match="does not carry certferry's mark") as caught:
        target.retire(foreign, "www.example.com")

    assert caught.value.hint
    assert ["www.example.com"] == account.labels()


@pytest.mark.parametrize(
    "label",
    ["certferry-", "certferry-img-", "certferry-img-0123", "x-certferry-img-" + "0" * 20, ""],
)
def test_label_resembling_a_mark(label: str, account: QiniuAccount, target: Qiniu) -> None:
    """A label with only the beginning of a mark is refused."""
    foreign = qiniu_calls.seed(account.service, [WWW], label)

    with pytest.raises(TargetRejected):
        target.retire(foreign, label)

    assert 0 == account.count("DELETE *")


def test_lineage_without_latin_letters(account: QiniuAccount, target: Qiniu) -> None:
    """The mark has an empty middle and is valid."""
    made = bundle(WWW)
    cert_id = target.upload("图片", made)

    assert target.retire(cert_id, label_of("图片", made.certificate.fingerprint))


def test_bound_copy(account: QiniuAccount, target: Qiniu, ours: str, label: str) -> None:
    """The domain shows the binding: the removal has to wait, and is not requested."""
    account.service.add_domain(WWW)
    target.bind(WWW, Kind.CDN, ours, DesiredHttps())

    with pytest.raises(TargetInUse, match=f"{WWW} is still bound to {label}") as caught:
        target.retire(ours, label)

    assert caught.value.retry.allowed
    assert [label] == account.labels()
    assert 0 == account.count("DELETE *")


def test_copy_of_an_invisible_domain(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """Qiniu's 400611 is the last check, for a domain that the list lacks or that is unreadable."""
    account.service.domains.list_lag = timedelta(hours=1)
    account.service.add_domain(WWW, https=ours)

    with pytest.raises(TargetInUse, match="400611"):
        target.retire(ours, label)

    account.service.domains.list_lag = timedelta(0)
    account.time.pause(LIST_AGE)
    account.service.api.faults.add(Fault.status(500), on=f"GET /domain/{WWW}", times=None)
    with pytest.raises(TargetInUse, match="400611"):
        target.retire(ours, label)
    assert [label] == account.labels()


def test_uncovered_domain_is_not_read(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """A domain cannot be bound to a certificate that does not cover its name."""
    account.service.add_domain("img.example.com")

    assert target.retire(ours, label)
    assert 0 == account.count("GET /domain/*")


def test_unreadable_domains_prevent_a_removal(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """Refused keys leave open whether a domain uses the copy."""
    account.service.add_domain(WWW)
    account.service.api.faults.add(refusal(403, 403024), on=f"GET /domain/{WWW}", times=None)

    with pytest.raises(TargetUnavailable):
        target.retire(ours, label)
    assert 0 == account.count("DELETE *")


def test_copy_of_a_source_domain(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """A source domain's binding prevents the removal, and 400911 does if bindings are hidden."""
    account.service.add_bucket_domain("src.example.com", "pictures", https=ours)

    with pytest.raises(TargetInUse, match=f"src.example.com is still bound to {label}"):
        target.retire(ours, label)
    assert 0 == account.count("DELETE *")
    habits.bindings_nowhere(account.service)
    with pytest.raises(TargetInUse, match="400911"):
        account.target().retire(ours, label)


def unmanaged_certificates(target: Qiniu) -> dict[str, tuple[str, datetime | None]]:
    """Return names and ends of the other certificates by id."""
    scope = Scope("img", (WWW,), (), Kind.AUTO, (), others=True)
    return {o.remote_id: (o.label, o.not_after) for o in target.observe(scope).others}


def test_every_page_of_unmanaged_certificates(account: QiniuAccount, target: Qiniu) -> None:
    """The list comes in pages of a limited size."""
    issued = qiniu_calls.issue(WWW)
    ids = {
        account.service.add_certificate(issued, "theirs") for _ in range(CERTIFICATES_PER_PAGE + 1)
    }

    assert ids == set(unmanaged_certificates(target))
    assert 2 == account.count("GET /sslcert")


@pytest.mark.parametrize("end", ["null", "99999999999999999"])
def test_unmanaged_certificate_without_facts(
    end: str, account: QiniuAccount, target: Qiniu
) -> None:
    """The name is missing, and the end is missing or outside of the calendar."""
    body = f'{{"code":200,"certs":[{{"certid":"x","name":null,"not_after":{end}}}]}}'
    account.service.fusion.faults.add(Fault.status(200, body.encode()), times=None)

    assert {"x": ("", None)} == unmanaged_certificates(target)


def test_unmanaged_certificate_in_use(account: QiniuAccount, target: Qiniu) -> None:
    """A bound certificate stays, for every caller."""
    at_cdn, at_kodo = (qiniu_calls.seed(account.service, [WWW], "theirs") for _ in range(2))
    account.service.add_domain(WWW, https=at_cdn)
    account.service.add_bucket_domain("src.example.com", "pictures", https=at_kodo)

    for cert_id, domain in ((at_cdn, WWW), (at_kodo, "src.example.com")):
        with pytest.raises(TargetInUse, match=domain) as caught:
            target.retire(cert_id, "theirs", unmanaged=True)
        assert caught.value.retry.allowed

    assert ["theirs", "theirs"] == account.labels()


def test_unmanaged_certificate_without_a_name(account: QiniuAccount, target: Qiniu) -> None:
    """A certificate with an empty name can be retired by that name."""
    cert_id = qiniu_calls.seed(account.service, [WWW], "")

    assert target.retire(cert_id, "", unmanaged=True)
