"""The port to a channel: a service that brings messages to a person or a program."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from msgspec import Struct

from certferry.core.assessment.notices import Message
from certferry.text import Text


class Sent(Struct, frozen=True):
    """The service took the message."""


class RefusedForGood(Struct, frozen=True):
    """The service refused the message, and would refuse another try."""

    problem: Text  #: The service's reason in words.
    hint: Text | None = None  #: The adapter's advice, if any.
    #: Whether some recipients have received the message.
    partly: bool = False


class AgainAt(Struct, frozen=True):
    """The service did not take the message now. A later try may succeed."""

    #: The earliest moment for the next try, aware.
    moment: datetime
    problem: Text  #: The service's reason in words.


Answered = Sent | RefusedForGood | AgainAt


class Notifier(Protocol):
    """A channel. Several threads may use the object."""

    def send(self, message: Message, /) -> Answered:
        """Send one message, shortened to the service's limit, and return the result.

        An implementation judges an answer by its body, because some services refuse a message with
        status 200. An implementation sends once, waits a few seconds at most, ignores redirects,
        and keeps secrets and webhook addresses out of the result. Raises `Interrupted` when the run
        is stopped.
        """
