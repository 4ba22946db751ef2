"""Source domains of Kodo buckets: discovered, recognised by kind, bound, and reported."""

from __future__ import annotations

import json

import pytest

from certferry.adapters.qiniu.records import KODO
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, Kind
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.errors import TargetAccessDenied, TargetBusy, TargetRejected, TargetUnavailable
from certferry.ports.target import Scope
from certferry.values import replace
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.habits import bindings_nowhere
from certferry_sandbox.qiniu.kodo import DomainType
from tests.adapters.qiniu.account import WWW, QiniuAccount, bundle, refusal
from tests.adapters.qiniu.observations import NAMES, problem_of, scope_of, usable_kinds
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import ACCESS_KEY

IMG = "img.example.com"
SRC = "src.example.com"
IAM_KEY = "IAM-" + "k" * 40
KEEP = DesiredHttps()


@pytest.fixture
def sub_account(account: QiniuAccount) -> Qiniu:
    """The target with a sub-account's key, whose signature `/cert/...` refuses."""
    account.service.add_iam_key(IAM_KEY, "iam-secret", owner=ACCESS_KEY)
    return account.target(access_key=IAM_KEY, secret="iam-secret")


@pytest.fixture
def new(account: QiniuAccount) -> str:
    return qiniu_calls.seed(account.service, list(NAMES), "new")


def test_cdn_and_source_domains(account: QiniuAccount, target: Qiniu) -> None:
    """Covered CDN domains and source domains appear once each, with their kinds."""
    account.service.add_domain(IMG)
    account.service.add_bucket("empty")
    for name, bucket in ((SRC, "pictures"), ("a.src.example.com", "films"), ("x.org", "films")):
        account.service.add_bucket_domain(name, bucket)
    account.service.add_bucket_domain(IMG, "pictures", domain_type=DomainType.CDN)

    assert {IMG: Kind.CDN, SRC: KODO, "a.src.example.com": KODO} == usable_kinds(target, scope_of())
    assert {SRC: KODO} == usable_kinds(target, scope_of(kind=KODO, names=(SRC,)))
    assert {IMG: Kind.CDN} == usable_kinds(target, scope_of(kind=Kind.CDN))


def test_domain_of_cdn_and_kodo(account: QiniuAccount, target: Qiniu) -> None:
    """Kodo refuses to bind the domain, so the domain counts as a CDN domain."""
    account.service.add_domain(WWW)
    account.service.add_bucket_domain(WWW, "pictures", domain_type=DomainType.BOTH)

    assert {WWW: Kind.CDN} == usable_kinds(target, scope_of())
    assert {WWW: Kind.CDN} == usable_kinds(target, scope_of(WWW))
    assert {} == usable_kinds(target, scope_of(kind=KODO))
    problem = problem_of(target, WWW, KODO)
    assert "is a CDN domain, not a source domain" in str(problem)
    assert 'kind = "cdn"' in str(problem.hint)


def test_domain_of_both_types_without_the_cdn(account: QiniuAccount, target: Qiniu) -> None:
    """Kodo alone serves a domain of type 2 without a CDN domain."""
    account.service.add_bucket_domain(SRC, "pictures", domain_type=DomainType.BOTH)

    assert {SRC: KODO} == usable_kinds(target, scope_of())


def test_kinds_of_named_domains(account: QiniuAccount, target: Qiniu) -> None:
    """Named domains come in their order with their kinds; three observations list the buckets
    once.
    """
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")

    for _ in range(3):
        assert {SRC: KODO, IMG: Kind.CDN} == usable_kinds(target, scope_of(SRC, IMG))
    assert {SRC: KODO} == usable_kinds(target, scope_of(SRC, kind=KODO))
    assert 1 == account.count("GET /buckets")


def test_source_domain_named_as_a_cdn_domain(account: QiniuAccount, target: Qiniu) -> None:
    """The error names the bucket, and the hint the right kind."""
    account.service.add_bucket_domain(SRC, "pictures")

    problem = problem_of(target, SRC, Kind.CDN)

    assert f"{SRC} is a source domain of the Kodo bucket pictures, not a CDN domain" == str(problem)
    assert 'kind = "kodo"' in str(problem.hint)


def test_unknown_domain(account: QiniuAccount, target: Qiniu) -> None:
    """Neither part has the domain; for a source domain, the error is about buckets."""
    assert "not a CDN domain of the account" in str(problem_of(target, WWW))
    assert "not a source domain of any Kodo bucket" in str(problem_of(target, WWW, KODO))


