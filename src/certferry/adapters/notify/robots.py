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
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import quote

from certferry.adapters.http import posting as posts
from certferry.core.redaction import Secret
from certferry.text import Text

DINGTALK_API = "https://oapi.dingtalk.com"
FEISHU_API = "https://open.feishu.cn"
WECOM_API = "https://qyapi.weixin.qq.com"
MOST_BYTES = 8000  # DingTalk and Feishu take requests of 20,000, escapes included
WECOM_BYTES = 2048  # WeCom's limit for a text, in UTF-8
BLOCKED = timedelta(minutes=10)

_COMPARE = Text("compare `url` with the robot's webhook")
_WAYS_IN = Text(
    "compare `secret` with the robot's secret, set `certferry` as the robot's keyword, or add "
    "this host's address to the robot's allowed addresses"
)
_COMPARE_SECRET = Text("compare `secret` with the robot's secret (加签)")
_SET_KEYWORD = Text("set `certferry` as the robot's keyword")
_ALLOW_HOST = Text("add this host's address to the robot's allowed addresses")
_SOON = posts.after(posts.SOON)


@dataclass(frozen=True, slots=True)
class DingtalkSettings:
    """The settings of a DingTalk robot in one group."""

    url: Annotated[Secret, Text("the robot's webhook address")]
    secret: Annotated[Secret | None, Text("the secret for signing the robot's messages")] = None
    api: Annotated[str, posts.API_HELP] = DINGTALK_API


@dataclass(frozen=True, slots=True)
class FeishuSettings(DingtalkSettings):
    """The settings of a Feishu robot: the same as for DingTalk, with Feishu's address."""

    api: Annotated[str, posts.API_HELP] = FEISHU_API


@dataclass(frozen=True, slots=True)
class WecomSettings:
    """The settings of a WeCom robot in one group."""

    url: Annotated[Secret, Text("the robot's webhook address, with its key")]
    api: Annotated[str, posts.API_HELP] = WECOM_API


def _dingtalk_address(settings: DingtalkSettings, now: datetime) -> Secret:
    address = posts.secret_address(settings.url, settings.api, DINGTALK_API)
    if settings.secret is None:
        return address
    stamp, key = str(int(now.timestamp() * 1000)), settings.secret.reveal()
    digest = hmac.digest(key.encode(), f"{stamp}\n{key}".encode(), hashlib.sha256)
    proof = quote(base64.b64encode(digest).decode(), safe="")
    join = "&" if "?" in address.reveal() else "?"
    return Secret(f"{address.reveal()}{join}timestamp={stamp}&sign={proof}")


def _feishu_proof(secret: Secret | None, now: datetime) -> dict[str, object]:
    """Return the fields that prove the sender: the time, and the HMAC of an empty message with time
    and secret as the key. Without a secret, return no fields.
    """
    if secret is None:
        return {}
    stamp = str(int(now.timestamp()))
    digest = hmac.digest(f"{stamp}\n{secret.reveal()}".encode(), b"", hashlib.sha256)
    return {"timestamp": stamp, "sign": base64.b64encode(digest).decode()}


DINGTALK = posts.PostedService(
    "DingTalk",
    DingtalkSettings,
    _dingtalk_address,
    lambda _, message, __: {"msgtype": "text", "text": {"content": message.text(MOST_BYTES)}},
    success=("errcode", 0),
    code_field="errcode",
    words=("errmsg",),
    waits={-1: _SOON, 130101: posts.after(BLOCKED)},  # busy; more than 20 messages in a minute
    hints={310000: _WAYS_IN},
    hints_by_words={
        "sign not match": _COMPARE_SECRET,
        "keywords not in content": _SET_KEYWORD,
    },
    hint=_COMPARE,
    CALLED=Text("DingTalk"),
    RANK=10,
    ONLY_SENDS=True,
)
FEISHU = posts.PostedService(
    "Feishu",
    FeishuSettings,
    lambda settings, _: posts.secret_address(settings.url, settings.api, FEISHU_API),
    lambda settings, message, now: {
        **_feishu_proof(settings.secret, now),
        "msg_type": "text",
        "content": {"text": message.text(MOST_BYTES)},
    },
    success=("code", 0),  # old robots also answer `StatusCode`, which adds nothing
    code_field="code",
    words=("msg",),
    waits={11232: _SOON},  # too many messages to all robots, usual at the full and the half hour
    hints={
        9499: _COMPARE,
        19021: Text(
            "compare `secret` with the robot's secret, and this host's clock with the true time"
        ),
        19022: _ALLOW_HOST,
        19024: _SET_KEYWORD,
    },
    hint=_COMPARE,
    CALLED=Text("Feishu"),
    RANK=20,
    ONLY_SENDS=True,
)
WECOM = posts.PostedService(
    "WeCom",
    WecomSettings,
    lambda settings, _: posts.secret_address(settings.url, settings.api, WECOM_API),
    lambda _, message, __: {"msgtype": "text", "text": {"content": message.text(WECOM_BYTES)}},
    success=("errcode", 0),
    code_field="errcode",
    words=("errmsg",),
    waits={-1: _SOON, 45009: _SOON},  # busy; more than 20 messages in a minute
    hint=_COMPARE,
    CALLED=Text("WeCom"),
    RANK=30,
    ONLY_SENDS=True,
)
