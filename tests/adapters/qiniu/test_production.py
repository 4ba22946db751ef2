"""Qiniu with production's habits and odd answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest

from certferry.adapters.qiniu.records import KODO
from certferry.adapters.qiniu.target import Qiniu
from certferry.adapters.qiniu.wire import Hosts
from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import label_of, short_label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.errors import ClockWrong, TargetAccessDenied, TargetBusy, TargetInUse, TargetRejected
from certferry.ports.target import Scope
from certferry.values import replace
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu import habits
from certferry_sandbox.qiniu.routes import QBOX, QINIU, Host
from certferry_sandbox.qiniu.signing import Scheme
from tests.adapters.qiniu.account import REQUEST_ID, WWW, QiniuAccount, bundle, refusal
from tests.sandbox import qiniu_calls

# --- Answers of Qiniu in production, by number (docs/facts/qiniu.md §10), over real HTTP. Complete
# syncs for each number are in `tests/acceptance/test_qiniu.py`


IMG = "img.example.com"
SRC = "src.example.com"
KEEP = DesiredHttps()


def scope_of(
    *domains: str, kind: Kind = Kind.AUTO, certificates: Sequence[Certificate] = ()
) -> Scope:
    """Return the scope of these domains, or of all domains below example.com."""
    return Scope("img", ("*.example.com",), domains or None, kind, certificates)


def the_domain(target: Qiniu, name: str = WWW) -> ObservedDomain:
    [observed] = target.observe(scope_of(name)).domains
    return observed


def bound(account: QiniuAccount, name: str = WWW, **options: Any) -> str:
    """Add a domain with HTTPS, and return its certificate's id."""
    cert_id = qiniu_calls.seed(account.service, ["*.example.com"], f"old {name}")
    account.service.add_domain(name, https=cert_id, **options)
    return cert_id


def seed(account: QiniuAccount) -> str:
    """Add a certificate for every domain, and return its id."""
    return qiniu_calls.seed(account.service, ["*.example.com"], "new")


def test_number_1_null_lists(account: QiniuAccount, target: Qiniu) -> None:
    """An empty account and a bucket without domains give empty lists."""
    habits.null_lists(account.service)
    assert () == target.observe(scope_of()).domains

    habits.bucket_domains_by_type(account.service)
    account.service.add_bucket("empty")
    account.time.pause(301)
    observed = target.observe(scope_of())

    assert ((), (), ()) == (observed.domains, observed.remotes, observed.unread)


@pytest.mark.parametrize(("takes", "scheme"), [(QBOX, "QBox"), (QINIU, "Qiniu")])
def test_number_2_scheme_of_a_binding(
    takes: frozenset[Scheme], scheme: str, account: QiniuAccount
) -> None:
    """QBox is tried first, then the other scheme after a 401; later runs begin with the accepted
    scheme.
    """
    account.service.hosting.bind = {Host.API: takes}
    account.service.add_bucket_domain(SRC, "pictures")
    for expected in ([scheme] if scheme == "QBox" else ["QBox", scheme], [scheme]):
        before = account.count("POST /cert/bind")
        account.target().bind(SRC, KODO, seed(account), KEEP)
        bindings = account.service.requests("POST /cert/bind")[before:]
        assert expected == [request.headers["Authorization"].split()[0] for request in bindings]

    other = QINIU if takes is QBOX else QBOX
    account.service.hosting.bind = {Host.API: other}
    new = seed(account)
    account.target().bind(SRC, KODO, new, KEEP)

    assert new == account.service.bound_at_kodo(SRC)


def test_number_2_refusal_of_both_schemes(account: QiniuAccount, target: Qiniu) -> None:
    """The error names both tries."""
    account.service.hosting.bind = {Host.API: frozenset()}
    account.service.add_bucket_domain(SRC, "pictures")
    host = account.service.api_url.removeprefix("http://")

    with pytest.raises(TargetAccessDenied) as caught:
        target.bind(SRC, KODO, "id", KEEP)

    assert f"(401 bad token; tried: {host} (QBox), {host} (Qiniu))" in str(caught.value)


