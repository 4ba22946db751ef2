"""A bot of Telegram's. In mainland China it needs a proxy (HTTPS_PROXY).

Reference: https://core.telegram.org/bots/api#sendmessage (docs/facts/receivers.md §1.8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from certferry.adapters.http.posting import API_HELP, PostedChannel, Posting, PostReply
from certferry.core.assessment.notifications import Message
from certferry.core.secret import Secret
from certferry.ports.adapter import CodeMeaning, Context, Variable
from certferry.ports.notifier import Answered, Notifier, Sent
from certferry.text import Text

SERVICE = "Telegram"
ENVIRONMENT: tuple[Variable, ...] = ()

MOST_BYTES = 4096  # characters are what is counted, and each has a byte or more
_LONGEST_WAIT = 86_400  # seconds
_HINTS: Mapping[int, Text] = {
    HTTPStatus.BAD_REQUEST: Text("compare `chat` with the chat's id, and let the bot join it"),
    HTTPStatus.UNAUTHORIZED: Text("compare `key` with the token that BotFather gave"),
    HTTPStatus.FORBIDDEN: Text("let the bot join the chat, or write to it first"),
    HTTPStatus.NOT_FOUND: Text("compare `key` with the token that BotFather gave"),
}

CODES = {str(int(code)): CodeMeaning(advice) for code, advice in _HINTS.items()}


@dataclass(frozen=True, slots=True)
class Settings:
    """A bot, and the chat it writes to."""

    key: Annotated[Secret, Text("the token of the bot")]
    chat: Annotated[str, Text("the id of the chat, or @name of a channel")]
    api: Annotated[str, API_HELP] = "https://api.telegram.org"


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    posting = Posting(SERVICE, context, [settings.key])
    token = quote(settings.key.reveal(), safe=":")
    address = Secret(f"{settings.api.rstrip('/')}/bot{token}/sendMessage")

    def fields(message: Message) -> dict[str, object]:
        return {"chat_id": settings.chat, "text": message.text(MOST_BYTES)}

    def judge(reply: PostReply) -> Answered:
        if reply.fields.get("ok") is True:
            return Sent()
        code, said = reply.number("error_code"), reply.fields.get("description")
        if code == HTTPStatus.TOO_MANY_REQUESTS:
            return posting.later(posting.in_its_words(code, said), usual=_asked_for(reply))
        return posting.refused(code, said, _HINTS.get(code or 0))

    return PostedChannel(posting, lambda: address, fields, judge)


def _asked_for(reply: PostReply) -> timedelta:
    """Return how long the service asks to wait."""
    parameters = reply.fields.get("parameters")
    seconds = parameters.get("retry_after") if isinstance(parameters, dict) else None
    if not isinstance(seconds, int) or not 0 < seconds <= _LONGEST_WAIT:
        return timedelta(minutes=1)
    return timedelta(seconds=seconds)
