"""PushPlus (推送加).

Reference: https://www.pushplus.plus/doc (docs/facts/receivers.md §1.6). After code 900
nothing is sent until the next day: trying again makes the ban longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from certferry.adapters.http.posting import API_HELP, PostedChannel, Posting, PostReply, next_day
from certferry.core.assessment.notifications import Message, shortened
from certferry.core.secret import Secret
from certferry.ports.adapter import CodeMeaning, Context, Variable
from certferry.ports.notifier import AgainAt, Answered, Notifier, Sent
from certferry.text import Text

SERVICE = "PushPlus"
ENVIRONMENT: tuple[Variable, ...] = ()

MOST_BYTES = 8000
LONGEST_TITLE = 100
_HINTS = {
    903: Text("compare `key` with the token at pushplus.plus"),
    905: Text("have the account's real name verified at pushplus.plus"),
}

CODES = {str(int(code)): CodeMeaning(advice) for code, advice in _HINTS.items()}


@dataclass(frozen=True, slots=True)
class Settings:
    """A token of one person's or group's."""

    key: Annotated[Secret, Text("the token")]
    api: Annotated[str, API_HELP] = "https://www.pushplus.plus"


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    posting = Posting(SERVICE, context, [settings.key])
    address = Secret(f"{settings.api.rstrip('/')}/send")

    def fields(message: Message) -> dict[str, object]:
        return {
            "token": settings.key.reveal(),
            "title": shortened(message.title, LONGEST_TITLE),
            "content": message.text(MOST_BYTES),
            "template": "txt",
        }

    def judge(reply: PostReply) -> Answered:
        code, said = reply.number("code"), reply.fields.get("msg")
        match code:
            case 200:
                return Sent()
            case 900:
                return AgainAt(next_day(posting.now()), posting.in_its_words(code, said))
        return posting.refused(code, said, _HINTS.get(code or 0))

    return PostedChannel(posting, lambda: address, fields, judge)
