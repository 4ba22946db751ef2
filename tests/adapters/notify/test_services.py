"""Requests of each channel, and the answers of the services."""

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

# --- Answers of each service beside success and failure


OF_THE_LIBRARY = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""Apprise warns when its plugins are imported."""

CASE_BY_KIND = {case.kind: case for case in reversed(CASES)}


def again_at(answer: Answered) -> datetime:
    assert isinstance(answer, AgainAt), answer
    return answer.moment


def test_dingtalk_blocks_a_robot_for_ten_minutes() -> None:
    """DingTalk blocks after twenty messages in a minute (130101)."""
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
def test_a_robot_with_a_keyword(service_class: type[DingtalkService | FeishuService]) -> None:
    """Every message contains `certferry`, so no secret is needed; another keyword is refused."""
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
def test_a_clock_hours_behind(kind: str) -> None:
    """The signature contains a date, so the refusal is final, and the hint names the cause."""
    case = CASE_BY_KIND[kind]
    with case.service() as service:
        wrong = Clock(datetime.now(UTC) - timedelta(hours=3))
        answer = connect(kind, context(wrong), **case.settings(service)).send(message())

    assert isinstance(answer, RefusedForGood)
    assert "secret" in str(answer.hint)


@pytest.mark.parametrize("minute", [0, 30])
def test_feishu_at_the_full_and_half_hour(minute: int) -> None:
    """Feishu refuses every robot (11232), and accepts the message a minute later."""
    clock = Clock(QUIET.replace(minute=minute, second=1))
    with FeishuService(clock=clock) as service:
        robot = connect("feishu", context(clock), **CASE_BY_KIND["feishu"].settings(service))
        crowded = robot.send(message())
        clock.now = again_at(crowded)
        later = robot.send(message())

    assert Sent() == later
    assert clock.now - QUIET.replace(minute=minute) <= timedelta(minutes=2)


def test_signatures_equal_those_of_openssl() -> None:
    """`openssl dgst -sha256` gives the same signatures for this moment."""
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


def test_wecom_accepts_twenty_messages_a_minute() -> None:
    """A further message is sent later (45009)."""
    clock = Clock()
    with WecomService(clock=clock) as service:
        robot = connect("wecom", context(clock), **CASE_BY_KIND["wecom"].settings(service))
        answers = [robot.send(message()) for _ in range(20)]
        many = robot.send(message())
        clock.now = again_at(many)
        later = robot.send(message())

    assert [Sent()] * 20 == answers
    assert Sent() == later


def test_serverchan_after_the_daily_limit() -> None:
    """The next message waits for the next day in China."""
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
    """The next message waits for the next day in China: each attempt prolongs the block."""
    clock = Clock()
    with PushplusService(clock=clock) as service:
        service.a_day = 1
        channel = connect("pushplus", context(clock), **CASE_BY_KIND["pushplus"].settings(service))
        answers = [channel.send(message()) for _ in range(2)]

    assert Sent() == answers[0]
    assert datetime(2026, 11, 26, 16, tzinfo=UTC) == again_at(answers[1])
    assert 0 == service.tries_after_900


def test_pushplus_requires_a_real_name() -> None:
    """Only the operator can register the name."""
    with PushplusService() as service:
        service.is_verified = False
        settings: dict[str, Any] = {"api": service.url, "key": Secret(pushplus.TOKEN)}
        answer = connect("pushplus", **settings).send(message())

    assert isinstance(answer, RefusedForGood)
    assert "real name" in str(answer.hint)


def test_telegram_gives_the_time_of_the_next_message() -> None:
    """`retry_after` is a number of seconds."""
    clock = Clock()
    with TelegramService(clock=clock) as service:
        bot = connect("telegram", context(clock), **CASE_BY_KIND["telegram"].settings(service))
        answers = [bot.send(message()) for _ in range(21)]

    assert QUIET + timedelta(seconds=telegram.RETRY_AFTER) == again_at(answers[-1])


def test_telegram_chat_without_the_bot() -> None:
    """The hint names the setting."""
    with TelegramService() as service:
        settings: dict[str, Any] = {
            "api": service.url,
            "key": Secret(telegram.TOKEN),
            "chat": "@other",
        }
        answer = connect("telegram", **settings).send(message())

    assert isinstance(answer, RefusedForGood)
    assert "`chat`" in str(answer.hint)


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
def test_an_unusable_address(kind: str, url: str, problem: str) -> None:
    """The error hides the address."""
    with pytest.raises(ConfigError) as refused:
        connect(kind, url=Secret(url))

    assert problem in str(refused.value)
    assert "hooks" not in str(refused.value)


def test_a_robot_at_a_mirror() -> None:
    """`api` replaces the service's own host; path and key stay the same."""
    with WecomService() as service:
        address = service.address.replace(service.url, "https://qyapi.weixin.qq.com")
        answer = connect("wecom", url=Secret(address), api=f"{service.url}/").send(message())

    assert Sent() == answer


