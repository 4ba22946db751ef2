"""Robots in groups: of DingTalk (钉钉自定义机器人), Feishu (飞书自定义机器人) and WeCom
(企业微信群机器人).

References: https://open.dingtalk.com/document/robots/custom-robot-access,
https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot and
https://developer.work.weixin.qq.com/document/path/91770 (docs/facts/receivers.md §1.2 to §1.4). A
robot of the first two asks for one of three proofs: a signature (`secret`), a word in each message,
for which `certferry` may be chosen, or the sender's addresses. WeCom's has the key in its address.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from urllib.parse import quote

from certferry.adapters.http.posting import (
    API_HELP,
    PostedAdapter,
    PostedChannel,
    Posting,
    PostReply,
    secret_address,
)
from certferry.core.assessment.notices import Message
from certferry.core.secret import Secret
from certferry.ports.adapter import CodeMeaning, Context
from certferry.ports.notifier import Answered, Notifier, Sent
from certferry.text import Text

DINGTALK_API = "https://oapi.dingtalk.com"
FEISHU_API = "https://open.feishu.cn"
WECOM_API = "https://qyapi.weixin.qq.com"
MOST_BYTES = 8000  # a request to the first two may have 20,000, escapes included
WECOM_BYTES = 2048  # of a text, in UTF-8
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
    """A robot of one group."""

    url: Annotated[Secret, Text("the address of the robot's webhook")]
    secret: Annotated[Secret | None, Text("the secret that signs the robot's messages")] = None
    api: Annotated[str, API_HELP] = DINGTALK_API


@dataclass(frozen=True, slots=True)
class FeishuSettings:
    """A robot of one group."""

    url: Annotated[Secret, Text("the address of the robot's webhook")]
    secret: Annotated[Secret | None, Text("the secret that signs the robot's messages")] = None
    api: Annotated[str, API_HELP] = FEISHU_API


@dataclass(frozen=True, slots=True)
class WecomSettings:
    """A robot of one group."""

    url: Annotated[Secret, Text("the address of the robot's webhook, with its key")]
    api: Annotated[str, API_HELP] = WECOM_API


def dingtalk(settings: DingtalkSettings, context: Context, /) -> Notifier:
    """Connect a robot of DingTalk's (`ports.adapter.Adapter.connect`)."""
    address = secret_address(settings.url, settings.api, DINGTALK_API)
    posting = Posting("DingTalk", context, filter(None, (settings.url, settings.secret)))

    def fields(message: Message) -> dict[str, object]:
        return {"msgtype": "text", "text": {"content": message.text(MOST_BYTES)}}

    def judge(reply: PostReply) -> Answered:
        code, said = reply.number("errcode"), reply.fields.get("errmsg")
        match code:
            case 0:
                return Sent()
            case -1:  # the system is busy
                return posting.later(posting.in_its_words(code, said))
            case 130101:  # more than 20 messages in a minute
                return posting.later(posting.in_its_words(code, said), usual=BLOCKED)
            case 310000:
                return posting.refused(code, said, _WAYS_IN)
        return posting.refused(code, said, _COMPARE)

    def signed() -> Secret:
        if settings.secret is None:
            return address
        stamp, key = str(int(posting.now().timestamp() * 1000)), settings.secret.reveal()
        digest = hmac.digest(key.encode(), f"{stamp}\n{key}".encode(), hashlib.sha256)
        proof = quote(base64.b64encode(digest).decode(), safe="")
        join = "&" if "?" in address.reveal() else "?"
        return Secret(f"{address.reveal()}{join}timestamp={stamp}&sign={proof}")

    return PostedChannel(posting, signed, fields, judge)


def feishu(settings: FeishuSettings, context: Context, /) -> Notifier:
    """Connect a robot of Feishu's (`ports.adapter.Adapter.connect`)."""
    address = secret_address(settings.url, settings.api, FEISHU_API)
    posting = Posting("Feishu", context, filter(None, (settings.url, settings.secret)))

    def fields(message: Message) -> dict[str, object]:
        return {**proof(), "msg_type": "text", "content": {"text": message.text(MOST_BYTES)}}

    def proof() -> dict[str, object]:
        """Sign: what is usually the message is the key here, and the message is empty."""
        if settings.secret is None:
            return {}
        stamp = str(int(posting.now().timestamp()))
        key = f"{stamp}\n{settings.secret.reveal()}".encode()
        digest = hmac.digest(key, b"", hashlib.sha256)
        return {"timestamp": stamp, "sign": base64.b64encode(digest).decode()}

    def judge(reply: PostReply) -> Answered:
        # `StatusCode`, which old robots answer, says nothing of its own.
        code, said = reply.number("code"), reply.fields.get("msg")
        match code:
            case 0:
                return Sent()
            case 11232:  # too many messages of all robots, at the full and the half hour
                return posting.later(posting.in_its_words(code, said))
        return posting.refused(code, said, _FEISHU_HINTS.get(code or 0, _COMPARE))

    return PostedChannel(posting, lambda: address, fields, judge)


def wecom(settings: WecomSettings, context: Context, /) -> Notifier:
    """Connect a robot of WeCom's (`ports.adapter.Adapter.connect`)."""
    address = secret_address(settings.url, settings.api, WECOM_API)
    posting = Posting("WeCom", context, [settings.url])

    def fields(message: Message) -> dict[str, object]:
        return {"msgtype": "text", "text": {"content": message.text(WECOM_BYTES)}}

    def judge(reply: PostReply) -> Answered:
        code, said = reply.number("errcode"), reply.fields.get("errmsg")
        match code:
            case 0:
                return Sent()
            case -1 | 45009:  # busy; more than 20 messages in a minute
                return posting.later(posting.in_its_words(code, said))
        return posting.refused(code, said, _COMPARE)

    return PostedChannel(posting, lambda: address, fields, judge)


_FEISHU_CODES = {str(code): CodeMeaning(advice) for code, advice in _FEISHU_HINTS.items()}

DINGTALK = PostedAdapter("DingTalk", DingtalkSettings, dingtalk, {"310000": CodeMeaning(_WAYS_IN)})
FEISHU = PostedAdapter("Feishu", FeishuSettings, feishu, _FEISHU_CODES)
WECOM = PostedAdapter("WeCom", WecomSettings, wecom)