@pytest.mark.parametrize(
    ("habit", "requests"),
    [
        (None, 1),
        (habits.bindings_at_api_qbox, 2),
        (habits.bindings_at_api_qiniu, 3),
        (habits.bindings_at_backup, 4),
    ],
)
def test_number_3_ways_to_bindings(
    habit: habits.Habit | None, requests: int, account: QiniuAccount
) -> None:
    """Each further way costs one request, once for the account."""
    if habit is not None:
        habit(account.service)
    old = qiniu_calls.seed(account.service, [SRC])
    account.service.add_bucket_domain(SRC, "pictures", https=old)

    for expected in (requests, 1):
        before = account.count("GET /cert/bindings")
        assert old == the_domain(account.target(), SRC).bound
        assert expected == account.count("GET /cert/bindings") - before


def test_number_3_unavailable_bindings(account: QiniuAccount, target: Qiniu) -> None:
    """A named domain is bound, and the missing bindings are reported."""
    habits.bindings_nowhere(account.service)
    account.service.add_bucket_domain(SRC, "pictures")
    new = seed(account)

    observed = target.observe(scope_of(SRC))
    target.bind(SRC, KODO, new, KEEP)

    [domain], [unread] = observed.domains, observed.unread
    assert (DomainState.READY, None, True) == (domain.state, domain.bound, domain.binding_hidden)
    assert "the certificates of source domains" in str(unread)
    assert 4 == str(unread).count("127.0.0.1")
    assert new == account.service.bound_at_kodo(SRC)


@pytest.mark.parametrize("habit", [None, habits.mismatch_is_400324])
def test_number_4_key_of_another_certificate(
    habit: habits.Habit | None, account: QiniuAccount, target: Qiniu
) -> None:
    """Both codes give the same error about certificate and key."""
    if habit is not None:
        habit(account.service)
    mixed = replace(bundle(WWW), privkey_pem=bundle(WWW).privkey_pem)

    with pytest.raises(TargetRejected, match="certificate and private key do not belong together"):
        target.upload("img", mixed)


@pytest.mark.parametrize("habit", [habits.flags_hidden, habits.https_hidden])
def test_number_6_hidden_settings(
    habit: habits.Habit, account: QiniuAccount, target: Qiniu
) -> None:
    """A change has the certificate and the desired settings only; other settings stay."""
    bound(account, force_https=True, http2=True)
    habit(account.service)
    first, second = seed(account), seed(account)

    target.bind(WWW, Kind.CDN, first, KEEP)
    target.bind(WWW, Kind.CDN, second, DesiredHttps(http2=False))

    bodies = [json.loads(request.body) for request in account.service.requests("PUT *")]
    assert [{"certId": first}, {"certId": second, "http2Enable": False}] == bodies
    conf = account.service.domain(WWW).https
    assert (True, False) == (conf.force_https, conf.http2)


def test_number_7_https_that_is_off(account: QiniuAccount, target: Qiniu) -> None:
    """Qiniu's 400302 leads to `sslize` in the same run, without a redirect of visitors."""
    account.service.add_domain(WWW)
    habits.https_claimed(account.service)
    new = seed(account)

    target.bind(WWW, Kind.CDN, new, KEEP)

    calls = [request.path.rpartition("/")[2] for request in account.service.requests("PUT *")]
    assert ["httpsconf", "sslize"] == calls
    assert new == account.service.bound(WWW)
    assert not account.service.domain(WWW).https.force_https


