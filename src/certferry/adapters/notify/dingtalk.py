"""A robot in a DingTalk group (钉钉自定义机器人), with its signature.

Reference: https://open.dingtalk.com/document/robots/custom-robot-access
(docs/facts/receivers.md §1.2). A robot asks for one of three proofs: a signature (`secret`),
a word in each message, for which `certferry` may be chosen, or the sender's addresses.
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
    PostedChannel,
    Posting,
    PostReply,
    secret_address,
)
from certferry.core.assessment.notifications import Message
from certferry.core.secret import Secret
from certferry.ports.adapter import CodeMeaning, Context, Variable
from certferry.ports.notifier import Answered, Notifier, Sent
from certferry.text import Text

SERVICE = "DingTalk"
ENVIRONMENT: tuple[Variable, ...] = ()

API = "https://oapi.dingtalk.com"
MOST_BYTES = 8000  # a request may have 20,000, escapes included
BLOCKED = timedelta(minutes=10)


_WAYS_IN = Text(
    "compare `secret` with the robot's, choose `certferry` as its keyword, or allow the address of"
    " this machine"
)
CODES = {"310000": CodeMeaning(_WAYS_IN)}


@dataclass(frozen=True, slots=True)
class Settings:
    """A robot of one group."""

    url: Annotated[Secret, Text("the address of the robot's webhook")]
    secret: Annotated[Secret | None, Text("the secret that signs the robot's messages")] = None
    api: Annotated[str, API_HELP] = API


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    address = secret_address(settings.url, settings.api, API)
    hidden = [settings.url, *([settings.secret] if settings.secret else [])]
    posting = Posting(SERVICE, context, hidden)

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
        return posting.refused(code, said, Text("compare `url` with the robot's webhook"))

    def signed() -> Secret:
        return _signed(address, settings.secret, posting) if settings.secret else address

    return PostedChannel(posting, signed, fields, judge)


def _signed(address: Secret, secret: Secret, posting: Posting) -> Secret:
    stamp, key = str(int(posting.now().timestamp() * 1000)), secret.reveal()
    digest = hmac.digest(key.encode(), f"{stamp}\n{key}".encode(), hashlib.sha256)
    proof = quote(base64.b64encode(digest).decode(), safe="")
    join = "&" if "?" in address.reveal() else "?"
    return Secret(f"{address.reveal()}{join}timestamp={stamp}&sign={proof}")
