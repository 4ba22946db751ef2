"""A robot in a Feishu group (飞书自定义机器人), with its signature.

Reference: https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot
(docs/facts/receivers.md §1.3). A robot may ask for a signature (`secret`), a keyword,
for which `certferry` may be chosen, or the sender's addresses.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
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
from certferry.ports.adapter import CodeMeaning, Context, Variable
from certferry.ports.notifier import Answered, Notifier, Sent
from certferry.text import Text

SERVICE = "Feishu"
ENVIRONMENT: tuple[Variable, ...] = ()

API = "https://open.feishu.cn"
MOST_BYTES = 8000  # a request may have 20 KB, escapes included
_HINTS = {
    9499: Text("compare `url` with the robot's webhook"),
    19021: Text("compare `secret` with the robot's, and this machine's clock with the real time"),
    19022: Text("allow the address of this machine among the robot's"),
    19024: Text("choose `certferry` as the robot's keyword"),
}

CODES = {str(int(code)): CodeMeaning(advice) for code, advice in _HINTS.items()}


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
        content = {"text": message.text(MOST_BYTES)}
        return {**_proof(settings.secret, posting), "msg_type": "text", "content": content}

    def judge(reply: PostReply) -> Answered:
        # `StatusCode`, which old robots answer, says nothing of its own.
        code, said = reply.number("code"), reply.fields.get("msg")
        match code:
            case 0:
                return Sent()
            case 11232:  # too many messages of all robots, at the full and the half hour
                return posting.later(posting.in_its_words(code, said))
        hint = _HINTS.get(code or 0, Text("compare `url` with the robot's webhook"))
        return posting.refused(code, said, hint)

    return PostedChannel(posting, lambda: address, fields, judge)


def _proof(secret: Secret | None, posting: Posting) -> dict[str, str]:
    """Sign: what is usually the message is the key here, and the message is empty."""
    if secret is None:
        return {}
    stamp = str(int(posting.now().timestamp()))
    digest = hmac.digest(f"{stamp}\n{secret.reveal()}".encode(), b"", hashlib.sha256)
    return {"timestamp": stamp, "sign": base64.b64encode(digest).decode()}
