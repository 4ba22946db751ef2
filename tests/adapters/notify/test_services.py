"""What each channel sends, and what services say to it."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certferry.adapters.http.exchange import Timeouts
from certferry.adapters.http.http_client import HttpClient, Pacer
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Http
from certferry.ports.notifier import AgainAt, Answered, RefusedForGood, Sent
from certferry.values import replace
from certferry.wiring.channels import LONGEST_ANSWER
from certferry_sandbox.faults import Fault
from certferry_sandbox.messages import pushplus, telegram
from certferry_sandbox.messages.dingtalk import BLOCKED, DingtalkService
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.messages.feishu import FeishuService
from certferry_sandbox.messages.pushplus import PushplusService
from certferry_sandbox.messages.serverchan import A_DAY, ServerchanService
from certferry_sandbox.messages.service import MessageService
from certferry_sandbox.messages.telegram import TelegramService
from certferry_sandbox.messages.wecom import WecomService
from certferry_sandbox.testing.contracts.notifier import message, shown
from tests.adapters.notify.channels import CASES, QUIET, Case, Clock, connect, context

# --- What each service answers beside yes and no, and what becomes of it


OF_THE_LIBRARY = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""What Apprise imports when it is first asked for a service."""

CASE_BY_KIND = {case.kind: case for case in reversed(CASES)}


def again_at(answered: Answered) -> datetime:
    assert isinstance(answered, AgainAt), answered
    return answered.moment


def test_dingtalk_blocks_a_robot_for_ten_minutes() -> None:
    """After twenty messages in a minute (130101)."""
    clock = Clock()
    with DingtalkService(clock=clock) as service:
        robot = connect("dingtalk", context(clock), **CASE_BY_KIND["dingtalk"].settings(service))
        answers = [robot.send(message()) for _ in range(20)]
        blocked = robot.send(message())
        clock.pass_time(BLOCKED - timedelta(seconds=1))
        still = robot.send(message())

    assert [Sent()] * 20 == answers
    assert QUIET + BLOCKED == again_at(blocked)
    assert isinstance(still, AgainAt)


@pytest.mark.parametrize("service_class", [DingtalkService, FeishuService])
def test_a_robot_that_wants_a_keyword(service_class: type[DingtalkService | FeishuService]) -> None:
    """`certferry` is in every message, and needs no secret; another word is refused with a hint."""
    kind = "dingtalk" if service_class is DingtalkService else "feishu"
    with service_class(keyword="certferry", clock=Clock()) as service:
        robot = connect(kind, context(service.clock), url=Secret(service.address))
        right = robot.send(message())
        service.keyword = "报警"
        wrong = robot.send(message())

    assert Sent() == right
    assert isinstance(wrong, RefusedForGood)
    assert "keyword" in str(wrong.hint)


@pytest.mark.parametrize("kind", ["dingtalk", "feishu"])
def test_a_clock_that_is_hours_off(kind: str) -> None:
    """The proof is dated: it is refused for good, and the hint leads on."""
    case = CASE_BY_KIND[kind]
    with case.service() as service:
        wrong = Clock(datetime.now(UTC) - timedelta(hours=3))
        answered = connect(kind, context(wrong), **case.settings(service)).send(message())

    assert isinstance(answered, RefusedForGood)
    assert "secret" in str(answered.hint)


@pytest.mark.parametrize("minute", [0, 30])
def test_feishu_as_the_hour_or_its_half_begins(minute: int) -> None:
    """It refuses every robot (11232), and takes the message a minute later."""
    clock = Clock(QUIET.replace(minute=minute, second=1))
    with FeishuService(clock=clock) as service:
        robot = connect("feishu", context(clock), **CASE_BY_KIND["feishu"].settings(service))
        crowded = robot.send(message())
        clock.now = again_at(crowded)
        later = robot.send(message())

    assert Sent() == later
    assert clock.now - QUIET.replace(minute=minute) <= timedelta(minutes=2)


def test_proofs_that_openssl_made() -> None:
    """The same as `openssl dgst -sha256` gives for this moment: a vector of another program."""
    clock = Clock(datetime.fromtimestamp(1_700_000_000, UTC) + timedelta(milliseconds=123))
    with FeishuService(clock=clock) as feishu, DingtalkService(clock=clock) as dingtalk:
        connect("feishu", context(clock), **CASE_BY_KIND["feishu"].settings(feishu)).send(message())
        connect("dingtalk", context(clock), **CASE_BY_KIND["dingtalk"].settings(dingtalk)).send(
            message()
        )
        (to_feishu,), (to_dingtalk,) = feishu.requests(), dingtalk.requests()

    assert b'"timestamp": "1700000000"' in to_feishu.body
    assert b'"sign": "e/Ox03mewhCRUFJRfBuU+fRUODbZ3L6B6xyEEbeDNFI="' in to_feishu.body
    assert to_dingtalk.query.endswith(
        "&timestamp=1700000000123&sign=PJsA6VSWoZXVQNXs%2Fyrx%2FuuMJVNs%2BZt04%2FWB2oS5Z7c%3D"
    )