@pytest.mark.parametrize(
    ("habit", "requests"),
    [(None, 1), (habits.certificates_at_api_qbox, 2), (habits.certificates_at_api_qiniu, 3)],
)
def test_number_8_ways_to_certificates(
    habit: habits.Habit | None, requests: int, account: QiniuAccount
) -> None:
    """The ways are fusion, then api with both schemes; the way that works is first from then on."""
    if habit is not None:
        habit(account.service)
    made = bundle(WWW)

    for expected in (requests, 1):
        before = account.count("GET /sslcert")
        account.target().observe(scope_of(certificates=[made.certificate]))
        assert expected == account.count("GET /sslcert") - before
    cert_id = account.target().upload("img", made)

    assert 1 == account.count("POST /sslcert")
    assert cert_id == account.service.certificates.stored()[0].id


def test_number_8_broken_way(account: QiniuAccount) -> None:
    """A broken way is forgotten, and the first way needs no note."""
    habits.certificates_at_api_qbox(account.service)
    certificates = [bundle(WWW).certificate]
    account.target().observe(scope_of(certificates=certificates))
    assert f"QBox {account.service.api_url}" == account.memory.note("way: sslcert")

    account.service.hosting.certificates = {Host.FUSION: QBOX}
    account.target().observe(scope_of(certificates=certificates))

    assert None is account.memory.note("way: sslcert")


def test_number_9_short_names(account: QiniuAccount) -> None:
    """A short name still proves its owner. Later uploads use the short name at once, and the copy
    is retired like any other.
    """
    habits.short_names(account.service)
    first, second = bundle(WWW), bundle(WWW)

    first_id = account.target().upload("a-lineage", first)
    account.target().upload("a-lineage", second)

    short = [short_label_of("a-lineage", made.certificate.fingerprint) for made in (first, second)]
    assert short == account.labels()
    assert {23} == {len(label) for label in account.labels()}
    assert 3 == account.count("POST /sslcert")
    certificates = (first.certificate, second.certificate)
    observed = account.target().observe(Scope("a-lineage", (WWW,), None, Kind.AUTO, certificates))
    assert short == [remote.label for remote in observed.remotes]
    assert first_id == account.target().upload("a-lineage", first)
    assert account.target().retire(first_id, short[0])
    assert short[1:] == account.labels()


def test_number_10_certificate_in_use_after_the_change(
    account: QiniuAccount, target: Qiniu
) -> None:
    """The copy stays after 400611, and is removed later."""
    habits.in_use_goes_on(account.service)
    made = bundle(WWW)
    old = target.upload("img", made)
    account.service.add_domain(WWW)
    target.bind(WWW, Kind.CDN, old, KEEP)
    target.bind(WWW, Kind.CDN, seed(account), KEEP)
    label = label_of("img", made.certificate.fingerprint)

    with pytest.raises(TargetInUse):
        target.retire(old, label)
    account.time.pause(601)

    assert target.retire(old, label)


def test_number_12_401_for_a_single_path(account: QiniuAccount, target: Qiniu) -> None:
    """For keys that Qiniu accepts elsewhere, the error concerns the path, and other domains are
    observed.
    """
    habits.unknown_paths_401(account.service)
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(
        refusal(401, None, "bad token"), on=f"GET /domain/{IMG}", times=None
    )

    by_name = {domain.domain: domain for domain in target.observe(scope_of()).domains}

    assert DomainState.READY is by_name[WWW].state
    problem = by_name[IMG].problem
    assert problem is not None
    assert "Qiniu accepts the same keys for other calls" in str(problem.hint)
    answer = qiniu_calls.Client(account.service).qiniu(
        "GET", f"{account.service.api_url}/domain/{WWW}/nonsense"
    )
    assert 401 == answer.status_code


def test_number_15_other_call_for_source_domains(account: QiniuAccount) -> None:
    """The other call follows the first refusal, once for the account, and its answer has other
    fields.
    """
    habits.bucket_domains_by_type(account.service)
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.add_bucket_domain(IMG, "films")

    for expected in (1, 0):
        before = account.count("GET /v3/domains")
        names = {domain.domain for domain in account.target().observe(scope_of()).domains}
        assert {SRC, IMG} == names
        assert expected == (account.count("GET /v3/domains") - before > 0)


