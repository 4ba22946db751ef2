"""A stand-in of Telegram's Bot API (docs/facts/receivers.md §1.8). The answer to too many messages
has the seconds to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from certferry_sandbox.httpd import Request, utc_now
from certferry_sandbox.messages.service import MessageService, Mistake, Window, posted, words

TOKEN = "7103345268:AAHk2Jq9Vx4Ls8Dn3Rm7Tb1Zp6Wc5Yf0Gs"
CHAT = "-1002003004005"

A_MINUTE = 20  # messages to a group
RETRY_AFTER = 37  # seconds to wait after too many messages
LONGEST = 4096  # UTF-16 code units of a message


class TelegramService(MessageService):
    """A bot in a single chat, `CHAT`."""

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock=clock)
        self._window = Window()

    def take(self, request: Request) -> Mapping[str, object]:
        """See `MessageService.take`."""
        bot, slash, method = request.path.removeprefix("/bot").partition("/")
        if not slash or bot != TOKEN:
            raise _refusal(401, "Unauthorized")
        if method != "sendMessage":
            raise _refusal(404, "Not Found")
        fields = posted(request, _refusal(400, "Bad Request: message text is empty"))
        if fields.get("chat_id") != CHAT:
            raise _refusal(400, "Bad Request: chat not found")
        too_long = _refusal(400, "Bad Request: message is too long")
        text = words(fields.get("text"), too_long, LONGEST, _units)
        if self._window.count(self.clock()) > A_MINUTE:
            message = f"Too Many Requests: retry after {RETRY_AFTER}"
            raise _refusal(429, message, {"retry_after": RETRY_AFTER})
        self.taken.append(text)
        return {"ok": True, "result": {"message_id": len(self.taken)}}


def _units(words: str) -> int:
    return len(words.encode("utf-16-le")) // 2


def _refusal(code: int, message: str, parameters: Mapping[str, int] | None = None) -> Mistake:
    answer: dict[str, object] = {"ok": False, "error_code": code, "description": message}
    if parameters is not None:
        answer["parameters"] = dict(parameters)
    return Mistake(answer, status=code)
