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
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from certferry.adapters.http import posting as posts
from certferry.core.assessment.notices import Message, shortened
from certferry.core.redaction import Secret
from certferry.ports.adapter import CodeMeaning, Context
from certferry.ports.notifier import AgainAt, Answered, Notifier, Sent
from certferry.text import Text

MOST_BYTES = 8000
BARK_BYTES = 2000  # Apple's limit is 4 KB for the whole push, escapes included
BARK_TITLE, PUSHPLUS_TITLE = 200, 100
SERVERCHAN_API = "https://sctapi.ftqq.com"
SERVERCHAN_TITLE = 32  # characters; used as a limit in bytes, so always within
TELEGRAM_BYTES = 4096  # Telegram counts characters, and each has a byte or more

_THIRD = re.compile(r"sctp(\d+)t")
_SPENT = "次数"
"""ServerChan's word once the day's messages are used up; the code is undocumented."""
_LONGEST_WAIT = 86_400  # seconds
_PUSHPLUS_HINTS: Mapping[int, Text] = {
    903: Text("compare `key` with the token at pushplus.plus"),
    905: Text("have the account's real name verified at pushplus.plus"),
}
_TELEGRAM_KEY = Text("compare `key` with the token that BotFather gave")
_TELEGRAM_HINTS: Mapping[int, Text] = {
    HTTPStatus.BAD_REQUEST: Text("compare `chat` with the chat's id, and let the bot join it"),
    HTTPStatus.UNAUTHORIZED: _TELEGRAM_KEY,
    HTTPStatus.FORBIDDEN: Text("let the bot join the chat, or write to it first"),
    HTTPStatus.NOT_FOUND: _TELEGRAM_KEY,
}


