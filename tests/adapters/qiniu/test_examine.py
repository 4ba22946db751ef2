"""What a Qiniu account lets its keys do, by which clock, and where its domains are to lead."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.findings import Code
from certferry.errors import Problem, Severity, TargetAccessDenied, TargetUnavailable
from certferry.ports.target import Scope
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.routes import QBOX, Host
from tests.adapters.qiniu.account import QiniuAccount, bundle, refusal
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import ACCESS_KEY

IAM_KEY = "IAM-" + "k" * 40


def examined(account: QiniuAccount, **keys: Any) -> dict[str, Problem]:
    """Examine the account, and return the findings by code."""
    found = account.target(**keys).examine("qiniu")
    assert {"qiniu"} == {finding.subject for finding in found}
    assert [] == account.service.writes()
    return {finding.code: finding for finding in found}


def test_keys_that_are_accepted_everywhere(account: QiniuAccount) -> None:
    """Where each call is answered is reported, and how many certificates there are."""
    account.service.add_certificate(qiniu_calls.issue("img.example.com"), "by hand")

    found = examined(account)

    assert {Code.WAYS, Code.CERTIFICATES_KEPT} == set(found)
    hosts = account.hosts
    assert [
        f"domain at {hosts.api.removeprefix('http://')} (Qiniu)",
        f"sslcert at {hosts.fusion.removeprefix('http://')} (QBox)",
        f"buckets at {hosts.uc.removeprefix('http://')} (Qiniu)",
    ] == str(found[Code.WAYS].message).removeprefix("Qiniu accepts the keys: ").split(", ")
    assert "certificates in the account: 1;" in str(found[Code.CERTIFICATES_KEPT].message)


def test_calls_that_are_made_beside_them_change_nothing_that_is_reported(
    account: QiniuAccount,
) -> None:
    """Two examinations tell the same, whether other looks at the account came first or not."""
    account.service.add_domain("img.example.com")
    target = account.target()
    alone = target.examine("qiniu")
    target.observe(Scope("img", ("*.example.com",), None, Kind.AUTO, ()))

    assert alone == target.examine("qiniu")


def test_way_that_is_not_the_usual_one_is_reported(account: QiniuAccount) -> None:
    """As where only api.qiniu.com answers for certificates."""
    account.service.hosting.certificates = {Host.API: QBOX}

    found = examined(account)

    assert f"sslcert at {account.hosts.api.removeprefix('http://')} (QBox)" in str(
        found[Code.WAYS].message
    )


def test_nonsense_answers_say_nothing_of_keys(account: QiniuAccount) -> None:
    """Paths that are no call answer 401 at Qiniu; none is asked (docs/facts/qiniu.md §1.3)."""
    account.service.hosting.unknown_is_401 = True

    assert Code.CALL_REFUSED not in examined(account)


@pytest.mark.parametrize(
    ("host", "call", "severity"),
    [
        ("api", "GET /domain", Severity.ERROR),
        ("fusion", "GET /sslcert", Severity.ERROR),
        ("uc", "GET /buckets", Severity.WARNING),
    ],
)
def test_call_that_the_keys_may_not_make(
    account: QiniuAccount, host: str, call: str, severity: Severity
) -> None:
    """The others are accepted; without buckets only source domains are not seen."""
    getattr(account.service, host).faults.add(
        refusal(403, words="no permission"), on=call, times=None
    )

    found = examined(account)

    assert severity is found[Code.CALL_REFUSED].severity
    assert Code.WAYS in found


def test_keys_that_are_accepted_nowhere(account: QiniuAccount) -> None:
    """It is one error of the account, and not three."""
    with pytest.raises(TargetAccessDenied):
        account.target(secret="another").examine("qiniu")


def test_wrong_clock_is_not_blamed_on_the_keys(account: QiniuAccount) -> None:
    """It is said with how much, though only one of the schemes dates its requests."""
    account.time.offset = timedelta(minutes=20)

    found = examined(account)

    assert "20 minutes ahead of Qiniu's" in str(found[Code.CLOCK_OFF].message)
    assert Code.CALL_REFUSED not in found


@pytest.mark.parametrize("minutes", [0, 7, -20])
def test_clock_is_reported_without_keys(account: QiniuAccount, minutes: int) -> None:
    """Whatever is answered to such a request has a Date."""
    account.time.offset = timedelta(minutes=-minutes)

    assert timedelta(minutes=minutes) == account.target(secret="another").clock_ahead()
    assert "" == account.service.requests("GET /")[0].headers.get("Authorization", "")


def test_clock_is_reported_by_a_web_page_too(account: QiniuAccount) -> None:
    """Its Date is as good as any."""
    account.service.api.faults.add(Fault.html(404), on="GET /")

    assert timedelta(0) == account.target().clock_ahead()


def test_service_that_does_not_answer_reports_no_time(account: QiniuAccount) -> None:
    """That is reported as it is."""
    account.service.api.faults.add(Fault.reset_before(), on="GET /", times=None)

    with pytest.raises(TargetUnavailable):
        account.target().clock_ahead()


def test_key_of_a_sub_account(account: QiniuAccount) -> None:
    """That it may read is seen; a change is not tried, so whether it may is not known."""
    account.service.add_iam_key(IAM_KEY, "iam-secret", owner=ACCESS_KEY, reads_only=True)

    found = examined(account, access_key=IAM_KEY, secret="iam-secret")

    assert Severity.WARNING is found[Code.SUB_ACCOUNT_KEY].severity
    assert Code.SUB_ACCOUNT_KEY not in examined(account)


def test_key_that_may_read_and_not_write(account: QiniuAccount) -> None:
    """The change is refused with words that say so, and nothing is changed."""
    account.service.add_iam_key(IAM_KEY, "iam-secret", owner=ACCESS_KEY, reads_only=True)
    account.service.add_domain("img.example.com")
    target = account.target(access_key=IAM_KEY, secret="iam-secret")

    with pytest.raises(TargetAccessDenied) as upload:
        target.upload("img", bundle("img.example.com"))
    with pytest.raises(TargetAccessDenied) as bind:
        target.bind("img.example.com", Kind.CDN, "a" * 24, DesiredHttps())

    for refused in (upload, bind):
        assert "can only read" in str(refused.value.hint)
    assert [] == account.labels()
    assert None is account.service.bound("img.example.com")


def test_cnames_are_those_of_domains_that_are_served_by_themselves(account: QiniuAccount) -> None:
    """A child of a wildcard domain follows its parent; wildcards are spelled as ours."""
    account.service.add_domain("img.example.com")
    account.service.add_domain(".w.example.com")
    account.service.add_domain("a.w.example.com", type="pan", parent=".w.example.com")

    assert {
        "img.example.com": "img.example.com.qiniudns.com",
        "*.w.example.com": "w.example.com.qiniudns.com",
    } == account.target().cnames()