def test_wecom_takes_twenty_a_minute() -> None:
    """The next one later (45009)."""
    clock = Clock()
    with WecomService(clock=clock) as service:
        robot = connect("wecom", context(clock), **CASE_BY_KIND["wecom"].settings(service))
        answers = [robot.send(message()) for _ in range(20)]
        many = robot.send(message())
        clock.now = again_at(many)
        later = robot.send(message())

    assert [Sent()] * 20 == answers
    assert Sent() == later


def test_serverchan_after_the_days_messages() -> None:
    """Not again before the day in China has ended."""
    clock = Clock()
    with ServerchanService(clock=clock) as service:
        channel = connect(
            "serverchan", context(clock), **CASE_BY_KIND["serverchan"].settings(service)
        )
        answers = [channel.send(message()) for _ in range(A_DAY)]
        spent = channel.send(message())

    assert [Sent()] * A_DAY == answers
    assert datetime(2026, 11, 26, 16, tzinfo=UTC) == again_at(spent)


def test_pushplus_after_code_900() -> None:
    """Not again before the day in China has ended: trying again makes it worse."""
    clock = Clock()
    with PushplusService(clock=clock) as service:
        service.a_day = 1
        channel = connect("pushplus", context(clock), **CASE_BY_KIND["pushplus"].settings(service))
        answers = [channel.send(message()) for _ in range(2)]

    assert Sent() == answers[0]
    assert datetime(2026, 11, 26, 16, tzinfo=UTC) == again_at(answers[1])
    assert 0 == service.tries_after_900


def test_pushplus_wants_a_real_name() -> None:
    """Only the operator can give it."""
    with PushplusService() as service:
        service.is_verified = False
        settings: dict[str, Any] = {"api": service.url, "key": Secret(pushplus.TOKEN)}
        answered = connect("pushplus", **settings).send(message())

    assert isinstance(answered, RefusedForGood)
    assert "real name" in str(answered.hint)


def test_telegram_says_when_it_may_be_sent_more() -> None:
    """`retry_after`, in seconds."""
    clock = Clock()
    with TelegramService(clock=clock) as service:
        bot = connect("telegram", context(clock), **CASE_BY_KIND["telegram"].settings(service))
        answers = [bot.send(message()) for _ in range(21)]

    assert QUIET + timedelta(seconds=telegram.RETRY_AFTER) == again_at(answers[-1])


def test_telegram_chat_that_the_bot_is_not_in() -> None:
    """The hint names the setting."""
    with TelegramService() as service:
        settings: dict[str, Any] = {
            "api": service.url,
            "key": Secret(telegram.TOKEN),
            "chat": "@other",
        }
        answered = connect("telegram", **settings).send(message())

    assert isinstance(answered, RefusedForGood)
    assert "`chat`" in str(answered.hint)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("hooks.example.com/x", "complete address"),
        ("https://", "complete address"),
        ("https://[::1/x", "complete address"),
        ("ftp://hooks.example.com/x", "complete address"),
        ("http://hooks.example.com/tok-en", "https://"),
        ("https://user:pass@hooks.example.com/x", "user name"),
    ],
)
@pytest.mark.parametrize("kind", ["dingtalk", "feishu", "wecom", "webhook"])
def test_an_address_that_can_be_none(kind: str, url: str, problem: str) -> None:
    """It is reported without being shown."""
    with pytest.raises(ConfigError) as refused:
        connect(kind, url=Secret(url))

    assert problem in str(refused.value)
    assert "hooks" not in str(refused.value)


def test_a_robot_at_a_mirror() -> None:
    """`api` takes the place of the service's own address; path and key stay."""
    with WecomService() as service:
        written = service.address.replace(service.url, "https://qyapi.weixin.qq.com")
        answered = connect("wecom", url=Secret(written), api=f"{service.url}/").send(message())

    assert Sent() == answered


@OF_THE_LIBRARY
def test_apprise_that_knows_no_such_service() -> None:
    """It is reported without the address."""
    answered = connect("apprise", url=Secret("nosuch://sekrit-sekrit")).send(message())

    assert isinstance(answered, RefusedForGood)
    assert "sekrit" not in str(answered.problem)


def test_apprise_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """How to install it is reported."""
    monkeypatch.setitem(sys.modules, "apprise", None)

    with pytest.raises(ConfigError) as missing:
        connect("apprise", url=Secret("json://127.0.0.1/")).send(message())

    assert "requirements/apprise.txt" in str(missing.value)


# --- Services that answer with something else than they should, or not at all


SHORT = timedelta(seconds=0.3)
MEGABYTES = b'{"ok": true, "code": 0, "errcode": 0, "more": "' + b"x" * 4_000_000 + b'"}'


