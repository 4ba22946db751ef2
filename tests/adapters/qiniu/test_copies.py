"""Copies of certificates in Qiniu's account: uploaded, and retired."""

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

# --- Uploading to Qiniu: once for each certificate, also when answers are lost


STUCK_LIST = Fault.status(200, b'{"code":200,"certs":null,"marker":""}')

UNDONE = [
    Fault.reset_before(),
    Fault.html(502),
    refusal(500, 500000),
    refusal(503, None, "unavailable"),
]


@pytest.fixture
def made() -> CertificateBundle:
    """Make a certificate of the lineage, of one name."""
    return bundle(WWW)


def test_an_upload_carries_our_mark(account: QiniuAccount, target: Qiniu) -> None:
    """Label with lineage and fingerprint, first name as common name, chain without root, PKCS#8."""
    made = bundle(WWW, "*.example.com")
    cert_id = target.upload("img", made)

    [stored] = account.service.certificates.stored()
    assert (cert_id, label_of("img", made.certificate.fingerprint)) == (stored.id, stored.name)
    [sent] = account.service.requests("POST /sslcert")
    assert {
        "name": stored.name,
        "common_name": WWW,
        "ca": made.fullchain_pem,
        "pri": made.privkey_pem.reveal(),
    } == json.loads(sent.body)
    assert made.privkey_pem.reveal().startswith("-----BEGIN PRIVATE KEY-----")


def test_a_certificate_without_a_common_name(account: QiniuAccount, target: Qiniu) -> None:
    """Where Qiniu takes it, its first name stands in."""
    account.service.certificates.rules.refuse_empty_common_name = False

    target.upload("img", bundle("b.example.com", "a.example.com", common_name=""))

    [sent] = account.service.requests("POST /sslcert")
    assert "b.example.com" == json.loads(sent.body)["common_name"]


