"""Source domains of Kodo buckets: found, taken for what they are, bound, and reported honestly."""

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
from tests.adapters.qiniu.observations import NAMES, found, look, problem_of
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import ACCESS_KEY

IMG = "img.example.com"
SRC = "src.example.com"
IAM_KEY = "IAM-" + "k" * 40
KEEP = DesiredHttps()


@pytest.fixture
def sub_account(account: QiniuAccount) -> Qiniu:
    """Return the target as a sub-account's key sees it: `/cert/...` refuses its signature."""
    account.service.add_iam_key(IAM_KEY, "iam-secret", owner=ACCESS_KEY)
    return account.target(access_key=IAM_KEY, secret="iam-secret")


@pytest.fixture
def new(account: QiniuAccount) -> str:
    return qiniu_calls.seed(account.service, list(NAMES), "new")


def test_both_halves_are_found(account: QiniuAccount, target: Qiniu) -> None:
    """CDN domains and source domains that the certificate covers, each once, of their kind."""
    account.service.add_domain(IMG)
    account.service.add_bucket("empty")
    for name, bucket in ((SRC, "pictures"), ("a.src.example.com", "films"), ("x.org", "films")):
        account.service.add_bucket_domain(name, bucket)
    account.service.add_bucket_domain(IMG, "pictures", domain_type=DomainType.CDN)

    assert {IMG: Kind.CDN, SRC: KODO, "a.src.example.com": KODO} == found(target, look())
    assert {SRC: KODO} == found(target, look(kind=KODO, names=(SRC,)))
    assert {IMG: Kind.CDN} == found(target, look(kind=Kind.CDN))


def test_a_domain_that_both_halves_know_is_a_cdn_domain(
    account: QiniuAccount, target: Qiniu
) -> None:
    """Kodo refuses to bind it, so it is found once, and said to be what it is."""
    account.service.add_domain(WWW)
    account.service.add_bucket_domain(WWW, "pictures", domain_type=DomainType.BOTH)

    assert {WWW: Kind.CDN} == found(target, look())
    assert {WWW: Kind.CDN} == found(target, look(WWW))
    assert {} == found(target, look(kind=KODO))
    problem = problem_of(target, WWW, KODO)
    assert "is a CDN domain, not a source domain" in str(problem)
    assert 'kind = "cdn"' in str(problem.hint)


def test_a_domain_that_is_bound_both_ways_but_not_at_the_cdn(
    account: QiniuAccount, target: Qiniu
) -> None:
    """Type 2 without a CDN domain is served by Kodo alone."""
    account.service.add_bucket_domain(SRC, "pictures", domain_type=DomainType.BOTH)

    assert {SRC: KODO} == found(target, look())


def test_named_domains_are_what_they_are(account: QiniuAccount, target: Qiniu) -> None:
    """In their order, without a word about kinds; buckets are asked once for many looks."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")

    for _ in range(3):
        assert {SRC: KODO, IMG: Kind.CDN} == found(target, look(SRC, IMG))
    assert {SRC: KODO} == found(target, look(SRC, kind=KODO))
    assert 1 == account.count("GET /buckets")


def test_a_source_domain_that_was_asked_for_as_a_cdn_domain(
    account: QiniuAccount, target: Qiniu
) -> None:
    """It is called by its bucket, and the kind to set is reported."""
    account.service.add_bucket_domain(SRC, "pictures")

    problem = problem_of(target, SRC, Kind.CDN)

    assert f"{SRC} is a source domain of the Kodo bucket pictures, not a CDN domain" == str(problem)
    assert 'kind = "kodo"' in str(problem.hint)


def test_a_domain_that_is_nowhere(account: QiniuAccount, target: Qiniu) -> None:
    """Neither half knows it; asked for as a source domain, buckets are spoken of."""
    assert "not a CDN domain of the account" in str(problem_of(target, WWW))
    assert "not a source domain of any Kodo bucket" in str(problem_of(target, WWW, KODO))


def test_a_frozen_source_domain(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """Unavailable with Kodo's reason, and not written to."""
    account.service.add_bucket_domain(SRC, "pictures", freeze_types=["ICP_EXPIRED"])

    assert "frozen at Kodo (ICP_EXPIRED)" in str(problem_of(target, SRC))
    with pytest.raises(TargetRejected, match="frozen"):
        target.bind(SRC, KODO, new, KEEP)
    assert 0 == account.count("* /cert/bind")