def test_frozen_source_domain(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """The domain is unavailable with Kodo's reason, and is not written to."""
    account.service.add_bucket_domain(SRC, "pictures", freeze_types=["ICP_EXPIRED"])

    assert "frozen at Kodo (ICP_EXPIRED)" in str(problem_of(target, SRC))
    with pytest.raises(TargetRejected, match="frozen"):
        target.bind(SRC, KODO, new, KEEP)
    assert 0 == account.count("* /cert/bind")


def test_binding_of_a_source_domain(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """A single POST with both names binds the domain at once, and the observation shows Qiniu's
    binding.
    """
    old = qiniu_calls.seed(account.service, [SRC])
    account.service.add_bucket_domain(SRC, "pictures", https=old)
    [before] = target.observe(scope_of(SRC)).domains

    target.bind(SRC, KODO, new, DesiredHttps(force_https=True, http2=True))
    target.bind(SRC, KODO, new, KEEP)

    [domain] = target.observe(scope_of(SRC)).domains
    assert old == before.bound
    ready = ObservedDomain(SRC, KODO, DomainState.READY, new, HttpsSettings(), has_settings=False)
    assert ready == replace(domain, bound_until=None)
    assert domain.bound_until is not None
    [request] = account.service.requests("* /cert/bind")
    assert "POST" == request.method
    assert {"certid": new, "domain": SRC} == json.loads(request.body)
    assert request.headers["Authorization"].startswith("QBox ")
    assert new == account.service.bound_at_kodo(SRC)


def test_accepted_change_without_an_effect(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """The observation reports the binding that was read, whatever the 200."""
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.api.faults.add(Fault.status(200, b"{}"), on="POST /cert/bind")

    target.bind(SRC, KODO, new, KEEP)

    assert None is target.observe(scope_of(SRC)).domains[0].bound


@pytest.mark.parametrize("body", [b"{}", b"", b'{"code":0}', b'{"code":200,"error":"success"}'])
def test_body_of_a_successful_change(
    body: bytes, account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """Any body with status 200 is a success."""
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.api.faults.add(Fault.status(200, body), on="POST /cert/bind")

    target.bind(SRC, KODO, new, KEEP)


def test_cdn_domain_bound_as_a_source_domain(
    account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """The refusal "domaintype is not allowed" leads to a binding at the CDN."""
    account.service.add_domain(WWW)

    target.bind(WWW, KODO, new, KEEP)

    assert new == account.service.bound(WWW)
    assert ["/cert/bind", f"/domain/{WWW}/sslize"] == [r.path for r in account.service.writes()]


def test_source_domain_bound_as_a_cdn_domain(
    account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """The refusal 404001 leads to a binding at Kodo; so does a missing kind."""
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.add_bucket_domain("a.src.example.com", "pictures")

    target.bind(SRC, Kind.CDN, new, KEEP)
    target.bind("a.src.example.com", Kind.AUTO, new, KEEP)

    assert new == account.service.bound_at_kodo(SRC)
    assert new == account.service.bound_at_kodo("a.src.example.com")


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ({"protocol": "http"}, "sslize"),
        ({"protocol": "https", "https": {"certId": "x"}}, "httpsconf"),
    ],
)
def test_domain_that_left_the_cdn(
    account: QiniuAccount, target: Qiniu, new: str, before: dict[str, object], change: str
) -> None:
    """A write gets 612 instead: the domain is bound at Kodo, or the error explains the missing
    domain.
    """
    record = {"name": SRC, "type": "normal", "operatingState": "success", **before}
    earlier = Fault.status(200, json.dumps(record).encode())
    account.service.api.faults.add(earlier, on=f"GET /domain/{SRC}", times=2)

    with pytest.raises(TargetRejected, match=r"not a CDN domain of the account.*612"):
        target.bind(SRC, Kind.CDN, new, KEEP)
    account.service.add_bucket_domain(SRC, "pictures")
    account.target().bind(SRC, Kind.CDN, new, KEEP)

    assert new == account.service.bound_at_kodo(SRC)
    writes = [request.path for request in account.service.writes()]
    assert [f"/domain/{SRC}/{change}"] * 2 + ["/cert/bind"] == writes


def test_cdn_domain_of_another_account(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """Kodo names a CDN domain that the CDN lacks: the hint is reported."""
    account.service.add_bucket_domain(SRC, "pictures", domain_type=DomainType.CDN)

    with pytest.raises(TargetRejected, match="domaintype is not allowed") as caught:
        target.bind(SRC, KODO, new, KEEP)

    assert "the domain is a CDN domain" in str(caught.value.hint)


def test_busy_cdn_domain_of_a_bucket(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """A busy CDN domain is busy, whatever Kodo lists."""
    account.service.add_domain(WWW, state="processing")
    account.service.add_bucket_domain(WWW, "pictures", domain_type=DomainType.BOTH)

    with pytest.raises(TargetBusy):
        target.bind(WWW, Kind.CDN, new, KEEP)


def test_certificate_for_another_domain(account: QiniuAccount, target: Qiniu) -> None:
    """The error quotes Kodo about the certificate or its id."""
    account.service.add_bucket_domain(SRC, "pictures")
    foreign = qiniu_calls.seed(account.service, ["www.example.org"])

    for cert_id, words in ((foreign, "does not match"), ("0" * 24, "invalid certid")):
        with pytest.raises(TargetRejected, match=words):
            target.bind(SRC, KODO, cert_id, KEEP)


# --- Keys with too few permissions ---------------------------------------------------------


def test_binding_with_a_sub_account(account: QiniuAccount, sub_account: Qiniu, new: str) -> None:
    """A "bad token" for a key that works elsewhere gets a hint about the main account's keys."""
    account.service.add_bucket_domain(SRC, "pictures")

    with pytest.raises(TargetAccessDenied, match="bad token") as caught:
        sub_account.bind(SRC, KODO, new, KEEP)

    assert "main account" in str(caught.value.hint)


def test_sub_account_key_without_the_prefix(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """Earlier successful calls reveal the sub-account's key without its prefix."""
    account.service.add_bucket_domain(SRC, "pictures")
    for host in (account.service.uc, account.service.api, account.service.api_backup):
        host.faults.add(refusal(401, None, "bad token"), on="* /cert/*", times=None)

    observed = target.observe(scope_of(SRC))
    with pytest.raises(TargetAccessDenied, match="bad token; tried") as caught:
        target.bind(SRC, KODO, "id", KEEP)

    [unread] = observed.unread
    assert isinstance(unread, TargetAccessDenied)
    for error in (unread, caught.value):
        assert "keys of the main account" in str(error.hint)


def test_wrong_keys(account: QiniuAccount) -> None:
    """A key that works nowhere gets the usual hint."""
    with pytest.raises(TargetAccessDenied) as caught:
        account.target(secret="wrong").bind(SRC, KODO, "id", KEEP)

    assert "compare both" in str(caught.value.hint)


def test_cdn_with_a_sub_account(account: QiniuAccount, sub_account: Qiniu) -> None:
    """A discovered source domain is unavailable, because its certificate would expire unnoticed;
    the hint offers the kind "cdn". A named source domain is tried.
    """
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")

    image, source = sub_account.observe(scope_of()).domains
    assert (IMG, SRC) == (image.domain, source.domain)
    assert (DomainState.READY, DomainState.UNAVAILABLE) == (image.state, source.state)
    assert isinstance(source.problem, TargetAccessDenied)
    assert "main account" in str(source.problem.hint)
    assert 'set kind = "cdn"' in str(source.problem.hint)
    named = sub_account.observe(scope_of(IMG, SRC))
    assert [False, True] == [domain.binding_hidden for domain in named.domains]
    assert "main account" in str(named.unread[0].hint)
    assert {IMG: Kind.CDN} == usable_kinds(sub_account, scope_of(kind=Kind.CDN))


@pytest.mark.parametrize("scope", [scope_of(kind=KODO), scope_of()])
def test_source_domains_alone_with_a_sub_account(
    scope: Scope, account: QiniuAccount, sub_account: Qiniu
) -> None:
    """With nothing else in scope, the observation fails."""
    account.service.add_bucket_domain(SRC, "pictures")

    with pytest.raises(TargetAccessDenied):
        sub_account.observe(scope)


def test_keys_without_permission_for_kodo(account: QiniuAccount, target: Qiniu) -> None:
    """CDN domains are observed; source domains in scope get the error."""
    account.service.add_domain(IMG)
    account.service.uc.faults.add(refusal(403, None, "no permission"), times=None)

    assert {IMG: Kind.CDN} == usable_kinds(target, scope_of())
    assert {} == usable_kinds(target, scope_of(names=("www.example.org",)))
    assert {IMG: Kind.CDN} == usable_kinds(target, scope_of(IMG))
    observed = target.observe(scope_of(SRC, kind=KODO))
    assert [(SRC, KODO, DomainState.READY)] == [
        (domain.domain, domain.kind, domain.state) for domain in observed.domains
    ]
    assert isinstance(observed.unread[0], TargetAccessDenied)
    with pytest.raises(TargetAccessDenied, match="list of buckets"):
        target.observe(scope_of(kind=KODO))
    assert 1 == account.count("GET /buckets")


def test_forbidden_bucket(account: QiniuAccount, target: Qiniu) -> None:
    """The bucket hides its own domains only."""
    account.service.add_bucket_domain(WWW, "theirs")
    account.service.add_bucket_domain(SRC, "ours")
    account.service.uc.faults.add(refusal(403, None, "no"), on="GET /v3/domains")

    assert {SRC: KODO} == usable_kinds(target, scope_of(kind=KODO))
    assert "cannot see" in str(problem_of(target, WWW))


def test_silent_kodo(account: QiniuAccount, target: Qiniu) -> None:
    """CDN domains are observed; without them, silence is an error rather than an empty account."""
    account.service.add_domain(IMG)
    account.service.uc.faults.add(Fault.status(503), times=None)

    assert {IMG: Kind.CDN} == usable_kinds(target, scope_of())
    assert isinstance(problem_of(target, SRC), TargetUnavailable)
    for scope in (scope_of(names=("www.example.org",)), scope_of(kind=KODO)):
        with pytest.raises(TargetUnavailable):
            target.observe(scope)


def test_earlier_domains_during_silence(account: QiniuAccount, target: Qiniu) -> None:
    """Source domains of an expired list are still observed while Kodo is silent."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")
    assert {IMG: Kind.CDN, SRC: KODO} == usable_kinds(target, scope_of())
    account.service.uc.faults.add(Fault.status(503), times=None)
    account.time.pause(301)

    assert {IMG: Kind.CDN, SRC: KODO} == usable_kinds(target, scope_of())


def test_kodo_that_falls_silent_midway(account: QiniuAccount, target: Qiniu) -> None:
    """Domains read before the silence are observed; other domains may be anything."""
    account.service.add_bucket_domain(SRC, "first")
    account.service.add_bucket_domain(WWW, "second")
    silence = Fault.status(503)
    account.service.uc.faults.add(Fault.delay(0), on="GET /v3/domains")
    account.service.uc.faults.add(silence, on="GET /v3/domains", times=None)

    assert {SRC: KODO} == usable_kinds(target, scope_of())
    assert isinstance(problem_of(target, WWW), TargetUnavailable)


@pytest.mark.parametrize("scope", [scope_of(), scope_of(SRC), scope_of(kind=KODO)])
def test_silence_about_bindings(scope: Scope, account: QiniuAccount, target: Qiniu) -> None:
    """The silence is reported and stops nothing: the edges show bindings as well."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.uc.faults.add(Fault.status(503), on="GET /cert/bindings", times=None)

    observed = target.observe(scope)

    source = observed.domains[-1]
    assert (SRC, DomainState.READY, True) == (source.domain, source.state, source.binding_hidden)
    [unread] = observed.unread
    assert isinstance(unread, TargetUnavailable)
    assert unread.retry.allowed


def test_removed_call_for_bindings(account: QiniuAccount, target: Qiniu) -> None:
    """The call is undocumented: without it, the CDN is observed, and missing facts are reported."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")
    bindings_nowhere(account.service)

    image, source = target.observe(scope_of()).domains
    assert (DomainState.READY, DomainState.UNAVAILABLE) == (image.state, source.state)
    assert isinstance(source.problem, TargetRejected)
    assert "list it under `domains`" in str(source.problem.hint)
    [named] = target.observe(scope_of(SRC)).domains
    assert (DomainState.READY, True) == (named.state, named.binding_hidden)


def test_bound_copy_of_a_source_domain(account: QiniuAccount, target: Qiniu) -> None:
    """A source domain shows a copy of certferry's like other domains."""
    account.service.add_bucket_domain(SRC, "pictures")
    made = bundle(SRC)
    cert_id = target.upload("img", made)
    target.bind(SRC, KODO, cert_id, KEEP)

    observed = target.observe(Scope("img", (SRC,), None, Kind.AUTO, (made.certificate,)))

    assert made.certificate.fingerprint == observed.fingerprint_of(observed.domains[0].bound)
