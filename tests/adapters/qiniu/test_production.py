"""Qiniu as production's responses show it, and odd answers."""

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

# --- What Qiniu answers in production, number by number (docs/facts/qiniu.md §10), over real
# HTTP. Whole syncs under each of these are in `tests/acceptance/test_qiniu.py`


IMG = "img.example.com"
SRC = "src.example.com"
KEEP = DesiredHttps()


def look(*domains: str, kind: Kind = Kind.AUTO, known: Sequence[Certificate] = ()) -> Scope:
    """Observe these domains, or at all below example.com."""
    return Scope("img", ("*.example.com",), domains or None, kind, known)


def the_domain(target: Qiniu, name: str = WWW) -> ObservedDomain:
    [found] = target.observe(look(name)).domains
    return found


def bound(account: QiniuAccount, name: str = WWW, **options: Any) -> str:
    """Have a domain with HTTPS, and return its certificate's id."""
    cert_id = qiniu_calls.seed(account.service, ["*.example.com"], f"old {name}")
    account.service.add_domain(name, https=cert_id, **options)
    return cert_id


def seed(account: QiniuAccount) -> str:
    """Have a new certificate for every domain, and return its id."""
    return qiniu_calls.seed(account.service, ["*.example.com"], "new")


def test_number_1_lists_that_are_null(account: QiniuAccount, target: Qiniu) -> None:
    """An account without anything, and a bucket without domains, have none."""
    habits.null_lists(account.service)
    assert () == target.observe(look()).domains

    habits.bucket_domains_by_type(account.service)
    account.service.add_bucket("empty")
    account.time.pause(301)
    seen = target.observe(look())

    assert ((), (), ()) == (seen.domains, seen.remotes, seen.unread)


@pytest.mark.parametrize(("takes", "scheme"), [(QBOX, "QBox"), (QINIU, "Qiniu")])
def test_number_2_the_scheme_of_bind(
    takes: frozenset[Scheme], scheme: str, account: QiniuAccount
) -> None:
    """QBox first; on 401 the other, which later runs try first, until it is refused."""
    account.service.hosting.bind = {Host.API: takes}
    account.service.add_bucket_domain(SRC, "pictures")
    for expected in ([scheme] if scheme == "QBox" else ["QBox", scheme], [scheme]):
        before = account.count("POST /cert/bind")
        account.target().bind(SRC, KODO, seed(account), KEEP)
        asked = account.service.requests("POST /cert/bind")[before:]
        assert expected == [request.headers["Authorization"].split()[0] for request in asked]

    other = QINIU if takes is QBOX else QBOX
    account.service.hosting.bind = {Host.API: other}
    new = seed(account)
    account.target().bind(SRC, KODO, new, KEEP)

    assert new == account.service.bound_at_kodo(SRC)


def test_number_2_both_schemes_refused(account: QiniuAccount, target: Qiniu) -> None:
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
def test_number_3_where_bindings_are_read(
    habit: habits.Habit | None, requests: int, account: QiniuAccount
) -> None:
    """Each other way costs one request, once for the account."""
    if habit is not None:
        habit(account.service)
    old = qiniu_calls.seed(account.service, [SRC])
    account.service.add_bucket_domain(SRC, "pictures", https=old)

    for expected in (requests, 1):
        before = account.count("GET /cert/bindings")
        assert old == the_domain(account.target(), SRC).bound
        assert expected == account.count("GET /cert/bindings") - before


def test_number_3_bindings_that_nobody_answers(account: QiniuAccount, target: Qiniu) -> None:
    """A domain that is named is bound all the same, and what could not be read is reported."""
    habits.bindings_nowhere(account.service)
    account.service.add_bucket_domain(SRC, "pictures")
    new = seed(account)

    seen = target.observe(look(SRC))
    target.bind(SRC, KODO, new, KEEP)

    [domain], [unread] = seen.domains, seen.unread
    assert (DomainState.READY, None, True) == (domain.state, domain.bound, domain.binding_hidden)
    assert "the certificates of source domains" in str(unread)
    assert 4 == str(unread).count("127.0.0.1")
    assert new == account.service.bound_at_kodo(SRC)


