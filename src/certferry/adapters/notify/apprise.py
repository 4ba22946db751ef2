"""The channel to every service of the library Apprise (https://github.com/caronc/apprise).

Needs the extra `apprise`. Apprise returns only success or failure, and reports success also for
some refused messages (measured, docs/facts/receivers.md §1.1). The library makes its own
connections, so certferry's limits for redirects, certificates and long answers do not hold here
(decision 0060). If certferry has a type of channel for the service, that type is better.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated

from msgspec import Struct

from certferry.core.assessment.notices import Message
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.extras import how_to_install
from certferry.ports.adapter import Context, Variable
from certferry.ports.notifier import Answered, Notifier, RefusedForGood, Sent
from certferry.text import Text

SERVICE = "Apprise"
ENVIRONMENT: tuple[Variable, ...] = ()

MOST_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the channel."""

    url: Annotated[Secret, Text("the address in Apprise's form, for example ntfys://topic")]


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    del context
    return _Apprise(settings.url)


class _Apprise(Struct, frozen=True):
    address: Secret

    def send(self, message: Message, /) -> Answered:
        """See `ports.notifier.Notifier.send`. Raises `ConfigError` without the extra."""
        try:
            import apprise
        except ImportError:
            raise ConfigError(
                Text("needs the extra `apprise`; {install}", install=how_to_install("apprise"))
            ) from None
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # warnings show addresses
        sender = apprise.Apprise()
        if not sender.add(self.address.reveal()):
            problem = Text("Apprise does not know the service in the address")
            return RefusedForGood(problem, Text("compare `url` with Apprise's documentation"))
        if sender.notify(title=message.title, body=message.body(MOST_BYTES)):
            return Sent()
        problem = Text("Apprise could not send the message, and gave no reason")
        hint = Text("try the same address with the program `apprise -vv`")
        return RefusedForGood(problem, hint)
