"""News as they are read: in two languages, one cause once, and as an event."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.notifications import Notification
from certferry.ports.notifier import AgainAt, Answered, RefusedForGood, Sent
from certferry.present.language import Voice, voice_in
from certferry.present.news_text import MOST_EVENTS, answer_lines, message, trial_message
from certferry.problem import Problem
from certferry.text import Text
from tests.core.strategies import NOW

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
    """Something that a channel is sent."""
    return Notification(Notice(topic, subject, NOW, Problem(code, words)), again)


def test_trouble_says_what_where_why_until_when_and_what_to_do() -> None:
    """In one paragraph, under a title that counts."""
    found = message([DENIED], Voice(), "web1", "7")

    assert "certferry on web1: Trouble (1)" == found.title
    (paragraph,) = found.paragraphs
    assert [
        "[Trouble] img: qiniu → a.example.com",
        "the keys are refused",
        "the old certificate is valid until 2026-12-03 12:00 UTC",
        "what to do: check them",
    ] == paragraph.splitlines()


def test_one_cause_is_told_once() -> None:
    """Of a thousand certificates ten are named; the rest are counted."""
    news = [
        news_of(Topic.TROUBLE, Subject(f"n{number:03}"), "dns", Text("no"), again=True)
        for number in range(1000)
    ]

    found = message(news, Voice(), "web1", "7")

    (paragraph,) = found.paragraphs
    assert paragraph.startswith("[Still in trouble] n000, n001")
    assert "n009, and 990 more\nno\nsince 2026-11-24 12:00 UTC" in paragraph
    events = cast("list[Any]", found.event["events"])
    assert MOST_EVENTS == len(events)
    assert 1000 - MOST_EVENTS == found.event["omitted"]


def test_an_operators_language() -> None:
    """Chinese, with the same names."""
    found = message([DENIED], voice_in("zh"), "web1", "7")

    assert "web1 上的 certferry: 故障（1）" == found.title
    assert "[故障] img: qiniu → a.example.com" in found.paragraphs[0]
    assert "旧证书有效期至 2026-12-03 12:00 UTC" in found.paragraphs[0]


def test_an_event_is_what_the_contract_says() -> None:
    """Moments in UTC, null for what is unknown, and whose run it was."""
    over = news_of(Topic.RECOVERED, Subject(channel="boss"), "", Text("in order"))

    found = message([DENIED, over], Voice(), "web1", "7")

    first, second = cast("list[dict[str, Any]]", found.event["events"])
    assert first.items() <= found.event.items()
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


def test_whom_news_are_about() -> None:
    """A certificate, a target of it, a channel, or the run as a whole."""
    subjects = [Subject("img"), Subject("img", "qiniu"), Subject(channel="ops"), Subject()]
    news = [
        news_of(Topic.TROUBLE, one, "x", Text("no {n}", n=number))
        for number, one in enumerate(subjects)
    ]

    heads = [part.splitlines()[0] for part in message(news, Voice(), "h", "7").paragraphs]

    assert [
        "[Trouble] img",
        "[Trouble] img: qiniu",
        "[Trouble] channel ops",
        "[Trouble] the whole run",
    ] == heads


def test_what_is_in_order_again_is_named() -> None:
    """Issuance, a target, a domain there: by the name of the service where that has one. Of other
    trouble there is only the certificate.
    """
    places = (Subject("img"), Subject("img", "qiniu"), Subject("img", "second", "a.example.com"))
    news = [news_of(Topic.RECOVERED, one, "dns_access_denied", Text("over")) for one in places]
    news.append(news_of(Topic.RECOVERED, Subject("static"), "lease_held", Text("over")))
    services = {"qiniu": Text("Qiniu")}

    english = message(news, Voice(), "h", "7", services).paragraphs
    chinese = message(news, voice_in("zh"), "h", "7", services).paragraphs

    assert (
        "[In order again] img: issuance; img: deployment to Qiniu;"
        " img: deployment to second → a.example.com; static"
    ) == english[0].splitlines()[0]
    assert (
        "[已恢复] img：签发；img：部署到七牛；img：部署到 second → a.example.com；static"
    ) == chinese[0].splitlines()[0]


def test_the_message_of_a_trial_says_so() -> None:
    """Nothing has happened."""
    found = trial_message(Voice(), "web1", NOW, "7")

    assert "certferry on web1: test" == found.title
    assert "nothing has happened" in found.paragraphs[0]
    assert "test" == found.event["event"]


def test_what_channels_answered() -> None:
    """A line each; below those that took no message, what to do."""
    answers: dict[str, Answered] = {
        "ops": Sent(),
        "boss": RefusedForGood(Text("wrong key"), Text("compare `key`")),
        "mail": RefusedForGood(Text("no such user"), partly=True),
        "phone": AgainAt(NOW, Text("too many")),
    }

    lines = answer_lines(answers, dict.fromkeys(answers, "S"), Voice())

    assert [
        "ops (S): sent",
        "boss (S): refused: wrong key",
        "  hint: compare `key`",
        "mail (S): refused in part: no such user",
        "phone (S): not sent, try again after 2026-11-24 12:00 UTC: too many",
    ] == ["".join(span.words for span in line) for line in lines]