@pytest.mark.parametrize("habit", [None, habits.mismatch_is_400324])
def test_number_4_a_key_of_another_certificate(
    habit: habits.Habit | None, account: QiniuAccount, target: Qiniu
) -> None:
    """Either code is reported as what it is: the two do not belong together."""
    if habit is not None:
        habit(account.service)
    mixed = replace(bundle(WWW), privkey_pem=bundle(WWW).privkey_pem)

    with pytest.raises(TargetRejected, match="certificate and private key do not belong together"):
        target.upload("img", mixed)


@pytest.mark.parametrize("habit", [habits.flags_hidden, habits.https_hidden])
def test_number_6_settings_that_the_detail_hides(
    habit: habits.Habit, account: QiniuAccount, target: Qiniu
) -> None:
    """The certificate alone is sent, with what is desired; everything else stays."""
    bound(account, force_https=True, http2=True)
    habit(account.service)
    first, second = seed(account), seed(account)

    target.bind(WWW, Kind.CDN, first, KEEP)
    target.bind(WWW, Kind.CDN, second, DesiredHttps(http2=False))

    bodies = [json.loads(request.body) for request in account.service.requests("PUT *")]
    assert [{"certId": first}, {"certId": second, "http2Enable": False}] == bodies
    conf = account.service.domain(WWW).https
    assert (True, False) == (conf.force_https, conf.http2)


def test_number_7_https_that_is_off_after_all(account: QiniuAccount, target: Qiniu) -> None:
    """400302 leads to `sslize` in the same run, and no visitor is redirected."""
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
def test_number_8_where_certificates_are(
    habit: habits.Habit | None, requests: int, account: QiniuAccount
) -> None:
    """fusion, then api under either scheme; what worked is asked first from then on."""
    if habit is not None:
        habit(account.service)
    made = bundle(WWW)

    for expected in (requests, 1):
        before = account.count("GET /sslcert")
        account.target().observe(look(known=[made.certificate]))
        assert expected == account.count("GET /sslcert") - before
    cert_id = account.target().upload("img", made)

    assert 1 == account.count("POST /sslcert")
    assert cert_id == account.service.certificates.stored()[0].id


def test_number_8_a_way_that_works_no_more(account: QiniuAccount) -> None:
    """It is forgotten, and the first one needs no note."""
    habits.certificates_at_api_qbox(account.service)
    known = [bundle(WWW).certificate]
    account.target().observe(look(known=known))
    assert f"QBox {account.service.api_url}" == account.memory.note("way: sslcert")

    account.service.hosting.certificates = {Host.FUSION: QBOX}
    account.target().observe(look(known=known))

    assert None is account.memory.note("way: sslcert")


def test_number_9_a_name_that_is_too_long(account: QiniuAccount) -> None:
    """A short one that still proves whose it is; later uploads take it at once, and it is retired
    like any other.
    """
    habits.short_names(account.service)
    first, second = bundle(WWW), bundle(WWW)

    one = account.target().upload("a-lineage", first)
    account.target().upload("a-lineage", second)

    short = [short_label_of("a-lineage", made.certificate.fingerprint) for made in (first, second)]
    assert short == account.labels()
    assert {23} == {len(label) for label in account.labels()}
    assert 3 == account.count("POST /sslcert")
    known = (first.certificate, second.certificate)
    seen = account.target().observe(Scope("a-lineage", (WWW,), None, Kind.AUTO, known))
    assert short == [remote.label for remote in seen.remotes]
    assert one == account.target().upload("a-lineage", first)
    assert account.target().retire(one, short[0])
    assert short[1:] == account.labels()


def test_number_10_a_certificate_that_is_in_use_for_minutes_more(
    account: QiniuAccount, target: Qiniu
) -> None:
    """400611 after the swap is no failure: it is left alone, and goes later."""
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


