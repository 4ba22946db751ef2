"""A robot in a WeCom group (企业微信群机器人). The key in its address is the only proof.

Reference: https://developer.work.weixin.qq.com/document/path/91770
(docs/facts/receivers.md §1.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from certferry.adapters.http.posting import (
    API_HELP,
    PostedChannel,
    Posting,
    PostReply,
    secret_address,
)
from certferry.core.assessment.notifications import Message
from certferry.core.secret import Secret
from certferry.ports.adapter import Context, Variable
from certferry.ports.notifier import Answered, Notifier, Sent
from certferry.text import Text

SERVICE = "WeCom"
ENVIRONMENT: tuple[Variable, ...] = ()

API = "https://qyapi.weixin.qq.com"
MOST_BYTES = 2048  # of a text, in UTF-8


@dataclass(frozen=True, slots=True)
class Settings:
    """A robot of one group."""

    url: Annotated[Secret, Text("the address of the robot's webhook, with its key")]
    api: Annotated[str, API_HELP] = API


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    address = secret_address(settings.url, settings.api, API)
    posting = Posting(SERVICE, context, [settings.url])

    def fields(message: Message) -> dict[str, object]:
        return {"msgtype": "text", "text": {"content": message.text(MOST_BYTES)}}

    def judge(reply: PostReply) -> Answered:
        code, said = reply.number("errcode"), reply.fields.get("errmsg")
        match code:
            case 0:
                return Sent()
            case -1 | 45009:  # busy; more than 20 messages in a minute
                return posting.later(posting.in_its_words(code, said))
        return posting.refused(code, said, Text("compare `url` with the robot's webhook"))

    return PostedChannel(posting, lambda: address, fields, judge)