def test_number_15_backup_of_uc(account: QiniuAccount) -> None:
    """The backup is used if uc is unreachable."""
    account.service.add_bucket_domain(SRC, "pictures")
    gone, service = account.service.uc_url, account.service
    hosts = Hosts(service.api_url, service.fusion_url, gone, uc_backup=service.uc_backup_url)
    account.service.uc.stop()

    assert ["pictures"] == account.client(hosts=hosts).list_buckets()
    assert [SRC] == [d.domain for d in account.client(hosts=hosts).list_bucket_domains("pictures")]


def test_number_16_unused_calls(account: QiniuAccount, target: Qiniu) -> None:
    """The calls of certferry exclude uc's `/v6/domains/…/https` and `/domain/…/sslcert`."""
    bound(account)
    account.service.add_bucket_domain(SRC, "pictures")
    made = bundle("*.example.com")

    target.observe(scope_of())
    new = target.upload("img", made)
    target.bind(WWW, Kind.CDN, new, KEEP)
    target.bind(SRC, KODO, new, KEEP)
    target.observe(scope_of(WWW, SRC))

    assert 0 == account.count("* /v6/*") + account.count("* /domain/*/sslcert")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("deleted", "is deleted at Qiniu"),
        ("notIcpFrozen", "is frozen at Qiniu"),
        ("waitCNAME", "waits at Qiniu for its CNAME"),
    ],
)
def test_number_17_other_states(
    state: str, words: str, account: QiniuAccount, target: Qiniu
) -> None:
    """Each state has a plain error with a hint, and other domains are observed."""
    account.service.add_domain(WWW, state=state)
    account.service.add_domain(IMG)

    broken, sound = target.observe(scope_of(WWW, IMG)).domains

    assert (DomainState.UNAVAILABLE, DomainState.READY) == (broken.state, sound.state)
    assert broken.problem is not None
    assert words in str(broken.problem)
    assert broken.problem.hint
    with pytest.raises(TargetRejected, match=words):
        target.bind(WWW, Kind.CDN, seed(account), KEEP)


@pytest.mark.parametrize("operation", ["create_domain", "online_domain"])
def test_number_18_domain_in_creation(operation: str, account: QiniuAccount, target: Qiniu) -> None:
    """A domain in creation is busy, as during any change."""
    account.service.add_domain(WWW, state="processing").operation = operation

    assert DomainState.PROCESSING is the_domain(target).state
    with pytest.raises(TargetBusy, match=operation):
        target.bind(WWW, Kind.CDN, seed(account), KEEP)


def test_number_18_change_reported_as_immediate(account: QiniuAccount, target: Qiniu) -> None:
    """The observation repeats Qiniu's claim; only the edges show the truth (see the acceptance
    tests).
    """
    old = bound(account)
    habits.done_at_once(account.service)
    account.service.domains.processing_time = timedelta(minutes=10)
    new = seed(account)

    target.bind(WWW, Kind.CDN, new, KEEP)

    assert (DomainState.READY, new) == (the_domain(target).state, the_domain(target).bound)
    assert old == account.service.bound(WWW)


@pytest.mark.parametrize("habit", [None, habits.days_in_words])
def test_number_21_short_remaining_life(
    habit: habits.Habit | None, account: QiniuAccount, target: Qiniu
) -> None:
    """The refusal has a code or the console's words; a certificate of 45 days can be uploaded for
    15 days.
    """
    if habit is not None:
        habit(account.service)
    start = qiniu_calls.START
    young, old = (bundle(WWW, start=start - timedelta(days=age), days=45) for age in (14.9, 15.1))

    assert target.upload("img", young)
    with pytest.raises(TargetRejected, match="too little of the certificate's life is left"):
        target.upload("img", old)
    rules = target.observe(scope_of()).rules
    assert young.certificate.remaining(start) >= rules.min_remaining
    assert old.certificate.remaining(start) < rules.min_remaining


