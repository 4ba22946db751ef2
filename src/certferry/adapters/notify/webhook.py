"""The webhook channel: each message is posted as an event in JSON (docs/reference/notify.md).

With a `secret`, the header `X-Certferry-Signature: sha256=HEX` has the HMAC-SHA256 of the body. A
status 2xx means success, unless the answer is a JSON object with `ok` or `success` false, or with
an `error`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from msgspec import Struct

from certferry.adapters.http.posting import Posting, secret_address
from certferry.core.assessment.notices import Message
from certferry.core.redaction import Secret
from certferry.ports.adapter import Answer, Context, Variable, json_object
from certferry.ports.notifier import Answered, Notifier, Sent
from certferry.text import Text

SERVICE = "Webhook"
RANK = 90
ONLY_SENDS = True
ENVIRONMENT: tuple[Variable, ...] = ()

SIGNATURE = "X-Certferry-Signature"
_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the channel."""

    url: Annotated[Secret, Text("the address to which certferry posts the event")]
    secret: Annotated[Secret | None, Text("the secret for signing the event")] = None


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    address = secret_address(settings.url)
    hidden = [settings.url, *([settings.secret] if settings.secret else [])]
    return _Webhook(address, settings.secret, Posting(SERVICE, context, hidden))


class _Webhook(Struct, frozen=True):
    address: Secret
    secret: Secret | None
    posting: Posting

    def send(self, message: Message, /) -> Answered:
        """See `ports.notifier.Notifier.send`."""
        body = json.dumps(message.event, ensure_ascii=False).encode()
        answer = self.posting.exchange(self.address, body, self._proof(body))
        return self._judge(answer) if isinstance(answer, Answer) else answer

    def _proof(self, body: bytes) -> Mapping[str, str]:
        if self.secret is None:
            return {}
        digest = hmac.new(self.secret.reveal().encode(), body, hashlib.sha256)
        return {SIGNATURE: f"sha256={digest.hexdigest()}"}

    def _judge(self, answer: Answer) -> Answered:
        fields = json_object(answer.body) or {}
        complaint = _complaint(fields)
        if answer.status in _LATER:
            problem = self.posting.in_its_words(answer.status, complaint)
            return self.posting.later(problem, answer.headers)
        if answer.status < HTTPStatus.MULTIPLE_CHOICES and not _refuses(fields):
            return Sent()
        hint = Text("check the log of the service at `url`")
        return self.posting.refused(answer.status, complaint, hint)


def _refuses(fields: Mapping[str, Any]) -> bool:
    denied = fields.get("ok") is False or fields.get("success") is False
    return denied or bool(fields.get("error"))


def _complaint(fields: Mapping[str, Any]) -> object:
    return next((fields[name] for name in ("error", "message", "msg") if fields.get(name)), "")
