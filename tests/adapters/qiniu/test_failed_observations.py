"""Failed and partial observations of Qiniu, copies of certferry's, and lists shared by lineages."""

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
from tests.adapters.qiniu.test_observe import IMG, scope_of
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import ACCESS_KEY, SECRET_KEY
from tests.support.tiers import long


def test_unreachable_list_of_domains(account: QiniuAccount, target: Qiniu) -> None:
    """Without the list, the domains are unknown: the observation fails and allows a retry."""
    account.service.add_domain(WWW)
    account.service.api.faults.add(Fault.status(500), on="GET /domain", times=None)

    with pytest.raises(TargetUnavailable) as caught:
        target.observe(scope_of())

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
def test_unreadable_domain(
    fault: Fault, words: str, domains: tuple[str, ...], account: QiniuAccount, target: Qiniu
) -> None:
    """The domain is reported with a retry, and other domains are observed."""
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(fault, on=f"GET /domain/{WWW}", times=None)

    broken, sound = target.observe(scope_of(*domains, names=("*.example.com",))).domains

    assert (WWW, DomainState.UNAVAILABLE) == (broken.domain, broken.state)
    assert words in str(broken.problem)
    assert broken.problem is not None
    assert broken.problem.retry.allowed
    assert (IMG, DomainState.READY) == (sound.domain, sound.state)


def test_401_for_the_first_domain(account: QiniuAccount, target: Qiniu) -> None:
    """The observation ends at the first named domain after both ways were tried."""
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(refusal(401, None, "bad token"), on="GET /domain/*", times=None)

    with pytest.raises(TargetAccessDenied):
        target.observe(scope_of(WWW, IMG))

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
def test_failure_common_to_all_domains(
    fault: Fault,
    error: type[Exception],
    domains: tuple[str, ...],
    account: QiniuAccount,
    target: Qiniu,
) -> None:
    """Refused keys and a rate limit end the observation at the first domain."""
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(fault, on="GET /domain/*", times=None)

    with pytest.raises(error):
        target.observe(scope_of(*domains, names=("*.example.com",)))

    assert 0 == account.count(f"GET /domain/{IMG}")


def test_no_connection(account: QiniuAccount) -> None:
    """An account whose hosts do not answer gives a single error with a retry."""
    target = account.target()
    account.service.api.stop()

    with pytest.raises(TargetUnavailable, match="cannot connect") as caught:
        target.observe(scope_of(WWW, IMG))

    assert caught.value.retry.allowed


@long
def test_silent_domain(account: QiniuAccount) -> None:
    """Silence about a single domain concerns that domain; silence about two in a row concerns
    Qiniu.
    """
    account.timeouts = SHORT
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(Fault.delay(2), on=f"GET /domain/{WWW}", times=4)

    silent, sound = account.target().observe(scope_of(WWW, IMG)).domains

    assert (DomainState.UNAVAILABLE, DomainState.READY) == (silent.state, sound.state)
    account.service.api.faults.add(Fault.delay(2), on="GET /domain/*", times=None)
    with pytest.raises(TargetUnavailable, match="did not answer"):
        account.target().observe(scope_of(WWW, "a.example.com", "b.example.com"))
    assert 0 == account.count("GET /domain/b.example.com")


def test_refused_keys(account: QiniuAccount) -> None:
    """The error is access denied, without the keys."""
    settings = Settings(
        Secret(ACCESS_KEY),
        Secret("another-secret"),
        api=f"{account.service.api_url}/",
        fusion=account.service.fusion_url,
        uc=account.service.uc_url,
    )
    target = connect(settings, account.context)

    with pytest.raises(TargetAccessDenied) as caught:
        target.observe(scope_of(WWW))

    shown = f"{settings!r} {caught.value!r} {caught.value.hint}"
    assert ACCESS_KEY not in shown
    assert "another-secret" not in shown


