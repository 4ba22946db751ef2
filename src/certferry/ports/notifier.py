"""The port to a channel of notifications: a service that brings a message to a person, or to the
operator's own program.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from certferry.core.assessment.notices import Message
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Sent:
    """The service took the message."""


@dataclass(frozen=True, slots=True)
class RefusedForGood:
    """The service would refuse the message again, too. With `partly`, some recipients have it."""

    problem: Text
    hint: Text | None = None
    partly: bool = False


@dataclass(frozen=True, slots=True)
class AgainAt:
    """The service did not take the message now; it may from a moment on (aware), not before."""

    moment: datetime
    problem: Text


Answered = Sent | RefusedForGood | AgainAt


class Notifier(Protocol):
    """One channel. Safe to use from several threads."""

    def send(self, message: Message, /) -> Answered:
        """Send one message, made short enough for the service, and say what became of it.

        The body of the answer decides, not its status: services refuse inside HTTP 200. Sends once
        and waits for a few seconds at most; follows no redirect. No secret, and no address of a
        webhook, is in what it says. Raises `Interrupted` when the run is stopped.
        """
