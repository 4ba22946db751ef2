"""A survey of all domains in a Qiniu account, before the operator declares any."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest

from certferry.adapters.qiniu.records import KODO, HttpsConf
from certferry.adapters.qiniu.survey import AT_ONCE
from certferry.core.desired.certificate import HttpsSettings, Kind
from certferry.core.discovery.inventory import FoundCertificate, FoundDomain, Survey
from certferry.errors import DeployError, TargetAccessDenied, TargetRejected, TargetUnavailable
from certferry.ports.target import Scope
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.kodo import DomainType
from tests.adapters.qiniu.account import QiniuAccount, refusal
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import ACCESS_KEY
from tests.support.waiting import eventually

IAM_KEY = "IAM-" + "k" * 40


def ignored(count: int, total: int) -> None:
    """Ignore the progress."""
    del count, total


def surveyed(account: QiniuAccount) -> dict[str, FoundDomain]:
    """Survey the account, and return the domains by name."""
    return by_name(account.target().survey(ignored))


def by_name(survey: Survey) -> dict[str, FoundDomain]:
    return {domain.domain: domain for domain in survey.domains}


def test_domains_with_their_certificates(account: QiniuAccount) -> None:
    """Each domain has kind, state, settings and binding with its end, for any owner of the
    certificate; all certificates are listed.
    """
    issued, spare = qiniu_calls.issue("*.example.com"), qiniu_calls.issue("x.example.org")
    cert = account.service.add_certificate(issued, "by hand")
    unused = account.service.add_certificate(spare, "spare")
    versions = ["TLSv1.3", "TLSv1.2"]
    account.service.add_domain("img.example.com", https=cert, http2=True, tls_versions=versions)
    account.service.add_domain(".w.example.com", product="dcdn", platform="dynamic")
    account.service.add_domain("free.example.com", free_certificate=True, force_https=True)
    account.service.add_bucket_domain("src.example.com", "pictures", https=cert)
    account.service.add_bucket_domain("img.example.com", "films", domain_type=DomainType.BOTH)

    survey = account.target().survey(ignored)

    end = issued.leaf.not_valid_after_utc
    settings = HttpsSettings(force_https=False, http2=True, tls_versions=("TLSv1.2", "TLSv1.3"))
    redirected = HttpsSettings(force_https=True, http2=False)
    bound: dict[str, Any] = {"has_https": True, "not_after": end, "bound": cert}
    other_facts: dict[str, Any] = {"state": "success"}
    assert {
        "img.example.com": FoundDomain(
            "img.example.com", Kind.CDN, **bound, **other_facts, https=settings
        ),
        "*.w.example.com": FoundDomain("*.w.example.com", Kind.DCDN, **other_facts),
        "free.example.com": FoundDomain(
            "free.example.com",
            Kind.CDN,
            has_https=True,
            is_free=True,
            **other_facts,
            https=redirected,
        ),
        "src.example.com": FoundDomain("src.example.com", KODO, **bound),
    } == by_name(survey)
    assert (
        FoundCertificate(cert, "by hand", ("*.example.com",), end),
        FoundCertificate(unused, "spare", ("x.example.org",), spare.leaf.not_valid_after_utc),
    ) == survey.certificates
    assert () == survey.unread
    assert [] == account.service.writes()


@pytest.mark.parametrize(("hides", "settings"), [("flags", True), ("all", False)])
def test_domain_with_hidden_settings(
    account: QiniuAccount, hides: Literal["flags", "all"], *, settings: bool
) -> None:
    """The domain has HTTPS; its flags are unknown, and its binding may be."""
    cert = account.service.add_certificate(qiniu_calls.issue("*.example.com"), "by hand")
    account.service.add_domain("img.example.com", https=cert, force_https=True)
    account.service.domains.hides = hides

    [domain] = surveyed(account).values()

    assert (True, not settings) == (domain.has_https, domain.binding_hidden)
    assert (cert if settings else None) == domain.bound
    assert domain.https.force_https is None or settings


def test_domain_that_accepts_no_certificate(account: QiniuAccount) -> None:
    """The problem of a frozen domain, or of a child of a wildcard domain, states the reason."""
    account.service.add_domain("ice.example.com", state="frozen")
    account.service.add_domain(".w.example.com")
    account.service.add_domain("a.w.example.com", type="pan", parent=".w.example.com")
    account.service.add_bucket_domain("src.example.com", "pictures", freeze_types=["icp"])

    domains = surveyed(account)

    assert "is frozen at Qiniu" in str(domains["ice.example.com"].problem)
    assert domains["ice.example.com"].by_itself
    assert "takes its certificate from *.w.example.com" in str(domains["a.w.example.com"].problem)
    assert not domains["a.w.example.com"].by_itself
    assert "is frozen at Kodo" in str(domains["src.example.com"].problem)


def test_domain_with_a_failed_change(account: QiniuAccount) -> None:
    """The failure is reported; the domain itself has no problem, because a change is possible."""
    account.service.add_domain("img.example.com")
    account.service.fail_next("img.example.com", "verify https crt fail")
    keys = qiniu_calls.Client(account.service)
    keys.sslize("img.example.com", qiniu_calls.seed(account.service, ["img.example.com"]))
    account.time.pause(60)

    [domain] = surveyed(account).values()

    assert "failed" == domain.state
    assert None is domain.problem
    assert "Qiniu could not carry out sslize: verify https crt fail" == str(domain.failure)
    assert domain.failure is not None
    assert "issue a new one" in str(domain.failure.hint)


def test_domain_that_vanishes_during_a_survey(account: QiniuAccount) -> None:
    """A domain that disappears after the list was read is left out."""
    account.service.add_domain("img.example.com")
    account.service.add_domain("gone.example.com", free_certificate=True)
    account.service.api.faults.add(refusal(404, 404001), on="GET /domain/gone.example.com")

    assert {"img.example.com"} == set(surveyed(account))


def test_progress_of_a_survey(account: QiniuAccount) -> None:
    """Each domain is counted, including a vanished domain."""
    for name in ("a.example.com", "b.example.com", "c.example.com"):
        account.service.add_domain(name, free_certificate=True)
    account.service.api.faults.add(refusal(404, 404001), on="GET /domain/b.example.com")
    reported: list[tuple[int, ...]] = []

    account.target().survey(lambda *counted: reported.append(counted))

    assert [(1, 3), (2, 3), (3, 3)] == reported


def test_unreadable_domain(account: QiniuAccount) -> None:
    """The refused domain has a problem, and other domains are reported."""
    account.service.add_domain("img.example.com")
    account.service.add_domain("odd.example.com", free_certificate=True)
    account.service.api.faults.add(refusal(400, 400999), on="GET /domain/odd.example.com")

    domains = surveyed(account)

    assert domains["img.example.com"].problem is None
    assert domains["odd.example.com"].problem is not None
    assert domains["odd.example.com"].binding_hidden


@pytest.mark.parametrize("seconds", [2**64, -(2**64), 2**40, 0])
def test_end_outside_the_calendar(account: QiniuAccount, seconds: int) -> None:
    """An impossible date counts as unknown, and hides no domain."""
    cert = account.service.add_certificate(qiniu_calls.issue("*.example.com"), "by hand")
    account.service.add_domain("img.example.com", https=cert)
    entry = {"certid": cert, "name": "by hand", "not_before": seconds, "not_after": seconds}
    page = json.dumps({"code": 200, "certs": [entry], "marker": ""}).encode()
    account.service.fusion.faults.add(Fault.status(200, page), on="GET /sslcert", times=None)

    surveyed_now = surveyed(account)

    assert surveyed_now["img.example.com"].has_https
    assert surveyed_now["img.example.com"].not_after is None


def test_keys_without_permission_for_kodo(account: QiniuAccount) -> None:
    """A sub-account's key cannot read bindings; the survey reports possible further domains."""
    account.service.add_iam_key(IAM_KEY, "iam-secret", owner=ACCESS_KEY)
    account.service.add_domain("img.example.com")
    account.service.add_bucket_domain("src.example.com", "pictures")

    survey = account.target(access_key=IAM_KEY, secret="iam-secret").survey(ignored)

    domains = by_name(survey)
    assert {"img.example.com": False, "src.example.com": True} == {
        name: domain.binding_hidden for name, domain in domains.items()
    }
    assert [TargetAccessDenied] == [type(error) for error in survey.unread]