def test_requests_of_a_first_deployment(account: QiniuAccount, target: Qiniu) -> None:
    """If the first way of each call works, the calls are those of version 0.1, once each."""
    account.service.add_domain(WWW)
    account.service.add_bucket_domain(SRC, "pictures")

    target.observe(scope_of(WWW, SRC))
    new = target.upload("img", bundle("*.example.com"))
    target.bind(WWW, Kind.CDN, new, KEEP)
    target.bind(SRC, KODO, new, KEEP)

    expected = {
        f"GET /domain/{WWW}": 2,
        f"GET /domain/{SRC}": 1,
        "GET /buckets": 1,
        "GET /v3/domains": 1,
        "GET /cert/bindings": 2,
        "GET /sslcert": 1,
        "POST /sslcert": 1,
        f"PUT /domain/{WWW}/sslize": 1,
        "POST /cert/bind": 1,
    }
    labels = [request.label for request in account.service.requests()]
    assert expected == {label: labels.count(label) for label in labels}


def test_number_13_list_is_read_in_full(account: QiniuAccount, target: Qiniu) -> None:
    """Qiniu's filters are uncertain, and half a list could pass for the whole: all domains are
    read, page by page.
    """
    cert_id = bound(account)
    account.service.add_domain(IMG)
    new = bundle("*.example.com")
    for scope in (
        scope_of(),
        scope_of(WWW),
        replace(scope_of(), others=True),
        replace(scope_of(), globs=("*",)),
    ):
        target.observe(scope)
    remote_id = target.upload("img", new)
    target.bind(WWW, Kind.CDN, remote_id, KEEP)
    target.survey(lambda *_: None)
    target.examine("qiniu")
    target.retire(cert_id, f"old {WWW}", unmanaged=True)

    hosts = (account.service.api, account.service.fusion)
    queries = [request.query for host in hosts for request in host.requests("GET /domain")]
    sent = [parse_qs(query, keep_blank_values=True) for query in queries]
    assert {"marker", "limit"} == {name for parameters in sent for name in parameters}


# --- Unexpected answers of Qiniu: a wrong clock, other shapes, unreadable lists


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (timedelta(hours=2), "this host's clock is 2 hours ahead of Qiniu's"),
        (timedelta(minutes=-20), "this host's clock is 20 minutes behind Qiniu's"),
    ],
)
def test_wrong_clock_is_reported_before_the_keys(
    offset: timedelta, words: str, account: QiniuAccount
) -> None:
    """The error has the difference from the answer's Date, and a hint."""
    account.time.offset = offset

    with pytest.raises(ClockWrong, match=words) as caught:
        account.target().observe(scope_of(WWW))

    assert "access_key" not in f"{caught.value} {caught.value.hint}"
    assert "timedatectl" in str(caught.value.hint)


def test_wrong_keys_with_a_right_clock(account: QiniuAccount) -> None:
    """A difference of seconds does not explain refused keys."""
    account.time.offset = timedelta(seconds=40)

    with pytest.raises(TargetAccessDenied, match="access_key and secret_key"):
        account.target(secret="wrong").observe(scope_of(WWW))


SHAPES: dict[str, tuple[bytes, str, str]] = {
    "a list": (b"[]", "application/json", "got `array` - at `$`"),
    "a number as text": (
        b'{"name":"www.example.com","https":"1"}',
        "application/json",
        "at `$.https`",
    ),
    "null": (b"null", "application/json", "got `null` - at `$`"),
    "html": (b"<html></html>", "text/html", "answered with a web page"),
}


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_answer_of_another_shape(shape: str, account: QiniuAccount, target: Qiniu) -> None:
    """The error has the request's id and the path of the wrong value; other domains are
    observed.
    """
    body, content_type, words = SHAPES[shape]
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    fault = Fault.status(200, body, content_type, [("X-Reqid", REQUEST_ID)])
    account.service.api.faults.add(fault, on=f"GET /domain/{WWW}", times=None)

    broken, sound = target.observe(scope_of(WWW, IMG)).domains

    assert (DomainState.UNAVAILABLE, DomainState.READY) == (broken.state, sound.state)
    assert broken.problem is not None
    assert words in str(broken.problem)
    assert f"X-Reqid {REQUEST_ID}" in str(broken.problem.hint)


