"""A robot in a WeCom group (企业微信群机器人). The key in its address is the only proof.

Reference: https://developer.work.weixin.qq.com/document/path/91770
(docs/facts/receivers.md §1.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from certferry.adapters.http.posting import Posting, Reply
from certferry.adapters.http.secret_address import secret_address
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
    api: Annotated[
        str, Text("the address of the service; change it for tests and mirrors only")
    ] = API


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    address = secret_address(settings.url, settings.api, API)
    return _Robot(address, Posting(SERVICE, context, [settings.url]))


class _Robot:
    def __init__(self, address: Secret, posting: Posting) -> None:
        self._address = address
        self._posting = posting

    def send(self, message: Message, /) -> Answered:
        """See `ports.notifier.Notifier.send`."""
        fields = {"msgtype": "text", "text": {"content": message.text(MOST_BYTES)}}
        return self._posting.send(self._address, fields, self._judge)

    def _judge(self, reply: Reply) -> Answered:
        code, said = reply.number("errcode"), reply.fields.get("errmsg")
        match code:
            case 0:
                return Sent()
            case -1 | 45009:  # busy; more than 20 messages in a minute
                return self._posting.later(self._posting.in_its_words(code, said))
        return self._posting.refused(code, said, Text("compare `url` with the robot's webhook"))
