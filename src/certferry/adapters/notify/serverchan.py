"""ServerChan (Server酱): both of its generations, which the key distinguishes.

Reference: https://sct.ftqq.com and https://doc.sc3.ft07.com (docs/facts/receivers.md §1.5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from certferry.adapters.http.posting import API_HELP, PostedChannel, Posting, PostReply, next_day
from certferry.core.assessment.notifications import Message, shortened
from certferry.core.secret import Secret
from certferry.ports.adapter import Context, Variable
from certferry.ports.notifier import AgainAt, Answered, Notifier, Sent
from certferry.text import Text

SERVICE = "ServerChan"
ENVIRONMENT: tuple[Variable, ...] = ()

API = "https://sctapi.ftqq.com"
MOST_BYTES = 8000
LONGEST_TITLE = 32  # characters; in so many bytes it is never longer
_THIRD = re.compile(r"sctp(\d+)t")
_SPENT = "次数"
"""What a refusal says when the day's messages are used up; its code is not documented."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A key of one person's."""

    key: Annotated[Secret, Text("the SendKey, which begins with SCT or sctp")]
    api: Annotated[str, API_HELP] = API


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    posting, address = Posting(SERVICE, context, [settings.key]), _address(settings)

    def fields(message: Message) -> dict[str, object]:
        whole = message.text(MOST_BYTES)  # its title is cut short
        return {"title": shortened(message.title, LONGEST_TITLE), "desp": whole}

    def judge(reply: PostReply) -> Answered:
        code = reply.number("code")
        said = reply.fields.get("message") or reply.fields.get("error")
        if code == 0:
            return Sent()
        if _SPENT in str(said):
            return AgainAt(next_day(posting.now()), posting.in_its_words(code, said))
        return posting.refused(code, said, Text("compare `key` with the SendKey"))

    return PostedChannel(posting, lambda: address, fields, judge)


def _address(settings: Settings) -> Secret:
    key = settings.key.reveal()
    written, number = quote(key, safe=""), _THIRD.match(key)
    if number is None:
        return Secret(f"{settings.api.rstrip('/')}/{written}.send")
    own = f"https://{number[1]}.push.ft07.com"
    api = own if settings.api == API else settings.api.rstrip("/")
    return Secret(f"{api}/send/{written}.send")