def test_number_12_a_401_proves_no_wrong_key(account: QiniuAccount, target: Qiniu) -> None:
    """Where the same keys were accepted, one path's 401 blames the path, and the others go on."""
    habits.unknown_paths_401(account.service)
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(
        refusal(401, None, "bad token"), on=f"GET /domain/{IMG}", times=None
    )

    by_name = {domain.domain: domain for domain in target.observe(look()).domains}

    assert DomainState.READY is by_name[WWW].state
    problem = by_name[IMG].problem
    assert problem is not None
    assert "Qiniu accepts the same keys for other calls" in str(problem.hint)
    answer = qiniu_calls.Client(account.service).qiniu(
        "GET", f"{account.service.api_url}/domain/{WWW}/nonsense"
    )
    assert 401 == answer.status_code


def test_number_15_source_domains_by_their_other_call(account: QiniuAccount) -> None:
    """Asked for when the first is refused, once for the account, and read in its own words."""
    habits.bucket_domains_by_type(account.service)
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.add_bucket_domain(IMG, "films")

    for expected in (1, 0):
        before = account.count("GET /v3/domains")
        found = {domain.domain for domain in account.target().observe(look()).domains}
        assert {SRC, IMG} == found
        assert expected == (account.count("GET /v3/domains") - before > 0)


def test_number_15_the_backup_of_uc(account: QiniuAccount) -> None:
    """Asked when uc cannot be reached."""
    account.service.add_bucket_domain(SRC, "pictures")
    gone, service = account.service.uc_url, account.service
    hosts = Hosts(service.api_url, service.fusion_url, gone, uc_backup=service.uc_backup_url)
    account.service.uc.stop()

    assert ["pictures"] == account.client(hosts=hosts).list_buckets()
    assert [SRC] == [d.domain for d in account.client(hosts=hosts).list_bucket_domains("pictures")]


def test_number_16_calls_that_are_not_used(account: QiniuAccount, target: Qiniu) -> None:
    """Neither uc's `/v6/domains/…/https` nor `/domain/…/sslcert` is ever asked for."""
    bound(account)
    account.service.add_bucket_domain(SRC, "pictures")
    made = bundle("*.example.com")

    target.observe(look())
    new = target.upload("img", made)
    target.bind(WWW, Kind.CDN, new, KEEP)
    target.bind(SRC, KODO, new, KEEP)
    target.observe(look(WWW, SRC))

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
    """Each in words, with what to do; the other domains go on."""
    account.service.add_domain(WWW, state=state)
    account.service.add_domain(IMG)

    broken, sound = target.observe(look(WWW, IMG)).domains

    assert (DomainState.UNAVAILABLE, DomainState.READY) == (broken.state, sound.state)
    assert broken.problem is not None
    assert words in str(broken.problem)
    assert broken.problem.hint
    with pytest.raises(TargetRejected, match=words):
        target.bind(WWW, Kind.CDN, seed(account), KEEP)


@pytest.mark.parametrize("operation", ["create_domain", "online_domain"])
def test_number_18_a_domain_that_is_being_made(
    operation: str, account: QiniuAccount, target: Qiniu
) -> None:
    """The run waits for it as for any other change."""
    account.service.add_domain(WWW, state="processing").operation = operation

    assert DomainState.PROCESSING is the_domain(target).state
    with pytest.raises(TargetBusy, match=operation):
        target.bind(WWW, Kind.CDN, seed(account), KEEP)


def test_number_18_a_change_that_is_said_to_be_immediate(
    account: QiniuAccount, target: Qiniu
) -> None:
    """What Qiniu says is reported; whether it is so, only the edges tell (see the acceptance)."""
    old = bound(account)
    habits.done_at_once(account.service)
    account.service.domains.processing_time = timedelta(minutes=10)
    new = seed(account)

    target.bind(WWW, Kind.CDN, new, KEEP)

    assert (DomainState.READY, new) == (the_domain(target).state, the_domain(target).bound)
    assert old == account.service.bound(WWW)