def impatient() -> Context:
    """A run's context, with a fraction of its patience."""

    def open_http(per_second: float) -> Http:
        return HttpClient(
            pace=Pacer(per_second, pause=time.sleep),
            pause=time.sleep,
            attempts=1,
            timeouts=Timeouts(SHORT, SHORT, SHORT * 2),
            longest=LONGEST_ANSWER,
            called="the service",
        )

    return replace(context(), http=open_http)


def answer_to(fault: Fault, case: Case, service: MessageService) -> Answered:
    service.faults.add(fault)
    answered = connect(case.kind, impatient(), **case.settings(service)).send(message())
    assert set() == shown(answered, (*case.secrets, "127.0.0.1", "elsewhere.example"))
    assert 1 == len(service.journal)  # sent once, whatever comes
    return answered


LATER = {
    "hangs": Fault.delay(5),
    "breaks off": Fault.reset_before(),
    "loses the answer": Fault.reset_after(),
    "answers half": Fault.truncated(),
    "answers megabytes": Fault.status(200, MEGABYTES),
    "fails": Fault.status(503, b"{}", headers=[("Retry-After", "120")]),
    "is a gateway's page": Fault.html(502),
}
FOR_GOOD = {
    "redirects": Fault.status(302, b"", headers=[("Location", "https://elsewhere.example/")]),
    "refuses in words": Fault.status(403, b"forbidden", "text/plain"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
@pytest.mark.parametrize("fault", LATER.values(), ids=list(LATER))
def test_what_may_pass(case: Case, fault: Fault) -> None:
    """The message may be sent again, and no run waits longer than it said."""
    with case.service() as service:
        begun = time.monotonic()
        answered = answer_to(fault, case, service)

    assert time.monotonic() - begun < 3
    assert isinstance(answered, AgainAt)
    assert datetime.now(UTC) < answered.moment < datetime.now(UTC) + timedelta(minutes=3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
@pytest.mark.parametrize("fault", FOR_GOOD.values(), ids=list(FOR_GOOD))
def test_what_an_operator_has_to_fix(case: Case, fault: Fault) -> None:
    """No redirect is followed, and no words are taken for a yes."""
    with case.service() as service:
        assert isinstance(answer_to(fault, case, service), RefusedForGood)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
@pytest.mark.parametrize("body", [b"", b"ok", b"[]", b'"ok"', b"{}", b"null", b"[" * 9000])
def test_200_without_a_yes(case: Case, body: bytes) -> None:
    """The body decides: for a webhook of the operator's own any is a yes that is no refusal."""
    with case.service() as service:
        answered = answer_to(Fault.status(200, body), case, service)

    assert isinstance(answered, Sent if case.kind == "webhook" else RefusedForGood)
    assert isinstance(answered, Sent) or "None" not in str(answered.problem)


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        (b'{"ok": false, "error": "no such key"}', False),
        (b'{"success": false}', False),
        (b'{"error": {"code": 7}}', False),
        (b'{"ok": true, "error": null}', True),
        (b'{"id": 7}', True),
    ],
)
def test_webhook_that_refuses_inside_200(body: bytes, *, taken: bool) -> None:
    """As many do."""
    with EventReceiver() as service:
        service.faults.add(Fault.status(200, body))
        settings: dict[str, Any] = {"url": Secret(service.address), "secret": Secret(SECRET)}
        answered = connect("webhook", **settings).send(message())

    assert isinstance(answered, Sent if taken else RefusedForGood)


def test_webhook_that_is_sent_too_many() -> None:
    """It says when."""
    with EventReceiver() as service:
        service.faults.add(Fault.too_many(90))
        answered = connect("webhook", url=Secret(service.address)).send(message())

    assert isinstance(answered, AgainAt)
    left = answered.moment - datetime.now(UTC)
    assert timedelta(seconds=80) < left <= timedelta(seconds=90)


def test_words_of_a_service_that_repeats_what_it_was_sent() -> None:
    """Keys in its answer are not reported."""
    case = CASES[0]
    with case.service() as service:
        said = f'{{"errcode": 1, "errmsg": "no {case.secrets[0]} {case.secrets[1]}"}}'
        answered = answer_to(Fault.status(200, said.encode()), case, service)

    assert isinstance(answered, RefusedForGood)
    assert "•••" in str(answered.problem)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_key_that_a_service_quotes_by_itself(case: Case) -> None:
    """The key of an address is hidden without the rest of it, also one that is written as the ids
    of requests are.
    """
    key = case.secrets[0].rpartition("/")[2]
    with case.service() as service:
        said = f"there is no {key} here"
        words = dict.fromkeys(("errmsg", "msg", "message", "description", "error"), said)
        body = json.dumps({"errcode": 1, "code": 1, **words}).encode()
        answered = answer_to(Fault.status(200, body), case, service)

    assert isinstance(answered, RefusedForGood)
    assert "there is no ••• here" in str(answered.problem)
