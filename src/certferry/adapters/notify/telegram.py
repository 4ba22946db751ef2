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

from certferry.adapters.http.posting import Posting, Reply
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
    api: Annotated[
        str, Text("the address of the service; change it for tests and mirrors only")
    ] = "https://api.telegram.org"


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    return _Bot(settings, Posting(SERVICE, context, [settings.key]))


class _Bot:
    def __init__(self, settings: Settings, posting: Posting) -> None:
        token = quote(settings.key.reveal(), safe=":")
        self._address = Secret(f"{settings.api.rstrip('/')}/bot{token}/sendMessage")
        self._chat = settings.chat
        self._posting = posting

    def send(self, message: Message, /) -> Answered:
        """See `ports.notifier.Notifier.send`."""
        fields = {"chat_id": self._chat, "text": message.text(MOST_BYTES)}
        return self._posting.send(self._address, fields, self._judge)

    def _judge(self, reply: Reply) -> Answered:
        if reply.fields.get("ok") is True:
            return Sent()
        code, said = reply.number("error_code"), reply.fields.get("description")
        if code == HTTPStatus.TOO_MANY_REQUESTS:
            problem = self._posting.in_its_words(code, said)
            return self._posting.later(problem, usual=_asked_for(reply))
        return self._posting.refused(code, said, _HINTS.get(code or 0))


def _asked_for(reply: Reply) -> timedelta:
    """Return how long the service asks to wait."""
    parameters = reply.fields.get("parameters")
    seconds = parameters.get("retry_after") if isinstance(parameters, dict) else None
    if not isinstance(seconds, int) or not 0 < seconds <= _LONGEST_WAIT:
        return timedelta(minutes=1)
    return timedelta(seconds=seconds)
