"""Looking at Qiniu: what cannot be seen, our copies there, and lists that lineages share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from certferry.adapters.qiniu.target import Qiniu, Settings, connect
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of, short_label_of
from certferry.core.observed.observation import DomainState, TargetRules
from certferry.core.redaction import Secret
from certferry.errors import TargetAccessDenied, TargetUnavailable
from certferry.values import replace
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.account import SHORT, WWW, QiniuAccount, bundle, bundle_of, refusal
from tests.adapters.qiniu.test_observe import IMG, look
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import ACCESS_KEY, SECRET_KEY
from tests.support.tiers import long


def test_a_list_that_cannot_be_had(account: QiniuAccount, target: Qiniu) -> None:
    """Which domains there are is not known: the observation fails, and is worth trying later."""
    account.service.add_domain(WWW)
    account.service.api.faults.add(Fault.status(500), on="GET /domain", times=None)

    with pytest.raises(TargetUnavailable) as caught:
        target.observe(look())

    assert caught.value.retry.allowed
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("domains", [(), (WWW, IMG)])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (refusal(500, 500000), "500000"),
        (refusal(500, 500215), "500215"),
        (refusal(400, 400030), "in progress"),
        (Fault.status(200, b'{"name":'), "certferry cannot read"),
        (Fault.status(200, b'{"name":"www.example.com","https":[]}'), "certferry cannot read"),
        (Fault.html(502), "web page"),
        (Fault.reset_before(), "closed the connection"),
        (Fault.truncated(), "ended early"),
    ],
    ids=str,
)
def test_a_domain_that_cannot_be_read(
    fault: Fault, words: str, domains: tuple[str, ...], account: QiniuAccount, target: Qiniu
) -> None:
    """It is reported, as worth trying later, and does not hide the others."""
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(fault, on=f"GET /domain/{WWW}", times=None)

    broken, sound = target.observe(look(*domains, names=("*.example.com",))).domains

    assert (WWW, DomainState.UNAVAILABLE) == (broken.domain, broken.state)
    assert words in str(broken.problem)
    assert broken.problem is not None
    assert broken.problem.retry.allowed
    assert (IMG, DomainState.READY) == (sound.domain, sound.state)


def test_a_401_before_anything_was_given(account: QiniuAccount, target: Qiniu) -> None:
    """It ends the look at the first named domain, whose every way was tried."""
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(refusal(401, None, "bad token"), on="GET /domain/*", times=None)

    with pytest.raises(TargetAccessDenied):
        target.observe(look(WWW, IMG))

    assert (2, 0) == (account.count(f"GET /domain/{WWW}"), account.count(f"GET /domain/{IMG}"))


@pytest.mark.parametrize("domains", [(), (WWW, IMG)])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (refusal(403, None, "no permission"), TargetAccessDenied),
        (refusal(403, 403024), TargetUnavailable),
        (Fault.too_many(), TargetUnavailable),
    ],
    ids=str,
)
def test_what_would_befall_every_domain(
    fault: Fault,
    error: type[Exception],
    domains: tuple[str, ...],
    account: QiniuAccount,
    target: Qiniu,
) -> None:
    """Refused keys and a rate limit end the look at the first domain."""
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(fault, on="GET /domain/*", times=None)

    with pytest.raises(error):
        target.observe(look(*domains, names=("*.example.com",)))

    assert 0 == account.count(f"GET /domain/{IMG}")


def test_no_connection(account: QiniuAccount) -> None:
    """No host answers: said once for the account, as worth trying later."""
    target = account.target()
    account.service.api.stop()

    with pytest.raises(TargetUnavailable, match="cannot connect") as caught:
        target.observe(look(WWW, IMG))

    assert caught.value.retry.allowed


@long
def test_one_silent_domain(account: QiniuAccount) -> None:
    """Silence about one domain is that domain's; about two in a row, it is Qiniu's."""
    account.timeouts = SHORT
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(Fault.delay(2), on=f"GET /domain/{WWW}", times=4)

    silent, sound = account.target().observe(look(WWW, IMG)).domains

    assert (DomainState.UNAVAILABLE, DomainState.READY) == (silent.state, sound.state)
    account.service.api.faults.add(Fault.delay(2), on="GET /domain/*", times=None)
    with pytest.raises(TargetUnavailable, match="did not answer"):
        account.target().observe(look(WWW, "a.example.com", "b.example.com"))
    assert 0 == account.count("GET /domain/b.example.com")


def test_refused_keys(account: QiniuAccount) -> None:
    """Access denied passes the port as such, and no secret with it."""
    settings = Settings(
        Secret(ACCESS_KEY),
        Secret("another-secret"),
        api=f"{account.service.api_url}/",
        fusion=account.service.fusion_url,
        uc=account.service.uc_url,
    )
    target = connect(settings, account.context)

    with pytest.raises(TargetAccessDenied) as caught:
        target.observe(look(WWW))

    shown = f"{settings!r} {caught.value!r} {caught.value.hint}"
    assert ACCESS_KEY not in shown
    assert "another-secret" not in shown


def test_settings_reach_the_target(account: QiniuAccount) -> None:
    """Addresses, keys and the least remaining days are those of the settings."""
    account.service.add_domain(WWW)
    settings = Settings(
        Secret(ACCESS_KEY),
        Secret(SECRET_KEY),
        api=account.service.api_url,
        fusion=account.service.fusion_url,
        uc=account.service.uc_url,
        min_remaining_days=20,
    )
    target = connect(settings, account.context)

    found = target.observe(look(WWW))

    usual = (timedelta(minutes=8), timedelta(minutes=15))
    wanted = TargetRules(timedelta(days=20), needs_common_name=True, usual_change=usual)
    assert wanted == found.rules
    assert [WWW] == [domain.domain for domain in found.domains]


def test_the_hosts_of_the_documents_are_the_default() -> None:
    """Over HTTPS only."""
    settings = Settings(Secret("ak"), Secret("sk"))

    assert (
        "https://api.qiniu.com",
        "https://fusion.qiniuapi.com",
        "https://uc.qiniuapi.com",
        30,
    ) == (settings.api, settings.fusion, settings.uc, settings.min_remaining_days)


@pytest.fixture
def made() -> CertificateBundle:
    return bundle(WWW, "*.example.com")


@pytest.mark.parametrize(
    "change",
    [{"names": (WWW,)}, {"not_before": timedelta(seconds=1)}, {"not_after": timedelta(seconds=-1)}],
)
def test_a_mark_on_something_else(
    change: dict[str, Any], account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """A label alone proves nothing: names and dates must be the certificate's own."""
    issued = qiniu_calls.issue(WWW, "*.example.com")
    ours = bundle_of(issued).certificate
    account.service.add_certificate(issued, label_of("img", ours.fingerprint))
    [(field, value)] = change.items()
    other = getattr(ours, field) + value if isinstance(value, timedelta) else value

    assert () == target.observe(look(known=(replace(ours, **{field: other}),))).remotes
    assert 1 == len(target.observe(look(known=(ours,))).remotes)


