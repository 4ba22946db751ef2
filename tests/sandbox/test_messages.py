"""The stand-ins for messages and heartbeats refuse the same requests as the real services."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import smtplib
import ssl
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from certferry_sandbox.heartbeat import CHECK, HeartbeatService
from certferry_sandbox.messages import dingtalk, feishu, telegram
from certferry_sandbox.messages.bark import KEY, BarkService
from certferry_sandbox.messages.dingtalk import DingtalkService
from certferry_sandbox.messages.feishu import FeishuService
from certferry_sandbox.messages.mail_server import PASSWORD, USER, MailServer
from certferry_sandbox.messages.pushplus import TOKEN, PushplusService
from certferry_sandbox.messages.serverchan import ServerchanService
from certferry_sandbox.messages.telegram import TelegramService
from certferry_sandbox.messages.wecom import WecomService
from tests.adapters.notify.channels import Clock

# --- Stand-ins of services for messages


JSON = "application/json"
TEXT = {"msgtype": "text", "text": {"content": "certferry"}}


def answer(url: str, fields: object, kind: str = JSON, method: str = "POST") -> dict[str, Any]:
    """Post to a service, and return its answer for any status."""
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    request = urllib.request.Request(url, body, {"Content-Type": kind}, method=method)  # noqa: S310 - a stand-in's
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - the stand-in's
            document: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as refused:
        with refused:
            document = json.load(refused)
    return document


def dingtalk_proof(stamp: int) -> str:
    """Return the signature, not encoded for a query."""
    signed_text = f"{stamp}\n{dingtalk.SECRET}".encode()
    return base64.b64encode(
        hmac.digest(dingtalk.SECRET.encode(), signed_text, hashlib.sha256)
    ).decode()


@pytest.mark.parametrize(
    ("per_second", "encode", "taken"),
    [
        (1000, lambda proof: quote(proof, safe=""), True),
        (1, lambda proof: quote(proof, safe=""), False),
        (1000, lambda proof: quote(quote(proof, safe=""), safe=""), False),
        (1000, lambda proof: quote(proof[::-1], safe=""), False),
    ],
    ids=["as documented", "seconds", "encoded twice", "another"],
)
def test_dingtalk_checks_the_proof(per_second: int, encode: Any, *, taken: bool) -> None:
    """The timestamp is in milliseconds, and the proof is encoded once."""
    stamp = int(time.time() * per_second)
    with DingtalkService() as service:
        url = f"{service.address}&timestamp={stamp}&sign={encode(dingtalk_proof(stamp))}"
        document = answer(url, TEXT)

    assert (0 if taken else 310000) == document["errcode"]
    assert taken == bool(service.taken)


def test_dingtalk_takes_documented_messages() -> None:
    """The robot must exist, the body must be JSON with a known kind of message; markdown is one."""
    long = {"msgtype": "text", "text": {"content": "x" * 30_000}}
    markdown = {"msgtype": "markdown", "markdown": {"text": "certferry"}}
    with DingtalkService(keyword="certferry", clock=Clock()) as service:
        codes = [
            answer(service.address.replace("=2f", "=00"), TEXT)["errcode"],
            answer(service.address, TEXT, "text/plain")["errcode"],
            answer(service.address, {"msgtype": "poem"})["errcode"],
            answer(service.address, {"msgtype": "text", "text": {}})["errcode"],
            answer(service.address, long)["errcode"],
            answer(service.address, markdown)["errcode"],
        ]

    assert [300005, 43004, 400105, 40035, 460101, 0] == codes


def test_feishu_checks_the_proof() -> None:
    """The timestamp is in seconds; the key takes the usual place of the message."""
    stamp = str(int(time.time()))
    key = f"{stamp}\n{feishu.SECRET}".encode()
    right = base64.b64encode(hmac.digest(key, b"", hashlib.sha256)).decode()
    swapped = base64.b64encode(hmac.digest(feishu.SECRET.encode(), key, hashlib.sha256)).decode()
    fields = {"msg_type": "text", "content": {"text": "certferry"}}
    quiet = datetime.fromtimestamp(int(stamp), UTC).replace(second=30)
    with FeishuService(clock=Clock(quiet)) as service:
        codes = [
            answer(service.address, fields)["code"],
            answer(service.address, {**fields, "timestamp": stamp, "sign": swapped})["code"],
            answer(service.address, {**fields, "timestamp": f"{stamp}000", "sign": right})["code"],
            answer(service.address, {**fields, "timestamp": stamp, "sign": right})["code"],
            answer(f"{service.address}x", fields)["code"],
            answer(service.address, {**fields, "msg_type": "poem"})["code"],
            answer(service.address, {**fields, "content": {"text": "x" * 21_000}})["code"],
        ]

    assert [19021, 19021, 19021, 0, 19001, 9499, 9499] == codes


@pytest.mark.parametrize(("kind", "most"), [("text", 2048), ("markdown", 4096)])
def test_wecom_counts_bytes(kind: str, most: int) -> None:
    """A Chinese character has three bytes."""
    with WecomService() as service:
        fits = {"msgtype": kind, kind: {"content": "证" * (most // 3)}}
        longer = {"msgtype": kind, kind: {"content": "证" * (most // 3 + 1)}}
        other = {"msgtype": "x"}
        codes = [answer(service.address, fields)["errcode"] for fields in (fits, longer, other)]

    assert [0, 40058, 40008] == codes


def test_body_without_a_json_object() -> None:
    """All services refuse the body."""
    with BarkService() as bark, PushplusService() as pushplus, TelegramService() as bot:
        places = (f"{bark.url}/push", f"{pushplus.url}/send")
        codes = [
            answer(url, body, kind)["code"]
            for url in places
            for body, kind in ((b"{", JSON), (b"[]", JSON), (b"{}", "text/plain"), (b"\xff", JSON))
        ]
        method = answer(f"{bot.url}/bot{telegram.TOKEN}/sendPoem", {})["error_code"]

    assert [400] * 4 + [999] * 4 == codes
    assert 404 == method
    assert [] == [*bark.taken, *pushplus.taken]


def test_bark_takes_no_words_in_an_address() -> None:
    """Words in an address would be logged."""
    with BarkService() as service:
        document = answer(f"{service.url}/{KEY}/title/body", b"", method="GET")
        long = answer(f"{service.url}/push", {"device_key": KEY, "title": "t", "body": "x" * 5000})

    assert 404 == document["code"]
    assert 413 == long["code"]
    assert [] == service.taken


def test_limits_of_titles_and_templates() -> None:
    """ServerChan's title, PushPlus's template and the tries after 900."""
    with ServerchanService() as chan, PushplusService() as plus:
        from_chan = answer(
            f"{chan.url}/SCT284TvXQ7bYk3mN9pLz2RwHs6JdFc.send", {"title": "x" * 33, "desp": "y"}
        )
        fields = {"token": TOKEN, "title": "t", "content": "c", "template": "txt"}
        html = answer(f"{plus.url}/send", {**fields, "template": "html"})
        plus.a_day = 1
        codes = [answer(f"{plus.url}/send", fields)["code"] for _ in range(3)]

    assert 40002 == from_chan["code"]
    assert 999 == html["code"]
    assert [200, 900, 900] == codes
    assert 1 == plus.tries_after_900


def test_order_of_mail_commands() -> None:
    """TLS comes first, then login, sender and recipient; bare line ends of Unix are refused."""
    with MailServer("starttls") as server:
        port = int(server.url.rpartition(":")[2])
        with smtplib.SMTP("127.0.0.1", port, "localhost", timeout=5) as client:
            client.ehlo()
            assert not client.has_extn("auth")
            assert 530 == client.mail(USER)[0]
            client.starttls(context=_trusting(server))
            assert 503 == client.mail(USER)[0]
            client.ehlo()
            assert 530 == client.mail(USER)[0]
            client.login(USER, PASSWORD)
            assert 503 == client.docmd("DATA")[0]
            client.mail(USER)
            assert 503 == client.docmd("DATA")[0]
            client.rcpt("night@example.com")
            assert 550 == client.data(b"Subject: x\n\nbare\n")[0]

    assert [] == server.mails


def _trusting(server: MailServer) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=server.authority.root_pem)
    context.check_hostname = False
    return context


# --- The stand-in for heartbeats


RID = str(uuid.uuid4())


@pytest.fixture
def service() -> Iterator[HeartbeatService]:
    """Run a service that stores eight bytes of each text."""
    with HeartbeatService(limit=8) as running:
        yield running


def ping(url: str, text: bytes | None = b"", method: str = "POST") -> tuple[int, str, str | None]:
    """Send a ping; return the status, the body, and the limit in its headers."""
    request = urllib.request.Request(url, data=text, method=method)  # noqa: S310 - a stand-in's
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - the stand-in's
            return answer.status, answer.read().decode(), answer.headers["Ping-Body-Limit"]
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode(), None


def test_each_kind_of_ping_is_counted(service: HeartbeatService) -> None:
    """Each ping has its run and its stored text; a longer text is an error."""
    for suffix in ("/start", "", "/fail", "/75"):
        assert (200, "OK", "8") == ping(f"{service.address}{suffix}?rid={RID}", b"12345678")
    assert (200, "OK", "8") == ping(f"{service.address}", None, "GET")

    assert ["start", "success", "fail", "75", "success"] == [p.kind for p in service.pings]
    assert {RID, ""} == {p.rid for p in service.pings}
    assert [] == service.mistakes


def test_more_than_five_a_minute_are_not_counted(service: HeartbeatService) -> None:
    """The answer has a remark, with status 200."""
    answers = [ping(service.address)[1] for _ in range(6)]

    assert [*["OK"] * 5, "OK (rate limited)"] == answers
    assert 5 == len(service.pings)


def test_malformed_ping_is_refused(service: HeartbeatService) -> None:
    """Another address, run, status or method is refused; an unknown check gets 200."""
    unknown = service.address.replace(CHECK, str(uuid.uuid4()))

    assert (200, "OK (not found)", "8") == ping(unknown)
    assert 404 == ping(f"{service.address}/stop")[0]
    assert 404 == ping(f"{service.address}/256")[0]
    assert 404 == ping(f"{service.url}/no-uuid")[0]
    assert 400 == ping(f"{service.address}?rid=1")[0]
    assert 405 == ping(service.address, b"", "DELETE")[0]
    assert [] == service.pings
    assert 5 == len(service.mistakes)


def test_text_that_is_too_long_is_a_mistake(service: HeartbeatService) -> None:
    """The limit is in every answer."""
    assert (200, "OK", "8") == ping(service.address, b"123456789")

    assert ["12345678"] == [ping.said for ping in service.pings]
    assert 1 == len(service.mistakes)
