"""A stand-in of DingTalk's robots (docs/facts/receivers.md §1.2). A robot checks the signature,
and is blocked for some minutes after too many messages.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from urllib.parse import unquote

from certferry_sandbox.httpd import Request, utc_now
from certferry_sandbox.messages.service import MessageService, Mistake, Window, posted, words

TOKEN = "2f6e7d0c9b8a5f4e3d2c1b0a99887766554433221100ffeeddccbbaa00998877"
SECRET = "SECb3c1d9f08e7a465f9b2d3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f607182"

A_MINUTE = 20  # messages
BLOCKED = timedelta(minutes=10)
CLOCK = timedelta(hours=1)  # between the clocks of client and service
LARGEST = 20_000  # bytes of a request
OK: Mapping[str, object] = {"errcode": 0, "errmsg": "ok"}


class DingtalkService(MessageService):
    """A robot that checks the signature, or with a `keyword` only looks for the keyword."""

    def __init__(
        self, *, keyword: str | None = None, clock: Callable[[], datetime] = utc_now
    ) -> None:
        super().__init__(clock=clock)
        self.keyword = keyword
        self._window = Window()
        self._blocked_until: datetime | None = None

    @property
    def address(self) -> str:
        """The robot's webhook."""
        return f"{self.url}/robot/send?access_token={TOKEN}"

    def take(self, request: Request) -> Mapping[str, object]:
        """See `MessageService.take`."""
        query = dict(part.partition("=")[::2] for part in request.query.split("&"))
        if request.path != "/robot/send" or query.get("access_token") != TOKEN:
            raise _refusal(300005, "token is not exist")
        self._must_not_be_blocked()
        fields = posted(request, _refusal(43004, "content-type must be application/json"))
        if len(request.body) > LARGEST:
            raise _refusal(460101, "message too long")
        text = _content(fields)
        if self.keyword is None:
            self._must_be_signed(query)
        elif self.keyword not in text:
            raise _refusal(310000, "keywords not in content")
        self.taken.append(text)
        return OK

    def _must_not_be_blocked(self) -> None:
        now = self.clock()
        if self._window.count(now) > A_MINUTE:
            self._blocked_until = now + BLOCKED
        if self._blocked_until is not None and now < self._blocked_until:
            raise _refusal(130101, "send too fast, exceed 20 times per minute")

    def _must_be_signed(self, query: Mapping[str, str]) -> None:
        """Check as DingTalk does: decode `sign` once, and read `timestamp` as milliseconds."""
        stamp, proof = query.get("timestamp", ""), unquote(query.get("sign", ""))
        if not stamp.isdigit():
            raise _refusal(310000, "invalid timestamp")
        sent = datetime.fromtimestamp(0, tz=self.clock().tzinfo) + timedelta(
            milliseconds=int(stamp)
        )
        if abs(sent - self.clock()) > CLOCK:
            raise _refusal(310000, "invalid timestamp")
        digest = hmac.new(SECRET.encode(), digestmod=hashlib.sha256)
        digest.update(stamp.encode() + b"\n" + SECRET.encode())
        if base64.standard_b64encode(digest.digest()).decode() != proof:
            raise _refusal(310000, "sign not match")


def _content(fields: Mapping[str, object]) -> str:
    kind = fields.get("msgtype")
    content = fields.get(kind) if kind in {"text", "markdown"} else None
    if not isinstance(content, dict):
        raise _refusal(400105, "unsupported msgtype")
    name = "content" if kind == "text" else "text"
    return words(content.get(name), _refusal(40035, f"missing parameter {name}"), LARGEST)


def _refusal(code: int, message: str) -> Mistake:
    return Mistake({"errcode": code, "errmsg": message})
