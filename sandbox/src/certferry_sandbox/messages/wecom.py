"""A stand-in of WeCom's robots (docs/facts/receivers.md §1.4). The limits count bytes of UTF-8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from certferry_sandbox.httpd import Request, utc_now
from certferry_sandbox.messages.service import (
    MessageService,
    Mistake,
    Window,
    posted,
    utf8,
    words,
)

KEY = "693a91f6-7d5b-4bc4-97a0-0ec2sifa5aaa"

A_MINUTE = 20  # messages
LONGEST = {"text": 2048, "markdown": 4096}  # bytes


class WecomService(MessageService):
    """A robot; the key in the address is the only proof."""

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock=clock)
        self._window = Window()

    @property
    def address(self) -> str:
        """The robot's webhook."""
        return f"{self.url}/cgi-bin/webhook/send?key={KEY}"

    def take(self, request: Request) -> Mapping[str, object]:
        """See `MessageService.take`."""
        if request.path != "/cgi-bin/webhook/send" or request.query != f"key={KEY}":
            raise _refusal(93000, "invalid webhook url")
        fields = posted(request, _refusal(47001, "data format error"))
        kind = fields.get("msgtype")
        content = fields.get(kind) if kind in LONGEST else None
        if not isinstance(content, dict) or not isinstance(kind, str):
            raise _refusal(40008, "invalid message type")
        too_long = _refusal(40058, f"{kind}.content exceed max length {LONGEST[kind]}")
        text = words(content.get("content"), too_long, LONGEST[kind], utf8)
        if self._window.count(self.clock()) > A_MINUTE:
            raise _refusal(45009, "api freq out of limit")
        self.taken.append(text)
        return {"errcode": 0, "errmsg": "ok"}


def _refusal(code: int, message: str) -> Mistake:
    return Mistake({"errcode": code, "errmsg": message})