@pytest.mark.parametrize("names", ['["*.EXAMPLE.com","WWW.example.com"]', "null", "[]"])
def test_names_in_another_order_or_not_reported(
    names: str, account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """Order and case of names do not matter, and what a list leaves out does not disagree."""
    label = label_of("img", made.certificate.fingerprint)
    body = f'{{"code":200,"certs":[{{"certid":"x","name":"{label}","dnsnames":{names}}}]}}'
    account.service.fusion.faults.add(Fault.status(200, body.encode()))

    found = target.observe(look(known=(made.certificate,))).remotes

    assert ["x"] == [remote.remote_id for remote in found]


def test_copies_that_the_state_does_not_know(account: QiniuAccount, target: Qiniu) -> None:
    """What has the lineage's mark and is not known is reported, with its moments: the state may
    be an older copy. Other lineages' marks and other people's names are not.
    """
    known, issued = bundle_of(qiniu_calls.issue(WWW)).certificate, qiniu_calls.issue(WWW)
    newer = bundle_of(issued).certificate
    marks_of_img = (label_of("img", newer.fingerprint), short_label_of("img", newer.fingerprint))
    for name in (
        *marks_of_img,
        label_of("img-2", newer.fingerprint),
        WWW,
        "certferry-img-nonsense",
    ):
        account.service.add_certificate(issued, name)

    found = target.observe(look(known=(known,))).unremembered

    assert sorted(marks_of_img) == sorted(other.label for other in found)
    assert {newer.not_before} == {other.not_before for other in found}
    assert () == target.observe(look(known=(known, newer))).unremembered


def test_many_lineages_share_one_list(account: QiniuAccount, target: Qiniu) -> None:
    """A hundred observations at once list certificates and domains once each."""
    account.service.add_domain("example.org")
    known = (bundle_of(qiniu_calls.issue(WWW)).certificate,)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: target.observe(look(known=known)), range(100)))

    assert (1, 1) == (account.count("GET /sslcert"), account.count("GET /domain"))


def test_lineage_without_certificates_has_no_copies_to_look_for(
    account: QiniuAccount, target: Qiniu
) -> None:
    """Before the first certificate is issued, the account's list is not asked for."""
    target.observe(look())

    assert 0 == account.count("GET /sslcert")


def test_lists_grow_old(account: QiniuAccount, target: Qiniu) -> None:
    """After a few seconds, what others did at Qiniu is seen."""
    assert () == target.observe(look()).domains
    account.service.add_domain(WWW)
    account.time.pause(5)

    assert [WWW] == [domain.domain for domain in target.observe(look()).domains]


def test_a_list_that_failed_is_asked_for_again(account: QiniuAccount, target: Qiniu) -> None:
    """A failure is not remembered."""
    account.service.add_domain(WWW)
    account.service.api.faults.add(Fault.status(500), times=4)

    with pytest.raises(TargetUnavailable):
        target.observe(look())

    assert 1 == len(target.observe(look()).domains)
