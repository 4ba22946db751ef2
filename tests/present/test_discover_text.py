"""The sentences of a discovery, and of messages to channels."""

from __future__ import annotations

import json
from datetime import timedelta
from textwrap import dedent
from typing import Any, cast

import pytest

from certferry.core.assessment.dispatch import Notification
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.desired.certificate import HttpsSettings, Kind
from certferry.core.discovery.inventory import (
    AccountSurvey,
    Bound,
    DiscoveredCertificate,
    DiscoveredDomain,
    Discovery,
    FoundCertificate,
    FoundDomain,
    Survey,
)
from certferry.core.observed.inferred import Owner
from certferry.core.observed.observation import Served
from certferry.errors import (
    Problem,
    Severity,
    TargetAccessDenied,
    TargetRejected,
    TargetUnavailable,
)
from certferry.ports.notifier import AgainAt, Answered, RefusedForGood, Sent
from certferry.present import discover_text
from certferry.present.discover_text import of_discovery
from certferry.present.documents import rendered
from certferry.present.language import Voice, voice_in
from certferry.present.layout import aligned, fitted, plain, width
from certferry.present.news_text import MOST_EVENTS, answer_lines, message, trial_message
from certferry.text import Quoted, Text
from certferry.values import replace
from tests.cli import values
from tests.cli.values import IMG, NEW, NOON, OLD
from tests.core.strategies import NOW

# --- Contents of accounts, for people and for programs


ZH = voice_in("zh")
EN = Voice()
SOON = NOON + timedelta(days=8, hours=3)
LATER = NOON + timedelta(days=58)
OTHER_NAME = Problem(EdgeProblemCode.NAME_NOT_COVERED, Text("is for other.example.org"))
NO_ANSWER = Problem(EdgeProblemCode.TIMED_OUT, Text("no answer"))
GOOD = Served("192.0.2.1", NEW, valid=True, not_after=LATER)
WRONG = Served("192.0.2.2", OLD, valid=False, problem=OTHER_NAME, not_after=LATER)
SILENT = Served("192.0.2.3", None, valid=False, problem=NO_ANSWER, silent=True)
FROZEN = TargetRejected(
    Text("{domain} is frozen at Qiniu", domain="ice.example.com"), hint=Text("resolve it first")
)


def cdn(name: str, **facts: Any) -> FoundDomain:
    return FoundDomain(**{"domain": name, "kind": Kind.CDN, "state": "success", **facts})


DOMAINS = (
    DiscoveredDomain(
        "qiniu",
        cdn(
            "www.example.com",
            has_https=True,
            bound="5f3c8e1b0d2a",
            https=HttpsSettings(force_https=True, http2=True),
        ),
        Bound(Owner.FOREIGN, "5f3c8e1b0d2a", None, ("www.example.com",), SOON),
        served=(GOOD, WRONG, SILENT),
    ),
    DiscoveredDomain("qiniu", cdn("ice.example.com", state="frozen", problem=FROZEN)),
    DiscoveredDomain(
        "qiniu",
        cdn(
            "free.example.com", has_https=True, is_free=True, https=HttpsSettings(force_https=False)
        ),
        Bound(Owner.FREE, None, NEW, None, NOON),
        ("pics",),
        served=(GOOD,),
    ),
    DiscoveredDomain(
        "qiniu", cdn("src.example.com", kind=Kind("kodo"), state=None, binding_hidden=True)
    ),
    DiscoveredDomain(
        "qiniu",
        cdn(
            "dyn.example.com",
            kind=Kind.DCDN,
            state="processing",
            has_https=True,
            binding_hidden=True,
        ),
        served=(SILENT,),
    ),
    DiscoveredDomain(
        "qiniu",
        cdn(IMG, has_https=True, https=HttpsSettings(http2=True)),
        Bound(Owner.OURS, "id-1", NEW, (IMG,), LATER),
        ("img", "wide"),
        "img",
        (GOOD,),
    ),
    DiscoveredDomain("qiniu", cdn("a.w.example.com", by_itself=False)),
)
CERTIFICATES = (
    DiscoveredCertificate(
        "qiniu",
        FoundCertificate("5f3c8e1b0d2a", "by hand", ("www.example.com",), SOON),
        Owner.FOREIGN,
        bound_to=("www.example.com",),
    ),
    DiscoveredCertificate(
        "qiniu",
        FoundCertificate("15079b752bf3", "很长很长很长很长很长很长的名字", (IMG, f"*.{IMG}"), NOON),
        Owner.FOREIGN,
    ),
    DiscoveredCertificate("qiniu", FoundCertificate("36d361f1155a"), Owner.OURS, NEW),
)
LOOK = AccountSurvey("qiniu", Survey(()))
FOUND = Discovery((LOOK,), DOMAINS, CERTIFICATES)


