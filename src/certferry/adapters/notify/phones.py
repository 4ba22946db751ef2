"""Channels to phones: Bark, PushPlus (推送加), ServerChan (Server酱), Telegram.

References: https://bark.day.app, https://www.pushplus.plus/doc, https://sct.ftqq.com and
https://doc.sc3.ft07.com (ServerChan's two generations, which the key distinguishes), and
https://core.telegram.org/bots/api#sendmessage (docs/facts/receivers.md §1.5 to §1.8). In mainland
China, Telegram needs a proxy (HTTPS_PROXY).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from certferry.adapters.http import posting as posts
from certferry.core.assessment.notices import shortened
from certferry.core.redaction import Secret
from certferry.text import Text

MOST_BYTES = 8000
BARK_BYTES = 2000  # Apple's limit is 4 KB for the whole push, escapes included
BARK_TITLE, PUSHPLUS_TITLE = 200, 100
SERVERCHAN_API = "https://sctapi.ftqq.com"
SERVERCHAN_TITLE = 32  # characters; used as a limit in bytes, so always within
TELEGRAM_BYTES = 4096  # Telegram counts characters, and each has a byte or more

_THIRD = re.compile(r"sctp(\d+)t")
_LONGEST_WAIT = 86_400  # seconds
_TELEGRAM_KEY = Text("compare `key` with the token from BotFather")


@dataclass(frozen=True, slots=True)
class BarkSettings:
    """The settings of Bark, for one phone."""

    key: Annotated[Secret, Text("the key of the device, shown in the app")]
    api: Annotated[str, Text("the address of the server, if you run your own")] = (
        "https://api.day.app"
    )


@dataclass(frozen=True, slots=True)
class PushplusSettings:
    """The settings of PushPlus, for one person or group."""

    key: Annotated[Secret, Text("the token")]
    api: Annotated[str, posts.API_HELP] = "https://www.pushplus.plus"


@dataclass(frozen=True, slots=True)
class ServerchanSettings:
    """The settings of ServerChan, for one person."""

    key: Annotated[Secret, Text("the SendKey (begins with SCT or sctp)")]
    api: Annotated[str, posts.API_HELP] = SERVERCHAN_API


@dataclass(frozen=True, slots=True)
class TelegramSettings:
    """The settings of Telegram: a bot, and the chat for messages."""

    key: Annotated[Secret, Text("the token of the bot")]
    chat: Annotated[str, Text("the ID of the chat, or @name of a channel")]
    api: Annotated[str, posts.API_HELP] = "https://api.telegram.org"


def _serverchan_address(settings: ServerchanSettings, _: datetime) -> Secret:
    key, api, way = settings.key.reveal(), settings.api.rstrip("/"), ""
    if (number := _THIRD.match(key)) is not None:
        own = f"https://{number[1]}.push.ft07.com"
        api, way = own if settings.api == SERVERCHAN_API else api, "/send"
    return Secret(f"{api}{way}/{quote(key, safe='')}.send")


def _telegram_address(settings: TelegramSettings, _: datetime) -> Secret:
    token = quote(settings.key.reveal(), safe=":")
    return Secret(f"{settings.api.rstrip('/')}/bot{token}/sendMessage")


def _asked_for(reply: Mapping[str, Any], now: datetime) -> datetime:
    """Return the moment from which Telegram accepts messages again; a minute from now if the reply
    has no usable moment.
    """
    parameters = reply.get("parameters")
    seconds = parameters.get("retry_after") if isinstance(parameters, dict) else None
    if not isinstance(seconds, int) or not 0 < seconds <= _LONGEST_WAIT:
        return now + posts.SOON
    return now + timedelta(seconds=seconds)


BARK = posts.PostedService(
    "Bark",
    BarkSettings,
    # POST, because GET would show the words in URLs and logs.
    lambda settings, _: Secret(f"{settings.api.rstrip('/')}/push"),
    lambda settings, message, _: {
        "device_key": settings.key.reveal(),
        "title": shortened(message.title, BARK_TITLE),
        "body": message.body(BARK_BYTES),
        "group": "certferry",
    },
    success=("code", 200),  # Bark's own code, with HTTP's number
    code_field="code",
    words=("message",),
    hint=Text("compare `key` with the key shown in the app"),
    RANK=80,
    ONLY_SENDS=True,
)
PUSHPLUS = posts.PostedService(
    "PushPlus",
    PushplusSettings,
    lambda settings, _: Secret(f"{settings.api.rstrip('/')}/send"),
    lambda settings, message, _: {
        "token": settings.key.reveal(),
        "title": shortened(message.title, PUSHPLUS_TITLE),
        "content": message.text(MOST_BYTES),
        "template": "txt",
    },
    success=("code", 200),
    code_field="code",
    words=("msg",),
    waits={900: posts.next_day},  # blocked until the next day; a retry makes the ban longer
    hints={
        903: Text("compare `key` with the token at pushplus.plus"),
        905: Text("have the account's real name verified at pushplus.plus"),
    },
    RANK=50,
    ONLY_SENDS=True,
)
SERVERCHAN = posts.PostedService(
    "ServerChan",
    ServerchanSettings,
    _serverchan_address,
    lambda _, message, __: {
        "title": shortened(message.title, SERVERCHAN_TITLE),
        "desp": message.text(MOST_BYTES),  # includes the whole title
    },
    success=("code", 0),
    code_field="code",
    words=("message", "error"),
    spent="次数",  # the code is undocumented
    hint=Text("compare `key` with the SendKey"),
    CALLED=Text("ServerChan"),
    RANK=40,
    ONLY_SENDS=True,
)
TELEGRAM = posts.PostedService(
    "Telegram",
    TelegramSettings,
    _telegram_address,
    lambda settings, message, _: {"chat_id": settings.chat, "text": message.text(TELEGRAM_BYTES)},
    success=("ok", True),
    code_field="error_code",
    words=("description",),
    waits={HTTPStatus.TOO_MANY_REQUESTS: _asked_for},
    hints={
        HTTPStatus.BAD_REQUEST: Text(
            "compare `chat` with the chat's ID, and add the bot to the chat"
        ),
        HTTPStatus.UNAUTHORIZED: _TELEGRAM_KEY,
        HTTPStatus.FORBIDDEN: Text("add the bot to the chat, or send the bot a message first"),
        HTTPStatus.NOT_FOUND: _TELEGRAM_KEY,
    },
    RANK=70,
    ONLY_SENDS=True,
)