@pytest.mark.parametrize(
    ("fault", "error"),
    [(refusal(403, words="no right"), TargetAccessDenied), (refusal(400, 400999), TargetRejected)],
    ids=["denied", "refused"],
)
def test_unreadable_list_of_certificates(
    account: QiniuAccount, fault: Fault, error: type[DeployError]
) -> None:
    """The bindings are known, and their ends are unknown."""
    cert = account.service.add_certificate(qiniu_calls.issue("*.example.com"), "by hand")
    account.service.add_domain("img.example.com", https=cert)
    for host in (account.service.api, account.service.fusion):
        host.faults.add(fault, on="GET /sslcert", times=None)

    survey = account.target().survey(ignored)

    [domain] = survey.domains
    assert (cert, None) == (domain.bound, domain.not_after)
    assert [error] == [type(unread_error) for unread_error in survey.unread]
    assert () == survey.certificates


@pytest.mark.parametrize("path", ["/domain", "/domain/img.example.com", "/sslcert", "/buckets"])
def test_lasting_rate_limit_ends_the_survey(account: QiniuAccount, path: str) -> None:
    """Every other call would fail as well, and half an account could pass for the whole."""
    account.service.add_domain("img.example.com", free_certificate=True)
    for host in (account.service.api, account.service.fusion, account.service.uc):
        host.faults.add(refusal(429), on=f"GET {path}", times=None)

    target = account.target()

    if path == "/buckets":  # the CDN's domains are reported without Kodo's
        assert [TargetUnavailable] == [
            type(unread_error) for unread_error in target.survey(ignored).unread
        ]
    else:
        with pytest.raises(TargetUnavailable):
            target.survey(ignored)