def shown(discovery: Discovery, voice: Voice, everything: Discovery | None = None) -> str:
    return values.text_of(
        [
            *aligned(discover_text.domains(discovery, NOON, voice)),
            *discover_text.remarks(discovery, voice),
            discover_text.heading(discovery, voice),
            *aligned(discover_text.unused(discovery, NOON, voice)),
            discover_text.summary(discovery, everything or discovery, voice),
        ]
    )


def test_each_domain_has_a_row_and_each_unused_certificate() -> None:
    """A row has state, settings, owner, days left, coverage and served addresses. Problems and
    counts follow below.
    """
    assert dedent("""\
        DOMAIN                  STATE       HTTPS   OWNER     LEFT     COVERED BY  SERVED
        www.example.com         ok          301 h2  not ours  8 days   none        1 of 2, 1 silent
        ice.example.com         frozen      off     —         —        none        —
        free.example.com        ok          on      free      expired  (pics)      1 of 1
        src.example.com (kodo)  —           —       unknown   —        none        —
        dyn.example.com (dcdn)  processing  on      unknown   —        none        0 of 0, 1 silent
        img.example.com         ok          h2      ours      58 days  img         1 of 1
        a.w.example.com         ok          off     —         —        —           —
        www.example.com: is for other.example.org
        ice.example.com: is frozen at Qiniu
        free.example.com: pics would cover the domain, but no deployment brings it to qiniu
        dyn.example.com: no answer
        2 unused certificates (no domain listed here has them):
        CERTIFICATE   OWNER     LEFT     NAME                     FOR
        15079b752bf3  not ours  expired  很长很长很长很长很长很…  img.example.com +1
        36d361f1155a  ours      —        —                        —
        7 domains: 4 not covered, 1 with another owner's certificate. 3 certificates: 2 unused.
        """) == shown(FOUND, EN)


def test_summary_names_accounts_that_could_not_be_read() -> None:
    """Otherwise the counts would seem to be of all accounts."""
    unread = AccountSurvey("shops", failure=TargetAccessDenied(Text("no")))
    some = replace(FOUND, accounts=(LOOK, unread))

    assert "2 unused. Not read: shops." in shown(some, EN)


def test_declared_domain_with_a_certificate_from_elsewhere() -> None:
    """The row of the domain alone, "ok" and "not ours", does not show that something is wrong."""
    bound = Bound(Owner.FOREIGN, "id-9", None, (IMG,), LATER)
    domain = DiscoveredDomain("qiniu", cdn(IMG, has_https=True), bound, ("img",), "img", (GOOD,))

    assert ["the domain does not use the certificate img"] == [
        str(remark) for remark in discover_text.remarks_on(domain)
    ]


def test_discovery_in_chinese() -> None:
    """Each column begins in the same cell, whatever the script."""
    assert dedent("""\
        域名                    状态    HTTPS   归属    剩余    对应证书  已生效节点
        www.example.com         正常    301 h2  外部    8 天    无        1/2，1 个无应答
        ice.example.com         已冻结  关      —       —       无        —
        free.example.com        正常    开      免费    已过期  (pics)    1/1
        src.example.com (kodo)  —       —       未知    —       无        —
        dyn.example.com (dcdn)  处理中  开      未知    —       无        0/0，1 个无应答
        img.example.com         正常    h2      本工具  58 天   img       1/1
        a.w.example.com         正常    关      —       —       —         —
        www.example.com: is for other.example.org
        ice.example.com: 在七牛已被冻结
        free.example.com: pics 包含该域名，但没有部署到 qiniu 的配置
        dyn.example.com: 无应答
        2 张证书未使用（以上没有域名用到）：
        证书          归属    剩余    名称                     适用域名
        15079b752bf3  外部    已过期  很长很长很长很长很长很…  img.example.com +1
        36d361f1155a  本工具  —       —                        —
        7 个域名：4 个未覆盖，1 个使用外部证书。3 张证书：2 张未使用。
        """) == shown(FOUND, ZH)


def test_several_accounts_are_distinguished() -> None:
    """A column for the account appears only with several accounts."""
    discovery = Discovery((LOOK, AccountSurvey("second")), DOMAINS[:1], CERTIFICATES[2:])

    header, row, *_, unused, _ = shown(discovery, EN).splitlines()

    assert header.endswith("ACCOUNT")
    assert row.endswith("  qiniu")
    assert unused.endswith("  qiniu")