@OF_THE_LIBRARY
def test_apprise_with_an_unknown_service() -> None:
    """The error hides the address."""
    answer = connect("apprise", url=Secret("nosuch://sekrit-sekrit")).send(message())

    assert isinstance(answer, RefusedForGood)
    assert "sekrit" not in str(answer.problem)


def test_apprise_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the requirements file."""
    monkeypatch.setitem(sys.modules, "apprise", None)

    with pytest.raises(ConfigError) as missing:
        connect("apprise", url=Secret("json://127.0.0.1/")).send(message())

    assert "requirements/apprise.txt" in str(missing.value)


# --- Unexpected and missing answers


SHORT = timedelta(seconds=0.3)
MEGABYTES = b'{"ok": true, "code": 0, "errcode": 0, "more": "' + b"x" * 4_000_000 + b'"}'


def short_context() -> Context:
    """Return a run's context with short timeouts."""

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
    answer = connect(case.kind, short_context(), **case.settings(service)).send(message())
    assert set() == shown(answer, (*case.secrets, "127.0.0.1", "elsewhere.example"))
    assert 1 == len(service.journal)  # sent once, whatever the answer
    return answer


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
def test_temporary_failure(case: Case, fault: Fault) -> None:
    """The message may be sent again, and the wait is limited."""
    with case.service() as service:
        started = time.monotonic()
        answer = answer_to(fault, case, service)

    assert time.monotonic() - started < 3
    assert isinstance(answer, AgainAt)
    assert datetime.now(UTC) < answer.moment < datetime.now(UTC) + timedelta(minutes=3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
@pytest.mark.parametrize("fault", FOR_GOOD.values(), ids=list(FOR_GOOD))
def test_failure_for_the_operator(case: Case, fault: Fault) -> None:
    """The client ignores a redirect, and a body of plain words is a refusal."""
    with case.service() as service:
        assert isinstance(answer_to(fault, case, service), RefusedForGood)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
@pytest.mark.parametrize("body", [b"", b"ok", b"[]", b'"ok"', b"{}", b"null", b"[" * 9000])
def test_200_without_a_confirmation(case: Case, body: bytes) -> None:
    """The body decides. The operator's own webhook confirms with any body that is not a refusal."""
    with case.service() as service:
        answer = answer_to(Fault.status(200, body), case, service)

    assert isinstance(answer, Sent if case.kind == "webhook" else RefusedForGood)
    assert isinstance(answer, Sent) or "None" not in str(answer.problem)


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        (b'{"ok": false, "error": "no such key"}', False),
        (b'{"success": false}', False),
        (b'{"error": {"code": 7}}', False),
        (b'{"ok": true, "error": null}', True),
        (b'{"id": 7}', True),
    ],
)
def test_webhook_that_refuses_with_200(body: bytes, *, accepted: bool) -> None:
    """Many services report a refusal in a body with status 200."""
    with EventReceiver() as service:
        service.faults.add(Fault.status(200, body))
        settings: dict[str, Any] = {"url": Secret(service.address), "secret": Secret(SECRET)}
        answer = connect("webhook", **settings).send(message())

    assert isinstance(answer, Sent if accepted else RefusedForGood)


def test_webhook_with_a_rate_limit() -> None:
    """Retry-After gives the time of the next attempt."""
    with EventReceiver() as service:
        service.faults.add(Fault.too_many(90))
        answer = connect("webhook", url=Secret(service.address)).send(message())

    assert isinstance(answer, AgainAt)
    wait = answer.moment - datetime.now(UTC)
    assert timedelta(seconds=80) < wait <= timedelta(seconds=90)


def test_service_that_repeats_the_keys() -> None:
    """The error hides keys from the answer."""
    case = CASES[0]
    with case.service() as service:
        body = f'{{"errcode": 1, "errmsg": "no {case.secrets[0]} {case.secrets[1]}"}}'
        answer = answer_to(Fault.status(200, body.encode()), case, service)

    assert isinstance(answer, RefusedForGood)
    assert "•••" in str(answer.problem)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_service_that_quotes_the_bare_key(case: Case) -> None:
    """The key is hidden outside the address too, even in the form of a request's id."""
    key = case.secrets[0].rpartition("/")[2]
    with case.service() as service:
        quoted = f"there is no {key} here"
        words = dict.fromkeys(("errmsg", "msg", "message", "description", "error"), quoted)
        body = json.dumps({"errcode": 1, "code": 1, **words}).encode()
        answer = answer_to(Fault.status(200, body), case, service)

    assert isinstance(answer, RefusedForGood)
    assert "there is no ••• here" in str(answer.problem)
