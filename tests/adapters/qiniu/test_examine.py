"""Examinations of a Qiniu account: permissions of its keys, its clock, and the CNAMEs of
domains.
"""

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
    """Examine the account, and return the problems by code."""
    findings = account.target(**keys).examine("qiniu")
    assert {"qiniu"} == {finding.subject for finding in findings}
    assert [] == account.service.writes()
    return {finding.code: finding for finding in findings}


def test_fully_accepted_keys(account: QiniuAccount) -> None:
    """The examination reports the host of each call and the number of certificates."""
    account.service.add_certificate(qiniu_calls.issue("img.example.com"), "by hand")

    problems = examined(account)

    assert {Code.WAYS, Code.CERTIFICATES_KEPT} == set(problems)
    hosts = account.hosts
    assert [
        f"domain at {hosts.api.removeprefix('http://')} (Qiniu)",
        f"sslcert at {hosts.fusion.removeprefix('http://')} (QBox)",
        f"buckets at {hosts.uc.removeprefix('http://')} (Qiniu)",
    ] == str(problems[Code.WAYS].message).removeprefix("Qiniu accepts the keys: ").split(", ")
    assert "certificates in the account: 1;" in str(problems[Code.CERTIFICATES_KEPT].message)


def test_examination_is_independent_of_observations(
    account: QiniuAccount,
) -> None:
    """Two examinations give the same result, with and without an observation between."""
    account.service.add_domain("img.example.com")
    target = account.target()
    alone = target.examine("qiniu")
    target.observe(Scope("img", ("*.example.com",), None, Kind.AUTO, ()))

    assert alone == target.examine("qiniu")


def test_unusual_way_is_reported(account: QiniuAccount) -> None:
    """Only api.qiniu.com answers for certificates in this test."""
    account.service.hosting.certificates = {Host.API: QBOX}

    problems = examined(account)

    assert f"sslcert at {account.hosts.api.removeprefix('http://')} (QBox)" in str(
        problems[Code.WAYS].message
    )


def test_401_for_unknown_paths(account: QiniuAccount) -> None:
    """Qiniu answers unknown paths with 401; the examination calls known paths only
    (docs/facts/qiniu.md §1.3).
    """
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
def test_forbidden_call(account: QiniuAccount, host: str, call: str, severity: Severity) -> None:
    """Other calls are accepted; without buckets, only source domains are invisible."""
    getattr(account.service, host).faults.add(
        refusal(403, words="no permission"), on=call, times=None
    )

    problems = examined(account)

    assert severity is problems[Code.CALL_REFUSED].severity
    assert Code.WAYS in problems


def test_fully_refused_keys(account: QiniuAccount) -> None:
    """Refused keys are a single error of the account."""
    with pytest.raises(TargetAccessDenied):
        account.target(secret="another").examine("qiniu")


def test_wrong_clock_in_an_examination(account: QiniuAccount) -> None:
    """The examination reports the difference of the clocks, although a single scheme dates its
    requests.
    """
    account.time.offset = timedelta(minutes=20)

    problems = examined(account)

    assert "20 minutes ahead of Qiniu's" in str(problems[Code.CLOCK_OFF].message)
    assert Code.CALL_REFUSED not in problems


@pytest.mark.parametrize("minutes", [0, 7, -20])
def test_clock_without_keys(account: QiniuAccount, minutes: int) -> None:
    """Any answer to a request without keys has a Date."""
    account.time.offset = timedelta(minutes=-minutes)

    assert timedelta(minutes=minutes) == account.target(secret="another").clock_ahead()
    assert "" == account.service.requests("GET /")[0].headers.get("Authorization", "")


def test_clock_of_a_web_page(account: QiniuAccount) -> None:
    """The Date of a web page counts as well."""
    account.service.api.faults.add(Fault.html(404), on="GET /")

    assert timedelta(0) == account.target().clock_ahead()


def test_clock_of_an_unreachable_service(account: QiniuAccount) -> None:
    """The unreachable service is the error."""
    account.service.api.faults.add(Fault.reset_before(), on="GET /", times=None)

    with pytest.raises(TargetUnavailable):
        account.target().clock_ahead()


def test_key_of_a_sub_account(account: QiniuAccount) -> None:
    """The key is recognised as a sub-account's; its permission to write is not tested."""
    account.service.add_iam_key(IAM_KEY, "iam-secret", owner=ACCESS_KEY, reads_only=True)

    problems = examined(account, access_key=IAM_KEY, secret="iam-secret")

    assert Severity.WARNING is problems[Code.SUB_ACCOUNT_KEY].severity
    assert Code.SUB_ACCOUNT_KEY not in examined(account)


def test_read_only_key(account: QiniuAccount) -> None:
    """A change is refused with a hint about the permission, and the account is unchanged."""
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


def test_cnames_of_domains(account: QiniuAccount) -> None:
    """A child of a wildcard domain is left out, and wildcards have certferry's spelling."""
    account.service.add_domain("img.example.com")
    account.service.add_domain(".w.example.com")
    account.service.add_domain("a.w.example.com", type="pan", parent=".w.example.com")

    assert {
        "img.example.com": "img.example.com.qiniudns.com",
        "*.w.example.com": "w.example.com.qiniudns.com",
    } == account.target().cnames()
