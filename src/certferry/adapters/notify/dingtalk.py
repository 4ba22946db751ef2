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

from certferry.adapters.http.posting import Posting, Reply
from certferry.adapters.http.secret_address import secret_address
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
    api: Annotated[
        str, Text("the address of the service; change it for tests and mirrors only")
    ] = API


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    address = secret_address(settings.url, settings.api, API)
    hidden = [settings.url, *([settings.secret] if settings.secret else [])]
    return _Robot(address, settings.secret, Posting(SERVICE, context, hidden))


class _Robot:
    def __init__(self, address: Secret, secret: Secret | None, posting: Posting) -> None:
        self._address = address
        self._secret = secret
        self._posting = posting

    def send(self, message: Message, /) -> Answered:
        """See `ports.notifier.Notifier.send`."""
        fields = {"msgtype": "text", "text": {"content": message.text(MOST_BYTES)}}
        return self._posting.send(self._signed(), fields, self._judge)

    def _signed(self) -> Secret:
        if self._secret is None:
            return self._address
        stamp = str(int(self._posting.now().timestamp() * 1000))
        secret = self._secret.reveal()
        digest = hmac.digest(secret.encode(), f"{stamp}\n{secret}".encode(), hashlib.sha256)
        proof = quote(base64.b64encode(digest).decode(), safe="")
        address = self._address.reveal()
        join = "&" if "?" in address else "?"
        return Secret(f"{address}{join}timestamp={stamp}&sign={proof}")

    def _judge(self, reply: Reply) -> Answered:
        code, said = reply.number("errcode"), reply.fields.get("errmsg")
        match code:
            case 0:
                return Sent()
            case -1:  # the system is busy
                return self._posting.later(self._posting.in_its_words(code, said))
            case 130101:  # more than 20 messages in a minute
                problem = self._posting.in_its_words(code, said)
                return self._posting.later(problem, usual=BLOCKED)
            case 310000:
                return self._posting.refused(code, said, _WAYS_IN)
        return self._posting.refused(code, said, Text("compare `url` with the robot's webhook"))
