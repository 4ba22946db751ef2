"""Channels to group robots: DingTalk (钉钉自定义机器人), Feishu (飞书自定义机器人), WeCom
(企业微信群机器人).

References: https://open.dingtalk.com/document/robots/custom-robot-access,
https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot and
https://developer.work.weixin.qq.com/document/path/91770 (docs/facts/receivers.md §1.2 to §1.4). A
robot of DingTalk or Feishu demands one of three proofs: a signature (`secret`), a keyword in each
message, for example `certferry`, or the sender's address. WeCom's robot has the key in its URL.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from urllib.parse import quote

from certferry.adapters.http import posting as posts
from certferry.core.assessment.notices import Message
from certferry.core.redaction import Secret
from certferry.ports.adapter import CodeMeaning, Context
from certferry.ports.notifier import Answered, Notifier, Sent
from certferry.text import Text

DINGTALK_API = "https://oapi.dingtalk.com"
FEISHU_API = "https://open.feishu.cn"
WECOM_API = "https://qyapi.weixin.qq.com"
MOST_BYTES = 8000  # DingTalk and Feishu take requests of 20,000, escapes included
WECOM_BYTES = 2048  # WeCom's limit for a text, in UTF-8
BLOCKED = timedelta(minutes=10)

_COMPARE = Text("compare `url` with the robot's webhook")
_WAYS_IN = Text(
    "compare `secret` with the robot's, choose `certferry` as its keyword, or allow the address of"
    " this machine"
)
_FEISHU_HINTS = {
    9499: _COMPARE,
    19021: Text("compare `secret` with the robot's, and this machine's clock with the real time"),
    19022: Text("allow the address of this machine among the robot's"),
    19024: Text("choose `certferry` as the robot's keyword"),
}


@dataclass(frozen=True, slots=True)
class DingtalkSettings:
    """The settings of a DingTalk robot in one group."""

    url: Annotated[Secret, Text("the address of the robot's webhook")]
    secret: Annotated[Secret | None, Text("the secret that signs the robot's messages")] = None
    api: Annotated[str, posts.API_HELP] = DINGTALK_API


@dataclass(frozen=True, slots=True)
class FeishuSettings(DingtalkSettings):
    """The same settings, with Feishu's address."""

    api: Annotated[str, posts.API_HELP] = FEISHU_API


@dataclass(frozen=True, slots=True)
class WecomSettings:
    """The settings of a WeCom robot in one group."""

    url: Annotated[Secret, Text("the address of the robot's webhook, with its key")]
    api: Annotated[str, posts.API_HELP] = WECOM_API


def _judge_by(
    posting: posts.Posting,
    code: str,
    words: str,
    later: Mapping[int, timedelta],
    hints: Mapping[int, Text],
) -> posts.Judge:
    """Return a judge of answers by the number in the field `code`.

    0 is success. Numbers in `later` are tried again after the given time, with `hints` for the
    rest. The field `words` has the service's words.
    """

    def judge(reply: posts.PostReply) -> Answered:
        number, message = reply.number(code), reply.fields.get(words)
        if number == 0:
            return Sent()
        if number is not None and number in later:
            return posting.later(posting.in_its_words(number, message), usual=later[number])
        return posting.refused(number, message, hints.get(number or 0, _COMPARE))

    return judge


def dingtalk(settings: DingtalkSettings, context: Context, /) -> Notifier:
    """Connect a robot of DingTalk's (`ports.adapter.Adapter.connect`)."""
    address = posts.secret_address(settings.url, settings.api, DINGTALK_API)
    posting = posts.Posting("DingTalk", context, filter(None, (settings.url, settings.secret)))

    def fields(message: Message) -> dict[str, object]:
        return {"msgtype": "text", "text": {"content": message.text(MOST_BYTES)}}

    later = {-1: posts.SOON, 130101: BLOCKED}  # busy; more than 20 messages in a minute
    judge = _judge_by(posting, "errcode", "errmsg", later, {310000: _WAYS_IN})

    def signed() -> Secret:
        if settings.secret is None:
            return address
        stamp, key = str(int(posting.now().timestamp() * 1000)), settings.secret.reveal()
        digest = hmac.digest(key.encode(), f"{stamp}\n{key}".encode(), hashlib.sha256)
        proof = quote(base64.b64encode(digest).decode(), safe="")
        join = "&" if "?" in address.reveal() else "?"
        return Secret(f"{address.reveal()}{join}timestamp={stamp}&sign={proof}")

    return posts.PostedChannel(posting, signed, fields, judge)


def feishu(settings: FeishuSettings, context: Context, /) -> Notifier:
    """Connect a robot of Feishu's (`ports.adapter.Adapter.connect`)."""
    address = posts.secret_address(settings.url, settings.api, FEISHU_API)
    posting = posts.Posting("Feishu", context, filter(None, (settings.url, settings.secret)))

    def fields(message: Message) -> dict[str, object]:
        return {**proof(), "msg_type": "text", "content": {"text": message.text(MOST_BYTES)}}

    def proof() -> dict[str, object]:
        """Return the signature. Feishu takes the usual message as the key, and signs nothing."""
        if settings.secret is None:
            return {}
        stamp = str(int(posting.now().timestamp()))
        key = f"{stamp}\n{settings.secret.reveal()}".encode()
        digest = hmac.digest(key, b"", hashlib.sha256)
        return {"timestamp": stamp, "sign": base64.b64encode(digest).decode()}

    # Old robots also answer `StatusCode`, which adds nothing.
    later = {
        11232: posts.SOON
    }  # too many messages to all robots, usual at the full and the half hour
    judge = _judge_by(posting, "code", "msg", later, _FEISHU_HINTS)
    return posts.PostedChannel(posting, lambda: address, fields, judge)


def wecom(settings: WecomSettings, context: Context, /) -> Notifier:
    """Connect a robot of WeCom's (`ports.adapter.Adapter.connect`)."""
    address = posts.secret_address(settings.url, settings.api, WECOM_API)
    posting = posts.Posting("WeCom", context, [settings.url])

    def fields(message: Message) -> dict[str, object]:
        return {"msgtype": "text", "text": {"content": message.text(WECOM_BYTES)}}

    later = {-1: posts.SOON, 45009: posts.SOON}  # busy; more than 20 messages in a minute
    judge = _judge_by(posting, "errcode", "errmsg", later, {})
    return posts.PostedChannel(posting, lambda: address, fields, judge)


_FEISHU_CODES = {str(code): CodeMeaning(advice) for code, advice in _FEISHU_HINTS.items()}

DINGTALK = posts.PostedAdapter(
    "DingTalk",
    DingtalkSettings,
    dingtalk,
    {"310000": CodeMeaning(_WAYS_IN)},
    CALLED=Text("DingTalk"),
    RANK=10,
    ONLY_SENDS=True,
)
FEISHU = posts.PostedAdapter(
    "Feishu",
    FeishuSettings,
    feishu,
    _FEISHU_CODES,
    CALLED=Text("Feishu"),
    RANK=20,
    ONLY_SENDS=True,
)
WECOM = posts.PostedAdapter(
    "WeCom", WecomSettings, wecom, CALLED=Text("WeCom"), RANK=30, ONLY_SENDS=True
)