@pytest.mark.parametrize("habit", [None, habits.days_in_words])
def test_number_21_too_little_life(
    habit: habits.Habit | None, account: QiniuAccount, target: Qiniu
) -> None:
    """By code or in the console's words; a certificate of 45 days has 15 to be uploaded."""
    if habit is not None:
        habit(account.service)
    start = qiniu_calls.START
    young, old = (bundle(WWW, start=start - timedelta(days=age), days=45) for age in (14.9, 15.1))

    assert target.upload("img", young)
    with pytest.raises(TargetRejected, match="too little of the certificate's life is left"):
        target.upload("img", old)
    rules = target.observe(look()).rules
    assert young.certificate.remaining(start) >= rules.min_remaining
    assert old.certificate.remaining(start) < rules.min_remaining


def test_a_first_deployment_makes_no_more_requests_than_before(
    account: QiniuAccount, target: Qiniu
) -> None:
    """Where the first way of each call works: the same calls as in version 0.1, once each."""
    account.service.add_domain(WWW)
    account.service.add_bucket_domain(SRC, "pictures")

    target.observe(look(WWW, SRC))
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


def test_number_13_list_is_never_filtered(account: QiniuAccount, target: Qiniu) -> None:
    """Whether Qiniu heeds a filter is not known, and half a list could be taken for the whole:
    whatever is done, all domains are read, page by page.
    """
    cert_id = bound(account)
    account.service.add_domain(IMG)
    new = bundle("*.example.com")
    for asked in (look(), look(WWW), replace(look(), others=True), replace(look(), globs=("*",))):
        target.observe(asked)
    remote_id = target.upload("img", new)
    target.bind(WWW, Kind.CDN, remote_id, KEEP)
    target.survey(lambda *_: None)
    target.examine("qiniu")
    target.retire(cert_id, f"old {WWW}", unmanaged=True)

    hosts = (account.service.api, account.service.fusion)
    queries = [request.query for host in hosts for request in host.requests("GET /domain")]
    sent = [parse_qs(query, keep_blank_values=True) for query in queries]
    assert {"marker", "limit"} == {name for parameters in sent for name in parameters}


# --- Answers of Qiniu that say something else: a wrong clock, other shapes, lists that are none


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (timedelta(hours=2), "this host's clock is 2 hours ahead of Qiniu's"),
        (timedelta(minutes=-20), "this host's clock is 20 minutes behind Qiniu's"),
    ],
)
def test_a_wrong_clock_is_reported_before_the_keys(
    offset: timedelta, words: str, account: QiniuAccount
) -> None:
    """With how much, from the answer's Date; and what to do."""
    account.time.offset = offset

    with pytest.raises(ClockWrong, match=words) as caught:
        account.target().observe(look(WWW))

    assert "access_key" not in f"{caught.value} {caught.value.hint}"
    assert "timedatectl" in str(caught.value.hint)


def test_wrong_keys_with_a_right_clock_are_reported_as_that(account: QiniuAccount) -> None:
    """A second of difference explains nothing."""
    account.time.offset = timedelta(seconds=40)

    with pytest.raises(TargetAccessDenied, match="access_key and secret_key"):
        account.target(secret="wrong").observe(look(WWW))


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
def test_an_answer_of_another_shape(shape: str, account: QiniuAccount, target: Qiniu) -> None:
    """Reported with the request's id and the path of the wrong value; the other domains go on."""
    body, content_type, words = SHAPES[shape]
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    fault = Fault.status(200, body, content_type, [("X-Reqid", REQUEST_ID)])
    account.service.api.faults.add(fault, on=f"GET /domain/{WWW}", times=None)

    broken, sound = target.observe(look(WWW, IMG)).domains

    assert (DomainState.UNAVAILABLE, DomainState.READY) == (broken.state, sound.state)
    assert broken.problem is not None
    assert words in str(broken.problem)
    assert f"X-Reqid {REQUEST_ID}" in str(broken.problem.hint)