def test_settings_reach_the_target(account: QiniuAccount) -> None:
    """The target uses the settings' addresses, keys and remaining days."""
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

    observed = target.observe(scope_of(WWW))

    usual = (timedelta(minutes=8), timedelta(minutes=15))
    wanted = TargetRules(timedelta(days=20), needs_common_name=True, usual_change=usual)
    assert wanted == observed.rules
    assert [WWW] == [domain.domain for domain in observed.domains]


def test_default_hosts() -> None:
    """The default hosts are the documented hosts, over HTTPS."""
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
def test_mark_on_another_certificate(
    change: dict[str, Any], account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """A mark is no proof: names and dates must equal the certificate's."""
    issued = qiniu_calls.issue(WWW, "*.example.com")
    ours = bundle_of(issued).certificate
    account.service.add_certificate(issued, label_of("img", ours.fingerprint))
    [(field, value)] = change.items()
    other = getattr(ours, field) + value if isinstance(value, timedelta) else value

    assert () == target.observe(scope_of(certificates=(replace(ours, **{field: other}),))).remotes
    assert 1 == len(target.observe(scope_of(certificates=(ours,))).remotes)


@pytest.mark.parametrize("names", ['["*.EXAMPLE.com","WWW.example.com"]', "null", "[]"])
def test_reordered_or_missing_names(
    names: str, account: QiniuAccount, target: Qiniu, made: CertificateBundle
) -> None:
    """Order and case of names are irrelevant, and missing names do not contradict."""
    label = label_of("img", made.certificate.fingerprint)
    body = f'{{"code":200,"certs":[{{"certid":"x","name":"{label}","dnsnames":{names}}}]}}'
    account.service.fusion.faults.add(Fault.status(200, body.encode()))

    remotes = target.observe(scope_of(certificates=(made.certificate,))).remotes

    assert ["x"] == [remote.remote_id for remote in remotes]


def test_copies_missing_in_the_state(account: QiniuAccount, target: Qiniu) -> None:
    """A copy with the lineage's mark that the state lacks is reported with its start: the state may
    be an older copy. Marks of other lineages and other names are ignored.
    """
    remembered, issued = bundle_of(qiniu_calls.issue(WWW)).certificate, qiniu_calls.issue(WWW)
    newer = bundle_of(issued).certificate
    marks_of_img = (label_of("img", newer.fingerprint), short_label_of("img", newer.fingerprint))
    for name in (
        *marks_of_img,
        label_of("img-2", newer.fingerprint),
        WWW,
        "certferry-img-nonsense",
    ):
        account.service.add_certificate(issued, name)

    unremembered = target.observe(scope_of(certificates=(remembered,))).unremembered

    assert sorted(marks_of_img) == sorted(other.label for other in unremembered)
    assert {newer.not_before} == {other.not_before for other in unremembered}
    assert () == target.observe(scope_of(certificates=(remembered, newer))).unremembered


def test_lineages_share_the_lists(account: QiniuAccount, target: Qiniu) -> None:
    """A hundred simultaneous observations list certificates and domains once each."""
    account.service.add_domain("example.org")
    remembered = (bundle_of(qiniu_calls.issue(WWW)).certificate,)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: target.observe(scope_of(certificates=remembered)), range(100)))

    assert (1, 1) == (account.count("GET /sslcert"), account.count("GET /domain"))


def test_lineage_without_certificates(account: QiniuAccount, target: Qiniu) -> None:
    """Before the first certificate, the list of certificates is not requested."""
    target.observe(scope_of())

    assert 0 == account.count("GET /sslcert")


def test_age_of_the_lists(account: QiniuAccount, target: Qiniu) -> None:
    """After a few seconds, a new list shows the changes of others."""
    assert () == target.observe(scope_of()).domains
    account.service.add_domain(WWW)
    account.time.pause(5)

    assert [WWW] == [domain.domain for domain in target.observe(scope_of()).domains]


def test_failed_list_is_requested_again(account: QiniuAccount, target: Qiniu) -> None:
    """A failure is not cached."""
    account.service.add_domain(WWW)
    account.service.api.faults.add(Fault.status(500), times=4)

    with pytest.raises(TargetUnavailable):
        target.observe(scope_of())

    assert 1 == len(target.observe(scope_of()).domains)