@pytest.mark.parametrize("voice", [EN, ZH], ids=["en", "zh"])
@pytest.mark.parametrize("columns", [80, 60, 40])
def test_discovery_fits_the_terminal(voice: Voice, columns: int) -> None:
    """First a long domain has a line of its own, then every fact has."""
    long = DiscoveredDomain(
        "qiniu", cdn("assets.img.example.com"), Bound(Owner.FOREIGN), served=(GOOD,)
    )
    discovery = Discovery((LOOK,), (long, *DOMAINS[3:]), CERTIFICATES)

    for table in (discover_text.domains, discover_text.unused):
        rows = fitted(table(discovery, NOON, voice), columns)
        assert max(width(plain(row)) for row in rows) <= columns


def test_long_name_has_a_line_of_its_own() -> None:
    """The facts of all domains still line up."""
    name = "a-very-long-name-of-a-domain.with-many-parts.img.example.com"
    long = DiscoveredDomain("qiniu", cdn(name))
    table = discover_text.domains(Discovery((LOOK,), (long, DOMAINS[5])), NOON, EN)

    assert dedent("""\
        DOMAIN           STATE  HTTPS  OWNER  LEFT     COVERED BY  SERVED
        a-very-long-name-of-a-domain.with-many-parts.img.example.com
                         ok     off    —      —        none        —
        img.example.com  ok     h2     ours   58 days  img         1 of 1
        """) == values.text_of(fitted(table, 80))


NOTHING = Discovery((LOOK,))


@pytest.mark.parametrize(
    ("discovery", "everything", "english", "chinese"),
    [
        (
            NOTHING,
            NOTHING,
            "There are no domains and no certificates at qiniu.",
            "qiniu 没有任何域名和证书。",
        ),
        (
            NOTHING,
            FOUND,
            "None of 7 domains and 3 certificates matches.",
            "7 个域名和 3 张证书中没有符合条件的。",
        ),
        (
            Discovery((LOOK,), DOMAINS[:1], CERTIFICATES[1:2]),
            FOUND,
            "1 domain: 1 not covered, 1 with another owner's certificate. 1 certificate: 1 unused.",
            "1 个域名：1 个未覆盖，1 个使用外部证书。1 张证书：1 张未使用。",
        ),
    ],
    ids=["nothing", "nothing-wanted", "one"],
)
def test_last_line_counts_the_contents(
    discovery: Discovery, everything: Discovery, english: str, chinese: str
) -> None:
    """An empty account and a filter without matches have different sentences."""
    assert english == plain(discover_text.summary(discovery, everything, EN))
    assert chinese == plain(discover_text.summary(discovery, everything, ZH))


def test_single_unused_certificate() -> None:
    """The number agrees with its noun."""
    discovery = Discovery((LOOK,), (), CERTIFICATES[1:2])

    heading = plain(discover_text.heading(discovery, EN))

    assert "1 unused certificate (no domain listed here has it):" == heading


def test_unreadable_account_is_reported_with_a_hint() -> None:
    """The account's name comes once, also if the error begins with the name."""
    problems = [
        TargetUnavailable(Text("second: no answer"), hint=Text("try later")).problem("second"),
        TargetRejected(Text("no right")).problem("third", Severity.WARNING),
    ]

    assert dedent("""\
        error: second: no answer
        hint: try later
        warning: third: no right
        """) == values.text_of([row for problem in problems for row in EN.problem(problem)])