def test_a_number_that_is_written_as_text_is_a_number(account: QiniuAccount, target: Qiniu) -> None:
    """Dates of certificates may come so, and mean the same."""
    made = bundle(WWW)
    cert_id = target.upload("img", made)
    [wire] = [stored.to_wire() for stored in account.service.certificates.stored()]
    wire |= {"not_after": str(wire["not_after"]), "not_before": str(wire["not_before"])}
    listed = json.dumps({"certs": [wire], "marker": ""}).encode()
    account.service.fusion.faults.add(Fault.status(200, listed), on="GET /sslcert", times=None)

    seen = account.target().observe(Scope("img", (WWW,), None, Kind.AUTO, (made.certificate,)))

    assert [cert_id] == [remote.remote_id for remote in seen.remotes]


def test_a_bucket_that_cannot_be_read(account: QiniuAccount, target: Qiniu) -> None:
    """It hides its own domains; the others, and the CDN, go on, and it is reported."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(WWW, "broken")
    account.service.add_bucket_domain(SRC, "sound")
    fault = Fault.status(200, b'{"a":"list","was":"expected"}')
    account.service.uc.faults.add(fault, on="GET /v3/domains")

    seen = target.observe(look())

    assert {IMG, SRC} == {domain.domain for domain in seen.domains}
    [unread] = seen.unread
    assert "the domains of bucket broken" in str(unread)
    assert "set kind" in str(unread.hint)


def test_a_list_of_certificates_that_cannot_be_read(account: QiniuAccount, target: Qiniu) -> None:
    """The domains are observed, the upload and the binding go on, and it is reported."""
    bound(account)
    fault = Fault.status(200, b'["a", "list"]')
    account.service.fusion.faults.add(fault, on="GET /sslcert", times=None)

    seen = target.observe(look(WWW, known=[bundle(WWW).certificate]))
    new = target.upload("img", bundle(WWW))
    target.bind(WWW, Kind.CDN, new, KEEP)

    assert (DomainState.READY, True) == (seen.domains[0].state, seen.remotes_hidden)
    assert "certferry cannot read Qiniu's answer about the list of certificates" in str(
        seen.unread[0]
    )
    assert new == account.service.bound(WWW)


def test_a_list_of_domains_that_cannot_be_read(account: QiniuAccount, target: Qiniu) -> None:
    """Named domains go on, CDN domains and source domains."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.api.faults.add(Fault.status(200, b"[]"), on="GET /domain", times=None)

    assert [IMG] == [d.domain for d in target.observe(look(IMG)).domains]
    seen = target.observe(look(SRC, kind=KODO))

    assert [(SRC, DomainState.READY)] == [(d.domain, d.state) for d in seen.domains]
    assert "certferry cannot read Qiniu's answer about the list of domains" in str(seen.unread[0])


def test_buckets_that_cannot_be_listed(account: QiniuAccount, target: Qiniu) -> None:
    """A domain that the file calls a source domain is bound as one."""
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.uc.faults.add(refusal(403, None, "no"), on="GET /buckets", times=None)
    new = seed(account)

    [domain] = target.observe(look(SRC, kind=KODO)).domains
    target.bind(SRC, KODO, new, KEEP)

    assert (KODO, DomainState.READY, None) == (domain.kind, domain.state, domain.problem)
    assert new == account.service.bound_at_kodo(SRC)


def test_a_source_domain_is_known_by_its_binding(account: QiniuAccount, target: Qiniu) -> None:
    """Without the buckets, the bindings say that it is one."""
    old = qiniu_calls.seed(account.service, [SRC])
    account.service.add_bucket_domain(SRC, "pictures", https=old)
    account.service.uc.faults.add(refusal(403, None, "no"), on="GET /buckets", times=None)

    found = the_domain(target, SRC)

    assert (KODO, old) == (found.kind, found.bound)