@dataclass(frozen=True, slots=True)
class BarkSettings:
    """The settings of Bark, for one phone."""

    key: Annotated[Secret, Text("the key of the device, which the app shows")]
    api: Annotated[str, Text("the address of the server; your own, if you have one")] = (
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

    key: Annotated[Secret, Text("the SendKey, which begins with SCT or sctp")]
    api: Annotated[str, posts.API_HELP] = SERVERCHAN_API


@dataclass(frozen=True, slots=True)
class TelegramSettings:
    """The settings of Telegram: a bot, and the chat for messages."""

    key: Annotated[Secret, Text("the token of the bot")]
    chat: Annotated[str, Text("the id of the chat, or @name of a channel")]
    api: Annotated[str, posts.API_HELP] = "https://api.telegram.org"


def bark(settings: BarkSettings, context: Context, /) -> Notifier:
    """Connect a phone. POST is used, because GET would show the words in URLs and logs."""
    posting = posts.Posting("Bark", context, [settings.key])
    address = Secret(f"{settings.api.rstrip('/')}/push")

    def fields(message: Message) -> dict[str, object]:
        return {
            "device_key": settings.key.reveal(),
            "title": shortened(message.title, BARK_TITLE),
            "body": message.body(BARK_BYTES),
            "group": "certferry",
        }

    def judge(reply: posts.PostReply) -> Answered:
        code, words = reply.number("code"), reply.fields.get("message")
        if code == HTTPStatus.OK:  # Bark's own code, with HTTP's number
            return Sent()
        return posting.refused(code, words, Text("compare `key` with what the app shows"))

    return posts.PostedChannel(posting, lambda: address, fields, judge)


def pushplus(settings: PushplusSettings, context: Context, /) -> Notifier:
    """Connect a token (`ports.adapter.Adapter.connect`)."""
    posting = posts.Posting("PushPlus", context, [settings.key])
    address = Secret(f"{settings.api.rstrip('/')}/send")

    def fields(message: Message) -> dict[str, object]:
        return {
            "token": settings.key.reveal(),
            "title": shortened(message.title, PUSHPLUS_TITLE),
            "content": message.text(MOST_BYTES),
            "template": "txt",
        }

    def judge(reply: posts.PostReply) -> Answered:
        code, words = reply.number("code"), reply.fields.get("msg")
        match code:
            case 200:
                return Sent()
            case 900:  # blocked until the next day; every retry makes the ban longer
                return AgainAt(posts.next_day(posting.now()), posting.in_its_words(code, words))
        return posting.refused(code, words, _PUSHPLUS_HINTS.get(code or 0))

    return posts.PostedChannel(posting, lambda: address, fields, judge)


def serverchan(settings: ServerchanSettings, context: Context, /) -> Notifier:
    """Connect a key (`ports.adapter.Adapter.connect`)."""
    posting, key = posts.Posting("ServerChan", context, [settings.key]), settings.key.reveal()
    api, way = settings.api.rstrip("/"), ""
    if (number := _THIRD.match(key)) is not None:
        own = f"https://{number[1]}.push.ft07.com"
        api, way = own if settings.api == SERVERCHAN_API else api, "/send"
    address = Secret(f"{api}{way}/{quote(key, safe='')}.send")

    def fields(message: Message) -> dict[str, object]:
        whole = message.text(MOST_BYTES)  # includes the whole title
        return {"title": shortened(message.title, SERVERCHAN_TITLE), "desp": whole}

    def judge(reply: posts.PostReply) -> Answered:
        code = reply.number("code")
        words = reply.fields.get("message") or reply.fields.get("error")
        if code == 0:
            return Sent()
        if _SPENT in str(words):
            return AgainAt(posts.next_day(posting.now()), posting.in_its_words(code, words))
        return posting.refused(code, words, Text("compare `key` with the SendKey"))

    return posts.PostedChannel(posting, lambda: address, fields, judge)


def telegram(settings: TelegramSettings, context: Context, /) -> Notifier:
    """Connect a bot (`ports.adapter.Adapter.connect`)."""
    posting = posts.Posting("Telegram", context, [settings.key])
    token = quote(settings.key.reveal(), safe=":")
    address = Secret(f"{settings.api.rstrip('/')}/bot{token}/sendMessage")

    def fields(message: Message) -> dict[str, object]:
        return {"chat_id": settings.chat, "text": message.text(TELEGRAM_BYTES)}

    def judge(reply: posts.PostReply) -> Answered:
        if reply.fields.get("ok") is True:
            return Sent()
        code, words = reply.number("error_code"), reply.fields.get("description")
        if code == HTTPStatus.TOO_MANY_REQUESTS:
            return posting.later(posting.in_its_words(code, words), usual=_asked_for(reply))
        return posting.refused(code, words, _TELEGRAM_HINTS.get(code or 0))

    return posts.PostedChannel(posting, lambda: address, fields, judge)


def _asked_for(reply: posts.PostReply) -> timedelta:
    """Return how long Telegram asks to wait; a minute by default."""
    parameters = reply.fields.get("parameters")
    seconds = parameters.get("retry_after") if isinstance(parameters, dict) else None
    if not isinstance(seconds, int) or not 0 < seconds <= _LONGEST_WAIT:
        return timedelta(minutes=1)
    return timedelta(seconds=seconds)


def _codes(hints: Mapping[int, Text]) -> Mapping[str, CodeMeaning]:
    return {str(int(code)): CodeMeaning(advice) for code, advice in hints.items()}


BARK = posts.PostedAdapter("Bark", BarkSettings, bark, RANK=80, ONLY_SENDS=True)
PUSHPLUS = posts.PostedAdapter(
    "PushPlus", PushplusSettings, pushplus, _codes(_PUSHPLUS_HINTS), RANK=50, ONLY_SENDS=True
)
SERVERCHAN = posts.PostedAdapter(
    "ServerChan",
    ServerchanSettings,
    serverchan,
    CALLED=Text("ServerChan"),
    RANK=40,
    ONLY_SENDS=True,
)
TELEGRAM = posts.PostedAdapter(
    "Telegram", TelegramSettings, telegram, _codes(_TELEGRAM_HINTS), RANK=70, ONLY_SENDS=True
)