def test_document_of_a_discovery_has_the_promised_keys() -> None:
    """Facts are complete, and null if unknown."""
    looks = (LOOK, AccountSurvey("second", failure=FROZEN))
    document = json.loads(
        json.dumps(rendered(of_discovery(Discovery(looks, DOMAINS, CERTIFICATES)), EN))
    )

    domains = {domain["domain"]: domain for domain in document["domains"]}
    assert {
        "account": "qiniu",
        "domain": IMG,
        "kind": "cdn",
        "state": "success",
        "https": True,
        "settings": {"force_https": None, "http2": True, "tls_versions": None},
        "bound": {
            "remote_id": "id-1",
            "fingerprint": NEW,
            "names": [IMG],
            "not_after": "2027-01-21T12:00:00Z",
            "owner": "ours",
        },
        "not_after": "2027-01-21T12:00:00Z",
        "covered_by": ["img", "wide"],
        "deployed_by": "img",
        "by_itself": True,
        "served": [
            {
                "address": "192.0.2.1",
                "fingerprint": NEW,
                "not_after": "2027-01-21T12:00:00Z",
                "ok": True,
                "problem": None,
            }
        ],
        "problem": None,
    } == domains[IMG]
    frozen = {
        "code": "target_rejected",
        "message": "ice.example.com is frozen at Qiniu",
        "hint": "resolve it first",
    }
    ice = domains["ice.example.com"]
    assert (False, None, frozen) == (ice["https"], ice["bound"], ice["problem"])
    source, dynamic = domains["src.example.com"], domains["dyn.example.com"]
    assert ("kodo", None, None) == (source["kind"], source["https"], source["bound"])
    assert ("dcdn", True, None) == (dynamic["kind"], dynamic["https"], dynamic["bound"])
    assert [
        ("5f3c8e1b0d2a", "by hand", ["www.example.com"], "foreign", ["www.example.com"]),
        ("15079b752bf3", "很长很长很长很长很长很长的名字", [IMG, f"*.{IMG}"], "foreign", []),
        ("36d361f1155a", "", None, "ours", []),
    ] == [
        (
            certificate["remote_id"],
            certificate["name"],
            certificate["names"],
            certificate["owner"],
            certificate["bound_to"],
        )
        for certificate in document["certificates"]
    ]
    assert {"qiniu"} == {certificate["account"] for certificate in document["certificates"]}
    wrong = domains["www.example.com"]["served"][1]
    assert (False, "name_not_covered") == (wrong["ok"], wrong["problem"]["code"])
    assert (False, ["qiniu", "second"]) == (document["ok"], document["accounts"])
    failure = {"account": "second", "severity": "error", "problem": frozen}
    assert [failure] == document["problems"]


def test_part_that_the_keys_cannot_read_is_a_warning() -> None:
    """The contents are complete as far as these keys can read."""
    looks = (AccountSurvey("second", Survey((), (FROZEN,))),)

    document = rendered(of_discovery(Discovery(looks)), EN)

    assert document["ok"]
    assert [("second", "warning")] == [
        (problem["account"], problem["severity"])
        for problem in json.loads(json.dumps(document))["problems"]
    ]


def test_unknown_owner_and_settings_are_null() -> None:
    """The document has null where the table has a word; TLS versions are a list."""
    versions = HttpsSettings(tls_versions=("TLSv1.2", "TLSv1.3"))
    domain = DiscoveredDomain(
        "qiniu", cdn(IMG, has_https=True, https=versions), Bound(None, "id-9")
    )

    [document] = json.loads(json.dumps(rendered(of_discovery(Discovery((LOOK,), (domain,))), EN)))[
        "domains"
    ]

    assert (None, None) == (document["bound"]["owner"], document["bound"]["names"])
    assert ["TLSv1.2", "TLSv1.3"] == document["settings"]["tls_versions"]
    assert "unknown" in shown(Discovery((LOOK,), (domain,)), EN)


# --- Messages to channels: in two languages, grouped by cause, and as an event


DENIED = Notification(
    Notice(
        Topic.TROUBLE,
        Subject("img", "qiniu", "a.example.com"),
        NOW,
        Problem("target_access_denied", Text("the keys are refused"), Text("check them")),
        NOW + timedelta(days=9),
    )
)


def news_of(
    topic: Topic, subject: Subject, code: str, words: Text, *, again: bool = False
) -> Notification:
    return Notification(Notice(topic, subject, NOW, Problem(code, words)), again)


def test_paragraph_about_trouble() -> None:
    """The paragraph has place, problem, deadline and hint, under a title with a count."""
    channel_message = message([DENIED], Voice(), "web1", "7")

    assert "certferry on web1: Needs attention (1)" == channel_message.title
    (paragraph,) = channel_message.paragraphs
    assert [
        "[Needs attention] img: qiniu → a.example.com",
        "the keys are refused",
        "the old certificate is valid until 2026-12-03 12:00 UTC",
        "what to do: check them",
    ] == paragraph.splitlines()


def test_cause_is_reported_once() -> None:
    """The first three of a thousand certificates to end are named, though the service quotes each
    request's id; the earliest deadline counts.
    """
    news = [
        replace(DENIED, notice=replace(DENIED.notice, subject=subject, problem=problem), again=True)
        for number in range(1000)
        for subject in [Subject(f"n{number:03}", "qiniu", f"a{number}.example.com")]
        for problem in [Problem("target_access_denied", Text("no {id}", id=Quoted(str(number))))]
    ]
    last = news[-1].notice
    news[-1] = Notification(replace(last, deadline=NOW + timedelta(days=2)))

    channel_message = message(news, Voice(), "web1", "7")

    (paragraph,) = channel_message.paragraphs
    assert [
        "[Still needs attention] qiniu: 1000 certificates (n999, n000, n001, and 997 more)",
        "no 999",
        "since 2026-11-24 12:00 UTC",
        "the first deadline is 2026-11-26 12:00 UTC",
    ] == paragraph.splitlines()
    events = cast("list[Any]", channel_message.event["events"])
    assert MOST_EVENTS == len(events)
    assert 1000 - MOST_EVENTS == channel_message.event["omitted"]