def test_uploading_again_adopts(
    account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """The second time, and from another process, the same id and nothing sent."""
    first = target.upload("img", made)

    assert first == target.upload("img", made)
    assert first == account.target().upload("img", made)
    assert 1 == account.count("POST *")


def test_the_oldest_of_equal_uploads_is_adopted(account: QiniuAccount, target: Qiniu) -> None:
    """Two copies, as a lost answer may leave them: every run picks the same one, and both are
    seen, so that both are retired one day.
    """
    issued = qiniu_calls.issue(WWW)
    made = bundle_of(issued)
    label = label_of("img", made.certificate.fingerprint)
    first = account.service.add_certificate(issued, label)
    account.time.pause(60)
    second = account.service.add_certificate(issued, label)

    assert first == target.upload("img", made)
    found = target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes
    assert [first, second] == [remote.remote_id for remote in found]


def test_our_own_upload_is_seen_though_the_list_lags(
    account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """A list that does not show an upload yet leads to no second one."""
    cert_id = target.upload("img", made)
    account.time.pause(6)
    account.service.fusion.faults.add(STUCK_LIST, on="GET /sslcert", times=None)

    found = target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes

    assert [cert_id] == [remote.remote_id for remote in found]
    assert cert_id == target.upload("img", made)
    assert 1 == account.count("POST *")


def test_an_upload_that_others_removed_is_made_again(
    account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """After two minutes, the list alone says what is there."""
    cert_id = target.upload("img", made)
    qiniu_calls.Client(account.service).delete(cert_id)
    account.time.pause(OWN_WRITES_AGE)

    assert cert_id != target.upload("img", made)
    assert 1 == len(account.service.certificates.stored())


def test_two_processes_and_a_list_that_lags(account: QiniuAccount, made: CertificateBundle) -> None:
    """The second cannot see the first's upload. As soon as the list shows both, every run adopts
    the same one, and both are seen, so that both are retired one day.
    """
    account.service.certificates.list_lag = timedelta(seconds=3)
    first = account.target().upload("img", made)
    account.time.pause(1)
    second = account.target().upload("img", made)
    account.time.pause(3)

    assert {first} == {account.target().upload("img", made) for _ in range(3)}
    found = (
        account.target().observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes
    )
    assert [first, second] == [remote.remote_id for remote in found]


def test_a_list_that_cannot_be_had_stops_the_upload(
    account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """Without knowing what is there, nothing is sent."""
    account.service.fusion.faults.add(Fault.status(500), on="GET *", times=None)

    with pytest.raises(TargetUnavailable):
        target.upload("img", made)

    assert [] == account.service.writes()


def test_a_stopped_run_lets_the_next_one_upload(
    account: QiniuAccount, made: CertificateBundle
) -> None:
    """An interruption passes, and delays no other thread."""
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
    options: dict[str, Any], code: int, account: QiniuAccount, target: Qiniu
) -> None:
    """Reported with its code and advice, not tried again, and nothing is left behind."""
    with pytest.raises(TargetRejected, match=str(code)) as caught:
        target.upload("img", bundle(WWW, **options))

    assert caught.value.hint
    assert not caught.value.retry.allowed
    assert 1 == account.count("POST *")
    assert [] == account.service.certificates.stored()


def test_refused_keys(account: QiniuAccount, target: Qiniu, made: CertificateBundle) -> None:
    """Asked by each way once."""
    for host in (account.service.fusion, account.service.api):
        host.faults.add(refusal(401, None, "bad token"), on="POST *", times=None)

    with pytest.raises(TargetAccessDenied):
        target.upload("img", made)

    assert 3 == account.count("POST *")


@pytest.mark.parametrize(
    "fault", [*LOST, *UNDONE, refusal(400, 400322), refusal(401, None, "bad token")], ids=fault_id
)
def test_no_error_shows_a_key(
    fault: Fault, account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """Whatever happens to an upload, neither its key nor a token is in what is said about it."""
    account.service.fusion.faults.add(fault, on="POST *", times=None)
    account.service.fusion.faults.add(STUCK_LIST, on="GET *", times=None)

    with pytest.raises(DeployError) as caught:
        target.upload("img", made)

    shown = f"{caught.value!r} {caught.value} {caught.value.hint!r} {caught.value.hint}"
    tokens = [request.headers["Authorization"] for request in account.service.requests()]
    for secret in [*made.privkey_pem.reveal().splitlines(), *tokens, qiniu_calls.SECRET_KEY]:
        assert secret not in shown
    assert caught.value.__cause__ is None


# --- Retiring at Qiniu: ours, unbound, and nothing else


def test_what_is_removed_is_not_seen_any_more(
    account: QiniuAccount, target: Qiniu, ours: str, label: str, made: CertificateBundle
) -> None:
    """Not even while the list still shows it."""
    listed = qiniu_calls.Client(account.service).certificates().content
    target.retire(ours, label)
    account.service.fusion.faults.add(Fault.status(200, listed), on="GET *", times=None)
    account.time.pause(6)

    assert () == target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes


def test_a_copy_that_another_process_removed_and_the_list_still_shows(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """The list is wrong and Qiniu's refusal right: it was not there any more."""
    account.time.pause(10)
    account.service.certificates.list_lag = timedelta(seconds=5)
    assert account.target().retire(ours, label)

    assert not account.target().retire(ours, label)


def test_a_copy_that_is_not_in_an_old_list(
    account: QiniuAccount, target: Qiniu, made: CertificateBundle, label: str
) -> None:
    """What another process uploaded after we last looked is found nevertheless."""
    target.observe(Scope("img", (WWW,), (), Kind.AUTO, ()))
    cert_id = account.target().upload("img", made)

    assert target.retire(cert_id, label)


def test_a_foreign_certificate(account: QiniuAccount, target: Qiniu) -> None:
    """A label that is no mark of ours is refused, though the certificate carries it."""
    foreign = qiniu_calls.seed(account.service, [WWW], "www.example.com")

    with pytest.raises(TargetRejected, match="does not carry certferry's mark") as caught:
        target.retire(foreign, "www.example.com")

    assert caught.value.hint
    assert ["www.example.com"] == account.labels()


@pytest.mark.parametrize(
    "label",
    ["certferry-", "certferry-img-", "certferry-img-0123", "x-certferry-img-" + "0" * 20, ""],
)
def test_something_like_a_mark(label: str, account: QiniuAccount, target: Qiniu) -> None:
    """A name that only begins like ours is not ours."""
    foreign = qiniu_calls.seed(account.service, [WWW], label)

    with pytest.raises(TargetRejected):
        target.retire(foreign, label)

    assert 0 == account.count("DELETE *")


def test_a_lineage_without_latin_letters(account: QiniuAccount, target: Qiniu) -> None:
    """Its mark has an empty middle, and is a mark all the same."""
    made = bundle(WWW)
    cert_id = target.upload("图片", made)

    assert target.retire(cert_id, label_of("图片", made.certificate.fingerprint))


def test_a_copy_that_is_bound(account: QiniuAccount, target: Qiniu, ours: str, label: str) -> None:
    """The domain says so: it is not yet, not a failure, and Qiniu is not even asked."""
    account.service.add_domain(WWW)
    target.bind(WWW, Kind.CDN, ours, DesiredHttps())

    with pytest.raises(TargetInUse, match=f"{WWW} is still bound to {label}") as caught:
        target.retire(ours, label)

    assert caught.value.retry.allowed
    assert [label] == account.labels()
    assert 0 == account.count("DELETE *")


def test_a_copy_whose_domain_is_not_seen(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """400611 is the last check: of a domain that the list does not show yet, or cannot be read."""
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


def test_a_domain_that_it_does_not_cover_is_not_read(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """Nothing is bound to a certificate that does not cover it."""
    account.service.add_domain("img.example.com")

    assert target.retire(ours, label)
    assert 0 == account.count("GET /domain/*")


def test_nothing_is_removed_while_domains_cannot_be_seen(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """Refused keys say nothing of what is in use."""
    account.service.add_domain(WWW)
    account.service.api.faults.add(refusal(403, 403024), on=f"GET /domain/{WWW}", times=None)

    with pytest.raises(TargetUnavailable):
        target.retire(ours, label)
    assert 0 == account.count("DELETE *")


def test_a_copy_that_a_kodo_domain_uses(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """The same for source domains, by their bindings, and by 400911 where these are hidden."""
    account.service.add_bucket_domain("src.example.com", "pictures", https=ours)

    with pytest.raises(TargetInUse, match=f"src.example.com is still bound to {label}"):
        target.retire(ours, label)
    assert 0 == account.count("DELETE *")
    habits.bindings_nowhere(account.service)
    with pytest.raises(TargetInUse, match="400911"):
        account.target().retire(ours, label)


def others(target: Qiniu) -> dict[str, tuple[str, datetime | None]]:
    """Return what is not ours: names and ends by id."""
    look = Scope("img", (WWW,), (), Kind.AUTO, (), others=True)
    return {o.remote_id: (o.label, o.not_after) for o in target.observe(look).others}


def test_every_page_of_others_is_read(account: QiniuAccount, target: Qiniu) -> None:
    """Qiniu gives so many at a time."""
    issued = qiniu_calls.issue(WWW)
    ids = {
        account.service.add_certificate(issued, "theirs") for _ in range(CERTIFICATES_PER_PAGE + 1)
    }

    assert ids == set(others(target))
    assert 2 == account.count("GET /sslcert")


@pytest.mark.parametrize("end", ["null", "99999999999999999"])
def test_others_that_report_little(end: str, account: QiniuAccount, target: Qiniu) -> None:
    """No name, and no end or none that a calendar knows."""
    body = f'{{"code":200,"certs":[{{"certid":"x","name":null,"not_after":{end}}}]}}'
    account.service.fusion.faults.add(Fault.status(200, body.encode()), times=None)

    assert {"x": ("", None)} == others(target)


def test_unmanaged_that_a_domain_uses(account: QiniuAccount, target: Qiniu) -> None:
    """A certificate that a domain is bound to stays, for every caller."""
    at_cdn, at_kodo = (qiniu_calls.seed(account.service, [WWW], "theirs") for _ in range(2))
    account.service.add_domain(WWW, https=at_cdn)
    account.service.add_bucket_domain("src.example.com", "pictures", https=at_kodo)

    for cert_id, domain in ((at_cdn, WWW), (at_kodo, "src.example.com")):
        with pytest.raises(TargetInUse, match=domain) as caught:
            target.retire(cert_id, "theirs", unmanaged=True)
        assert caught.value.retry.allowed

    assert ["theirs", "theirs"] == account.labels()


def test_unmanaged_without_a_name(account: QiniuAccount, target: Qiniu) -> None:
    """An empty name is a name as well."""
    cert_id = qiniu_calls.seed(account.service, [WWW], "")

    assert target.retire(cert_id, "", unmanaged=True)
