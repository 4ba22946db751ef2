"""Every service that the library Apprise knows (https://github.com/caronc/apprise), by its address.

Needs the extra `apprise`. Apprise says only whether it believes to have sent a message: some of
its services report success where the real one has refused (measured, fact sheet on receivers). A
service that has a type of its own here is better used by that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated

from certferry.core.extras import how_to_install
from certferry.core.message import Message
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Variable
from certferry.ports.notifier import Answered, Notifier, RefusedForGood, Sent
from certferry.text import Text

SERVICE = "Apprise"
ENVIRONMENT: tuple[Variable, ...] = ()

MOST_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Settings:
    """One address of Apprise's."""

    url: Annotated[Secret, Text("the address as Apprise writes it, such as ntfys://topic")]


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    del context
    return _Apprise(settings.url)


class _Apprise:
    def __init__(self, address: Secret) -> None:
        self._address = address

    def send(self, message: Message, /) -> Answered:
        """See `ports.notifier.Notifier.send`. Raises `ConfigError` without the extra."""
        try:
            import apprise
        except ImportError:
            raise ConfigError(
                Text("needs the extra `apprise`; {install}", install=how_to_install("apprise"))
            ) from None
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its warnings show addresses
        sender = apprise.Apprise()
        if not sender.add(self._address.reveal()):
            problem = Text("Apprise knows no service of that address")
            return RefusedForGood(problem, Text("compare `url` with Apprise's documents"))
        if sender.notify(title=message.title, body=message.body(MOST_BYTES)):
            return Sent()
        problem = Text("Apprise could not send the message; it does not tell why")
        hint = Text("try the same address with the program `apprise -vv`")
        return RefusedForGood(problem, hint)
