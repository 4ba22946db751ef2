"""A stand-in of Feishu's robots (docs/facts/receivers.md §1.3). The signature is an HMAC of an
empty message; the key is the timestamp with the secret.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from certferry_sandbox.httpd import Request, utc_now
from certferry_sandbox.messages.service import MessageService, Mistake, Window, posted, words

TOKEN = "9d1c6a52-7b0e-4c53-8f6e-2f0a4b1d9c77"
SECRET = "kXq2Vb7Lr9Tn4Wm8Yp3Zs6"

A_MINUTE, A_SECOND = 100, 5  # messages
LARGEST = 20 * 1024  # bytes of a request
CLOCK = timedelta(hours=1)  # between the clocks of client and service
CROWDED = (0, 30)  # minutes past the hour when Feishu refuses more messages
CROWD = 3  # seconds from each such minute in which the stand-in refuses every message


class FeishuService(MessageService):
    """A robot that checks the signature, or with a `keyword` only looks for the keyword."""

    def __init__(
        self, *, keyword: str | None = None, clock: Callable[[], datetime] = utc_now
    ) -> None:
        super().__init__(clock=clock)
        self.keyword = keyword
        self._minute, self._second = Window(), Window(timedelta(seconds=1))

    @property
    def address(self) -> str:
        """The robot's webhook."""
        return f"{self.url}/open-apis/bot/v2/hook/{TOKEN}"

    def take(self, request: Request) -> Mapping[str, object]:
        """See `MessageService.take`."""
        if request.path != f"/open-apis/bot/v2/hook/{TOKEN}":
            raise _refusal(19001, "param invalid: incoming webhook access token invalid")
        fields = posted(request, _refusal(9499, "Bad Request"))
        content = fields.get("content")
        if len(request.body) > LARGEST or fields.get("msg_type") != "text":
            raise _refusal(9499, "Bad Request")
        value = content.get("text") if isinstance(content, dict) else None
        text = words(value, _refusal(9499, "Bad Request"), LARGEST)
        if self.keyword is None:
            self._must_be_signed(fields)
        elif self.keyword not in text:
            raise _refusal(19024, "Key Words Not Found")
        self._must_not_be_crowded()
        self.taken.append(text)
        return {
            "StatusCode": 0,
            "StatusMessage": "success",
            "code": 0,
            "data": {},
            "msg": "success",
        }

    def _must_be_signed(self, fields: Mapping[str, object]) -> None:
        refusal = _refusal(
            19021, "sign match fail or timestamp is not within one hour from current time"
        )
        stamp = fields.get("timestamp")
        if not isinstance(stamp, str) or not stamp.isdigit() or len(stamp) != 10:  # noqa: PLR2004 - digits of a time in seconds
            raise refusal
        if abs(self.clock().timestamp() - int(stamp)) > CLOCK.total_seconds():
            raise refusal
        digest = hmac.new(stamp.encode() + b"\n" + SECRET.encode(), digestmod="sha256").digest()
        if base64.encodebytes(digest).strip().decode() != fields.get("sign"):
            raise refusal

    def _must_not_be_crowded(self) -> None:
        now = self.clock()
        crowded = now.minute in CROWDED and now.second < CROWD
        many = self._minute.count(now) > A_MINUTE or self._second.count(now) > A_SECOND
        if crowded or many:
            raise _refusal(11232, "frequency limited psm[lark.oapi.app_platform_runtime]")


def _refusal(code: int, message: str) -> Mistake:
    return Mistake({"code": code, "data": {}, "msg": message})
