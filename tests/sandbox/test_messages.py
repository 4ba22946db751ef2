"""The stand-ins of services that take messages and heartbeats refuse what the real ones refuse."""

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

# --- The stand-ins of services that take messages refuse what the real ones refuse


JSON = "application/json"
TEXT = {"msgtype": "text", "text": {"content": "certferry"}}


def answer(url: str, fields: object, kind: str = JSON, method: str = "POST") -> dict[str, Any]:
    """Ask a service, whatever its status is."""
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    request = urllib.request.Request(url, body, {"Content-Type": kind}, method=method)  # noqa: S310 - a stand-in's
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - the stand-in's
            found: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as refused:
        with refused:
            found = json.load(refused)
    return found


def dingtalk_proof(stamp: int) -> str:
    """Sign, not encoded for a query."""
    said = f"{stamp}\n{dingtalk.SECRET}".encode()
    return base64.b64encode(hmac.digest(dingtalk.SECRET.encode(), said, hashlib.sha256)).decode()


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
def test_dingtalk_looks_at_the_proof(per_second: int, encode: Any, *, taken: bool) -> None:
    """Milliseconds, encoded once."""
    stamp = int(time.time() * per_second)
    with DingtalkService() as service:
        url = f"{service.address}&timestamp={stamp}&sign={encode(dingtalk_proof(stamp))}"
        found = answer(url, TEXT)

    assert (0 if taken else 310000) == found["errcode"]
    assert taken == bool(service.taken)


def test_dingtalk_takes_what_is_documented() -> None:
    """A robot that is there, JSON, a kind of message that it knows; markdown too."""
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


def test_feishu_looks_at_the_proof() -> None:
    """Seconds; the key is what is usually the message."""
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
    """Chinese has three to a character."""
    with WecomService() as service:
        fits = {"msgtype": kind, kind: {"content": "证" * (most // 3)}}
        longer = {"msgtype": kind, kind: {"content": "证" * (most // 3 + 1)}}
        other = {"msgtype": "x"}
        codes = [answer(service.address, one)["errcode"] for one in (fits, longer, other)]

    assert [0, 40058, 40008] == codes


def test_what_is_no_json_object() -> None:
    """No service takes it."""
    with BarkService() as bark, PushplusService() as pushplus, TelegramService() as bot:
        places = (f"{bark.url}/push", f"{pushplus.url}/send")
        found = [
            answer(url, body, kind)["code"]
            for url in places
            for body, kind in ((b"{", JSON), (b"[]", JSON), (b"{}", "text/plain"), (b"\xff", JSON))
        ]
        method = answer(f"{bot.url}/bot{telegram.TOKEN}/sendPoem", {})["error_code"]

    assert [400] * 4 + [999] * 4 == found
    assert 404 == method
    assert [] == [*bark.taken, *pushplus.taken]


def test_bark_takes_no_words_in_an_address() -> None:
    """They would stand in logs."""
    with BarkService() as service:
        found = answer(f"{service.url}/{KEY}/title/body", b"", method="GET")
        long = answer(f"{service.url}/push", {"device_key": KEY, "title": "t", "body": "x" * 5000})

    assert 404 == found["code"]
    assert 413 == long["code"]
    assert [] == service.taken


def test_limits_of_titles_and_templates() -> None:
    """ServerChan's title, PushPlus's template and what follows 900."""
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


def test_a_mail_server_wants_its_order() -> None:
    """TLS, then a login, a sender, a recipient; it takes no line that ends as Unix ends them."""
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


# --- The stand-in that waits for heartbeats: it takes what the real one takes, and nothing else


RID = str(uuid.uuid4())


@pytest.fixture
def service() -> Iterator[HeartbeatService]:
    """A service that keeps eight bytes of what is said."""
    with HeartbeatService(limit=8) as running:
        yield running


def ping(url: str, said: bytes | None = b"", method: str = "POST") -> tuple[int, str, str | None]:
    """Send one ping; return the status, the body, and the limit in its headers."""
    request = urllib.request.Request(url, data=said, method=method)  # noqa: S310 - a stand-in's
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - the stand-in's
            return answer.status, answer.read().decode(), answer.headers["Ping-Body-Limit"]
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode(), None


def test_each_kind_of_ping_is_counted(service: HeartbeatService) -> None:
    """With its run, and its words as far as they are kept; too many words are a mistake."""
    for suffix in ("/start", "", "/fail", "/75"):
        assert (200, "OK", "8") == ping(f"{service.address}{suffix}?rid={RID}", b"12345678")
    assert (200, "OK", "8") == ping(f"{service.address}", None, "GET")

    assert ["start", "success", "fail", "75", "success"] == [p.kind for p in service.pings]
    assert {RID, ""} == {p.rid for p in service.pings}
    assert [] == service.mistakes


def test_more_than_five_a_minute_are_not_counted(service: HeartbeatService) -> None:
    """It says so, and answers 200 all the same."""
    answers = [ping(service.address)[1] for _ in range(6)]

    assert [*["OK"] * 5, "OK (rate limited)"] == answers
    assert 5 == len(service.pings)


def test_what_is_no_ping_is_refused(service: HeartbeatService) -> None:
    """Another address, run, status or method; a check that it does not know gets 200."""
    unknown = service.address.replace(CHECK, str(uuid.uuid4()))

    assert (200, "OK (not found)", "8") == ping(unknown)
    assert 404 == ping(f"{service.address}/stop")[0]
    assert 404 == ping(f"{service.address}/256")[0]
    assert 404 == ping(f"{service.url}/no-uuid")[0]
    assert 400 == ping(f"{service.address}?rid=1")[0]
    assert 405 == ping(service.address, b"", "DELETE")[0]
    assert [] == service.pings
    assert 5 == len(service.mistakes)


def test_words_that_are_too_long_are_a_mistake(service: HeartbeatService) -> None:
    """The limit stands in every answer."""
    assert (200, "OK", "8") == ping(service.address, b"123456789")

    assert ["12345678"] == [one.said for one in service.pings]
    assert 1 == len(service.mistakes)