def test_a_source_domain_is_bound(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """With one POST of both names, at rest at once, and seen bound because Qiniu says so."""
    old = qiniu_calls.seed(account.service, [SRC])
    account.service.add_bucket_domain(SRC, "pictures", https=old)
    [before] = target.observe(look(SRC)).domains

    target.bind(SRC, KODO, new, DesiredHttps(force_https=True, http2=True))
    target.bind(SRC, KODO, new, KEEP)

    [domain] = target.observe(look(SRC)).domains
    assert old == before.bound
    ready = ObservedDomain(SRC, KODO, DomainState.READY, new, HttpsSettings(), has_settings=False)
    assert ready == replace(domain, bound_until=None)
    assert domain.bound_until is not None
    [request] = account.service.requests("* /cert/bind")
    assert "POST" == request.method
    assert {"certid": new, "domain": SRC} == json.loads(request.body)
    assert request.headers["Authorization"].startswith("QBox ")
    assert new == account.service.bound_at_kodo(SRC)


def test_a_change_that_qiniu_took_and_did_not_make(
    account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """A 200 is not trusted: what is read back afterwards is what is reported."""
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.api.faults.add(Fault.status(200, b"{}"), on="POST /cert/bind")

    target.bind(SRC, KODO, new, KEEP)

    assert None is target.observe(look(SRC)).domains[0].bound


@pytest.mark.parametrize("body", [b"{}", b"", b'{"code":0}', b'{"code":200,"error":"success"}'])
def test_any_success_is_one(body: bytes, account: QiniuAccount, target: Qiniu, new: str) -> None:
    """The body of a success is not reliably anything."""
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.api.faults.add(Fault.status(200, body), on="POST /cert/bind")

    target.bind(SRC, KODO, new, KEEP)


def test_a_cdn_domain_that_was_taken_for_a_source_domain(
    account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """The refusal "domaintype is not allowed" leads to the CDN, where it is bound."""
    account.service.add_domain(WWW)

    target.bind(WWW, KODO, new, KEEP)

    assert new == account.service.bound(WWW)
    assert ["/cert/bind", f"/domain/{WWW}/sslize"] == [r.path for r in account.service.writes()]


def test_a_source_domain_that_was_taken_for_a_cdn_domain(
    account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """404001 leads to Kodo, where it is bound; so does a kind that was left out."""
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
def test_a_domain_that_left_the_cdn_a_moment_ago(
    account: QiniuAccount, target: Qiniu, new: str, before: dict[str, object], change: str
) -> None:
    """Qiniu's word for it is another for writes (612): it leads to Kodo, where it is bound, or is
    the advice for a domain that is nowhere.
    """
    record = {"name": SRC, "type": "normal", "operatingState": "success", **before}
    seen = Fault.status(200, json.dumps(record).encode())
    account.service.api.faults.add(seen, on=f"GET /domain/{SRC}", times=2)

    with pytest.raises(TargetRejected, match=r"not a CDN domain of the account.*612"):
        target.bind(SRC, Kind.CDN, new, KEEP)
    account.service.add_bucket_domain(SRC, "pictures")
    account.target().bind(SRC, Kind.CDN, new, KEEP)

    assert new == account.service.bound_at_kodo(SRC)
    writes = [request.path for request in account.service.writes()]
    assert [f"/domain/{SRC}/{change}"] * 2 + ["/cert/bind"] == writes


def test_a_cdn_domain_of_another_account(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """Kodo says that it is a CDN domain, and the CDN does not have it: the advice is reported."""
    account.service.add_bucket_domain(SRC, "pictures", domain_type=DomainType.CDN)

    with pytest.raises(TargetRejected, match="domaintype is not allowed") as caught:
        target.bind(SRC, KODO, new, KEEP)

    assert "the domain is a CDN domain" in str(caught.value.hint)


def test_a_cdn_domain_at_work_is_not_looked_for_elsewhere(
    account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """Busy is busy, whatever Kodo knows."""
    account.service.add_domain(WWW, state="processing")
    account.service.add_bucket_domain(WWW, "pictures", domain_type=DomainType.BOTH)

    with pytest.raises(TargetBusy):
        target.bind(WWW, Kind.CDN, new, KEEP)


def test_a_certificate_that_does_not_fit(account: QiniuAccount, target: Qiniu) -> None:
    """Kodo's words are passed on, whether it is the certificate or its id."""
    account.service.add_bucket_domain(SRC, "pictures")
    foreign = qiniu_calls.seed(account.service, ["www.example.org"])

    for cert_id, words in ((foreign, "does not match"), ("0" * 24, "invalid certid")):
        with pytest.raises(TargetRejected, match=words):
            target.bind(SRC, KODO, cert_id, KEEP)


# --- keys that may not ----------------------------------------------------------------------


def test_a_sub_account_may_not_bind(account: QiniuAccount, sub_account: Qiniu, new: str) -> None:
    """A "bad token" with a key that works elsewhere: the main account's keys are asked for."""
    account.service.add_bucket_domain(SRC, "pictures")

    with pytest.raises(TargetAccessDenied, match="bad token") as caught:
        sub_account.bind(SRC, KODO, new, KEEP)

    assert "main account" in str(caught.value.hint)


def test_a_key_that_does_not_say_what_it_is(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """Without the prefix of sub-accounts, what worked before gives it away."""
    account.service.add_bucket_domain(SRC, "pictures")
    for host in (account.service.uc, account.service.api, account.service.api_backup):
        host.faults.add(refusal(401, None, "bad token"), on="* /cert/*", times=None)

    seen = target.observe(look(SRC))
    with pytest.raises(TargetAccessDenied, match="bad token; tried") as caught:
        target.bind(SRC, KODO, "id", KEEP)

    [unread] = seen.unread
    assert isinstance(unread, TargetAccessDenied)
    for error in (unread, caught.value):
        assert "keys of the main account" in str(error.hint)


def test_wrong_keys_are_reported_as_ever(account: QiniuAccount) -> None:
    """A key that works nowhere is not explained by sub-accounts."""
    with pytest.raises(TargetAccessDenied) as caught:
        account.target(secret="wrong").bind(SRC, KODO, "id", KEEP)

    assert "compare both" in str(caught.value.hint)


def test_a_sub_account_goes_on_with_the_cdn(account: QiniuAccount, sub_account: Qiniu) -> None:
    """A source domain that was found by itself is reported beside the others: its certificate
    would run out unnoticed. Who wants the CDN alone can say so. One that is named is tried.
    """
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")

    image, source = sub_account.observe(look()).domains
    assert (IMG, SRC) == (image.domain, source.domain)
    assert (DomainState.READY, DomainState.UNAVAILABLE) == (image.state, source.state)
    assert isinstance(source.problem, TargetAccessDenied)
    assert "main account" in str(source.problem.hint)
    assert 'set kind = "cdn"' in str(source.problem.hint)
    named = sub_account.observe(look(IMG, SRC))
    assert [False, True] == [domain.binding_hidden for domain in named.domains]
    assert "main account" in str(named.unread[0].hint)
    assert {IMG: Kind.CDN} == found(sub_account, look(kind=Kind.CDN))


@pytest.mark.parametrize("what", [look(kind=KODO), look()])
def test_a_sub_account_with_source_domains_alone(
    what: Scope, account: QiniuAccount, sub_account: Qiniu
) -> None:
    """Where there is nothing else, or they were asked for, it is the whole story."""
    account.service.add_bucket_domain(SRC, "pictures")

    with pytest.raises(TargetAccessDenied):
        sub_account.observe(what)


def test_keys_without_a_right_to_kodo(account: QiniuAccount, target: Qiniu) -> None:
    """They cost nothing at the CDN, and are reported where source domains were asked for."""
    account.service.add_domain(IMG)
    account.service.uc.faults.add(refusal(403, None, "no permission"), times=None)

    assert {IMG: Kind.CDN} == found(target, look())
    assert {} == found(target, look(names=("www.example.org",)))
    assert {IMG: Kind.CDN} == found(target, look(IMG))
    seen = target.observe(look(SRC, kind=KODO))
    assert [(SRC, KODO, DomainState.READY)] == [
        (domain.domain, domain.kind, domain.state) for domain in seen.domains
    ]
    assert isinstance(seen.unread[0], TargetAccessDenied)
    with pytest.raises(TargetAccessDenied, match="list of buckets"):
        target.observe(look(kind=KODO))
    assert 1 == account.count("GET /buckets")


def test_one_bucket_that_may_not_be_seen(account: QiniuAccount, target: Qiniu) -> None:
    """It hides its own domains and no others."""
    account.service.add_bucket_domain(WWW, "theirs")
    account.service.add_bucket_domain(SRC, "ours")
    account.service.uc.faults.add(refusal(403, None, "no"), on="GET /v3/domains")

    assert {SRC: KODO} == found(target, look(kind=KODO))
    assert "cannot see" in str(problem_of(target, WWW))


def test_a_silent_kodo(account: QiniuAccount, target: Qiniu) -> None:
    """The CDN goes on; with nothing else to see, silence does not pass for an empty account."""
    account.service.add_domain(IMG)
    account.service.uc.faults.add(Fault.status(503), times=None)

    assert {IMG: Kind.CDN} == found(target, look())
    assert isinstance(problem_of(target, SRC), TargetUnavailable)
    for what in (look(names=("www.example.org",)), look(kind=KODO)):
        with pytest.raises(TargetUnavailable):
            target.observe(what)


def test_domains_that_were_seen_are_not_forgotten(account: QiniuAccount, target: Qiniu) -> None:
    """When the list grows old while Kodo is silent, what was there is still looked at."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")
    assert {IMG: Kind.CDN, SRC: KODO} == found(target, look())
    account.service.uc.faults.add(Fault.status(503), times=None)
    account.time.pause(301)

    assert {IMG: Kind.CDN, SRC: KODO} == found(target, look())


def test_a_kodo_that_falls_silent_half_way(account: QiniuAccount, target: Qiniu) -> None:
    """What was read until then is looked at; what was not may be anything."""
    account.service.add_bucket_domain(SRC, "first")
    account.service.add_bucket_domain(WWW, "second")
    silence = Fault.status(503)
    account.service.uc.faults.add(Fault.delay(0), on="GET /v3/domains")
    account.service.uc.faults.add(silence, on="GET /v3/domains", times=None)

    assert {SRC: KODO} == found(target, look())
    assert isinstance(problem_of(target, WWW), TargetUnavailable)


@pytest.mark.parametrize("what", [look(), look(SRC), look(kind=KODO)])
def test_silence_about_bindings(what: Scope, account: QiniuAccount, target: Qiniu) -> None:
    """It is reported, and holds nothing up: the edges show as well what is bound."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.uc.faults.add(Fault.status(503), on="GET /cert/bindings", times=None)

    seen = target.observe(what)

    source = seen.domains[-1]
    assert (SRC, DomainState.READY, True) == (source.domain, source.state, source.binding_hidden)
    [unread] = seen.unread
    assert isinstance(unread, TargetUnavailable)
    assert unread.retry.allowed


def test_a_call_that_is_no_more(account: QiniuAccount, target: Qiniu) -> None:
    """It is in no document: should it go one day, the CDN is served all the same, and what is not
    is reported.
    """
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")
    bindings_nowhere(account.service)

    image, source = target.observe(look()).domains
    assert (DomainState.READY, DomainState.UNAVAILABLE) == (image.state, source.state)
    assert isinstance(source.problem, TargetRejected)
    assert "list it under `domains`" in str(source.problem.hint)
    [named] = target.observe(look(SRC)).domains
    assert (DomainState.READY, True) == (named.state, named.binding_hidden)


def test_a_copy_that_a_source_domain_uses_is_seen_bound(
    account: QiniuAccount, target: Qiniu
) -> None:
    """What is ours is found at a source domain as at any other."""
    account.service.add_bucket_domain(SRC, "pictures")
    made = bundle(SRC)
    cert_id = target.upload("img", made)
    target.bind(SRC, KODO, cert_id, KEEP)

    seen = target.observe(Scope("img", (SRC,), None, Kind.AUTO, (made.certificate,)))

    assert made.certificate.fingerprint == seen.fingerprint_of(seen.domains[0].bound)