def test_number_written_as_text(account: QiniuAccount, target: Qiniu) -> None:
    """Dates of certificates may be text, with the same meaning."""
    made = bundle(WWW)
    cert_id = target.upload("img", made)
    [wire] = [stored.to_wire() for stored in account.service.certificates.stored()]
    wire |= {"not_after": str(wire["not_after"]), "not_before": str(wire["not_before"])}
    listed = json.dumps({"certs": [wire], "marker": ""}).encode()
    account.service.fusion.faults.add(Fault.status(200, listed), on="GET /sslcert", times=None)

    observed = account.target().observe(Scope("img", (WWW,), None, Kind.AUTO, (made.certificate,)))

    assert [cert_id] == [remote.remote_id for remote in observed.remotes]


def test_unreadable_bucket(account: QiniuAccount, target: Qiniu) -> None:
    """The bucket hides its own domains and is reported; other domains are observed."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(WWW, "broken")
    account.service.add_bucket_domain(SRC, "sound")
    fault = Fault.status(200, b'{"a":"list","was":"expected"}')
    account.service.uc.faults.add(fault, on="GET /v3/domains")

    observed = target.observe(scope_of())

    assert {IMG, SRC} == {domain.domain for domain in observed.domains}
    [unread] = observed.unread
    assert "the domains of bucket broken" in str(unread)
    assert "set kind" in str(unread.hint)


def test_unreadable_list_of_certificates(account: QiniuAccount, target: Qiniu) -> None:
    """The unreadable list is reported; observing, uploading and binding continue."""
    bound(account)
    fault = Fault.status(200, b'["a", "list"]')
    account.service.fusion.faults.add(fault, on="GET /sslcert", times=None)

    observed = target.observe(scope_of(WWW, certificates=[bundle(WWW).certificate]))
    new = target.upload("img", bundle(WWW))
    target.bind(WWW, Kind.CDN, new, KEEP)

    assert (DomainState.READY, True) == (observed.domains[0].state, observed.remotes_hidden)
    assert "certferry cannot read Qiniu's answer about the list of certificates" in str(
        observed.unread[0]
    )
    assert new == account.service.bound(WWW)


def test_unreadable_list_of_domains(account: QiniuAccount, target: Qiniu) -> None:
    """Named CDN domains and source domains are observed."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.api.faults.add(Fault.status(200, b"[]"), on="GET /domain", times=None)

    assert [IMG] == [d.domain for d in target.observe(scope_of(IMG)).domains]
    observed = target.observe(scope_of(SRC, kind=KODO))

    assert [(SRC, DomainState.READY)] == [(d.domain, d.state) for d in observed.domains]
    assert "certferry cannot read Qiniu's answer about the list of domains" in str(
        observed.unread[0]
    )


def test_unreadable_list_of_buckets(account: QiniuAccount, target: Qiniu) -> None:
    """A domain with the kind of a source domain is bound as a source domain."""
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.uc.faults.add(refusal(403, None, "no"), on="GET /buckets", times=None)
    new = seed(account)

    [domain] = target.observe(scope_of(SRC, kind=KODO)).domains
    target.bind(SRC, KODO, new, KEEP)

    assert (KODO, DomainState.READY, None) == (domain.kind, domain.state, domain.problem)
    assert new == account.service.bound_at_kodo(SRC)


def test_source_domain_recognised_by_its_binding(account: QiniuAccount, target: Qiniu) -> None:
    """Without the list of buckets, the bindings show the kind."""
    old = qiniu_calls.seed(account.service, [SRC])
    account.service.add_bucket_domain(SRC, "pictures", https=old)
    account.service.uc.faults.add(refusal(403, None, "no"), on="GET /buckets", times=None)

    observed = the_domain(target, SRC)

    assert (KODO, old) == (observed.kind, observed.bound)
