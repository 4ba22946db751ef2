"""The channel `command`: an operator's program that takes messages.

The program runs without a shell, and gets each message as an event in JSON on standard input
(docs/reference/notify.md). Exit code 0 means that the program took the message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from msgspec import Struct

from certferry.adapters.programs import run as programs
from certferry.core.assessment.notices import Message
from certferry.errors import ConfigError, DeployError
from certferry.ports.adapter import Context, Variable
from certferry.ports.notifier import Answered, Notifier, RefusedForGood, Sent
from certferry.text import Text

SERVICE = "Command"
CALLED = Text("Command")
ENVIRONMENT: tuple[Variable, ...] = ()

WITHIN = timedelta(seconds=6)
"""How long the program may take for a message. A run waits ten seconds for channels, and the
program gets two of these seconds to end.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the channel."""

    command: Annotated[tuple[str, ...], Text("the program and its arguments")]


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    if not settings.command:
        raise ConfigError(Text("`command` is empty"))
    return _Command(settings.command, context)


class _Command(Struct, frozen=True):
    arguments: tuple[str, ...]
    context: Context

    def send(self, message: Message, /) -> Answered:
        """See `ports.notifier.Notifier.send`."""
        given = json.dumps(message.event, ensure_ascii=False).encode()
        hint = Text("run the program by hand, with an event on standard input")
        try:
            ended = self.context.run(self.arguments, WITHIN, given)
        except DeployError as failed:
            return RefusedForGood(failed.message, hint)
        if ended.code != 0:
            return RefusedForGood(programs.failed(self.arguments[0], ended).message, hint)
        return Sent()