def reads(account: QiniuAccount) -> list[str]:
    paths = [request.path for request in account.service.requests("GET /domain/*")]
    return [path.removeprefix("/domain/") for path in paths]


def test_domain_without_https_is_not_read(account: QiniuAccount) -> None:
    """The list has all facts; reading ten thousand domains would take a quarter of an hour at ten
    requests a second.
    """
    account.service.add_domain("img.example.com", product="dcdn")
    account.service.add_domain("off.example.com", state="offlined")
    account.service.add_domain("free.example.com", free_certificate=True)

    domains = surveyed(account)

    assert ["free.example.com"] == reads(account)
    assert (Kind.DCDN, False, "success") == (
        domains["img.example.com"].kind,
        domains["img.example.com"].has_https,
        domains["img.example.com"].state,
    )
    assert "is offline at Qiniu" in str(domains["off.example.com"].problem)


def test_only_changed_domains_are_read_again(
    account: QiniuAccount,
) -> None:
    """As for a plan, the list shows the last change of a domain. The result is the same."""
    names = ("img.example.com", "www.example.com")
    issued = qiniu_calls.issue("*.example.com")
    cert, other = (account.service.add_certificate(issued, name) for name in ("one", "other"))
    for name in names:
        account.service.add_domain(name, https=cert)
    fresh = surveyed(account)
    account.target().observe(Scope("img", ("*.example.com",), names, Kind.AUTO, ()))
    read_count = len(reads(account))

    assert fresh == surveyed(account)
    assert read_count == len(reads(account))

    account.time.pause(1)
    account.client().httpsconf("www.example.com", HttpsConf(other))

    assert {"img.example.com": cert, "www.example.com": other} == {
        name: domain.bound for name, domain in surveyed(account).items()
    }
    assert ["www.example.com"] == reads(account)[read_count:]


def test_details_are_read_in_parallel(account: QiniuAccount) -> None:
    """Several slow answers are awaited at once."""
    names = [f"d{number}.example.com" for number in range(AT_ONCE)]
    for name in names:
        account.service.add_domain(name, free_certificate=True)
    account.service.api.faults.add(Fault.delay(1), on="GET /domain/*", times=None)

    def in_progress() -> int:
        return sum(call.status is None for call in account.service.api.journal)

    with ThreadPoolExecutor(1) as pool:
        survey = pool.submit(account.target().survey, ignored)
        assert eventually(lambda: in_progress() >= AT_ONCE // 2)
        assert set(names) == set(by_name(survey.result()))


def test_unreachable_account(account: QiniuAccount) -> None:
    """An unreachable account is an error rather than an empty account."""
    account.service.api.faults.add(Fault.html(502), on="GET /domain", times=100)

    with pytest.raises(TargetUnavailable):
        account.target().survey(ignored)