def test_an_operators_language() -> None:
    """Chinese, with the same names."""
    channel_message = message([DENIED], voice_in("zh"), "web1", "7")

    assert "web1 上的 certferry: 需要处理（1）" == channel_message.title
    assert "[需要处理] img：qiniu → a.example.com" in channel_message.paragraphs[0]
    assert "旧证书有效期至 2026-12-03 12:00 UTC" in channel_message.paragraphs[0]


def test_event_follows_the_contract() -> None:
    """Moments are in UTC, unknown values are null, and the run is named."""
    over = news_of(Topic.RECOVERED, Subject(channel="boss"), "", Text("in order"))

    channel_message = message([DENIED, over], Voice(), "web1", "7")

    first, second = cast("list[dict[str, Any]]", channel_message.event["events"])
    assert first.items() <= channel_message.event.items()
    assert {
        "event": "trouble",
        "certificate": "img",
        "target": "qiniu",
        "domain": "a.example.com",
        "channel": None,
        "code": "target_access_denied",
        "message": "the keys are refused",
        "hint": "check them",
        "since": "2026-11-24T12:00:00Z",
        "deadline": "2026-12-03T12:00:00Z",
        "again": False,
        "host": "web1",
        "run": "7",
    } == first
    assert ("recovered", None, "boss") == (second["event"], second["target"], second["channel"])
    assert (None, None, None) == (second["code"], second["hint"], second["deadline"])


def test_subjects_of_news() -> None:
    """A certificate, its target, a channel, or the run as a whole."""
    subjects = [Subject("img"), Subject("img", "qiniu"), Subject(channel="ops"), Subject()]
    news = [
        news_of(Topic.TROUBLE, subject, "x", Text("no {n}", n=number))
        for number, subject in enumerate(subjects)
    ]

    heads = [part.splitlines()[0] for part in message(news, Voice(), "h", "7").paragraphs]

    assert [
        "[Needs attention] the whole run",
        "[Needs attention] channel ops",
        "[Needs attention] img",
        "[Needs attention] img: qiniu",
    ] == heads


def test_recovered_subject_is_named() -> None:
    """Issuance, a target or a domain is named, by the name of the service if known. Other trouble
    has only the certificate.
    """
    places = [Subject("img"), Subject("img", "qiniu"), Subject("img", "second", "a.example.com")]
    places.append(Subject("www"))
    news = [
        news_of(Topic.RECOVERED, subject, "dns_access_denied", Text("over")) for subject in places
    ]
    news.append(news_of(Topic.RECOVERED, Subject("static"), "lease_held", Text("over")))
    services = {"qiniu": Text("Qiniu")}

    english = message(news, Voice(), "h", "7", services).paragraphs
    chinese = message(news, voice_in("zh"), "h", "7", services).paragraphs

    assert [
        "[In order again] img: issuance; www: issuance",
        "[In order again] img: deployment to Qiniu",
        "[In order again] img: deployment to second → a.example.com",
        "[In order again] static",
    ] == [part.splitlines()[0] for part in english]
    assert [
        "[已恢复] img：签发；www：签发",
        "[已恢复] img：部署到七牛",
        "[已恢复] img：部署到 second → a.example.com",
        "[已恢复] static",
    ] == [part.splitlines()[0] for part in chinese]


def test_message_of_a_trial() -> None:
    """The message says that nothing needs attention."""
    channel_message = trial_message(Voice(), "web1", NOW, "7")

    assert "certferry on web1: test" == channel_message.title
    assert "nothing needs attention" in channel_message.paragraphs[0]
    assert "test" == channel_message.event["event"]


def test_answers_of_channels() -> None:
    """Each channel has a line; refused messages have a hint below."""
    answers: dict[str, Answered] = {
        "ops": Sent(),
        "boss": RefusedForGood(Text("wrong key"), Text("compare `key`")),
        "mail": RefusedForGood(Text("no such user"), partly=True),
        "phone": AgainAt(NOW, Text("too many")),
    }

    lines = answer_lines(answers, dict.fromkeys(answers, Text("S")), Voice())

    assert [
        "ops (S): sent",
        "boss (S): refused: wrong key",
        "  hint: compare `key`",
        "mail (S): refused in part: no such user",
        "phone (S): not sent, try again after 2026-11-24 12:00 UTC: too many",
    ] == ["".join(span.words for span in line) for line in lines]
