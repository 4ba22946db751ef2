"""A stand-in of both generations of ServerChan (docs/facts/receivers.md §1.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from certferry_sandbox.httpd import Request, utc_now
from certferry_sandbox.messages.service import MessageService, Mistake, Window, posted, utf8, words

KEY = "SCT284TvXQ7bYk3mN9pLz2RwHs6JdFc"
THIRD_KEY = "sctp1234tq8wz5xk2mv9nb4rj7hd3fc6"

A_DAY = 5  # messages
LONGEST_TITLE, LARGEST = 32, 32 * 1024  # characters of a title, bytes of a text


class ServerchanService(MessageService):
    """A user with a key for each generation, `KEY` and `THIRD_KEY`, and a single daily quota."""

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock=clock)
        self._day = Window(timedelta(days=1))

    def take(self, request: Request) -> Mapping[str, object]:
        """See `MessageService.take`."""
        if request.path not in {f"/{KEY}.send", f"/send/{THIRD_KEY}.send"}:
            raise _refusal(40001, "[AUTH]错误的Key")
        fields = posted(request, _refusal(40000, "[INPUT]参数错误"))
        title = words(fields.get("title"), _refusal(40002, "[INPUT]title过长"), LONGEST_TITLE)
        text = words(fields.get("desp"), _refusal(40003, "[INPUT]desp过长"), LARGEST, utf8)
        if self._day.count(self.clock()) > A_DAY:
            raise _refusal(40001, "[AUTH]超过当天的发送次数限制[5]，请稍后再试")
        self.taken.append(f"{title}\n{text}")
        return {
            "code": 0,
            "message": "",
            "data": {"pushid": "1", "readkey": "1", "error": "SUCCESS"},
        }


def _refusal(code: int, message: str) -> Mistake:
    return Mistake({"code": code, "message": message, "info": message, "args": [None]})
