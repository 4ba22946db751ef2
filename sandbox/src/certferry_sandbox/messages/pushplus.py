"""A stand-in of PushPlus (docs/facts/receivers.md §1.6). PushPlus bans clients that keep sending
after the daily quota, so the stand-in counts such requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from certferry_sandbox.httpd import Request, utc_now
from certferry_sandbox.messages.service import MessageService, Mistake, Window, posted, utf8, words

TOKEN = "b4e1c7a90d2f4f6c8e3a5b7d9f1c2e4a"

A_DAY = 200  # messages
LONGEST_TITLE, LARGEST = 100, 20_000  # characters of a title, bytes of a text


class PushplusService(MessageService):
    """A user with a token.

    `is_verified`: whether the user has proved a real name.
    `a_day`: the most messages within a day.
    `tries_after_900`: requests after the first refusal with 900. PushPlus bans for such requests.
    """

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock=clock)
        self.is_verified = True
        self.a_day = A_DAY
        self.tries_after_900 = 0
        self._day = Window(timedelta(days=1))

    def take(self, request: Request) -> Mapping[str, object]:
        """See `MessageService.take`."""
        fields = posted(request, _refusal(999, "服务端验证错误"))
        if request.path != "/send" or fields.get("token") != TOKEN:
            raise _refusal(903, "无效的用户令牌")
        if not self.is_verified:
            raise _refusal(905, "账户未进行实名认证")
        words(fields.get("title"), _refusal(999, "标题过长"), LONGEST_TITLE)
        text = words(fields.get("content"), _refusal(999, "内容过长"), LARGEST, utf8)
        if fields.get("template") != "txt":
            raise _refusal(999, "消息模板错误")
        sent = self._day.count(self.clock())
        if sent > self.a_day:
            self.tries_after_900 += sent > self.a_day + 1
            raise _refusal(900, "用户账号使用受限，请求次数过多")
        self.taken.append(text)
        return {"code": 200, "msg": "请求成功", "data": "1"}


def _refusal(code: int, message: str) -> Mistake:
    return Mistake({"code": code, "msg": message, "data": None})
