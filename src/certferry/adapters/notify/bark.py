"""Bark, an app for iPhones, at its public server or the operator's own.

Reference: https://bark.day.app (docs/facts/receivers.md §1.7). Posted: with GET the words
would stand in addresses and logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from certferry.adapters.http.posting import PostedChannel, Posting, PostReply
from certferry.core.assessment.notifications import Message, shortened
from certferry.core.secret import Secret
from certferry.ports.adapter import Context, Variable
from certferry.ports.notifier import Answered, Notifier, Sent
from certferry.text import Text

SERVICE = "Bark"
ENVIRONMENT: tuple[Variable, ...] = ()

MOST_BYTES = 2000  # Apple takes 4 KB in all, escapes included
LONGEST_TITLE = 200


@dataclass(frozen=True, slots=True)
class Settings:
    """One phone."""

    key: Annotated[Secret, Text("the key of the device, which the app shows")]
    api: Annotated[str, Text("the address of the server; your own, if you have one")] = (
        "https://api.day.app"
    )


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    posting = Posting(SERVICE, context, [settings.key])
    address = Secret(f"{settings.api.rstrip('/')}/push")

    def fields(message: Message) -> dict[str, object]:
        return {
            "device_key": settings.key.reveal(),
            "title": shortened(message.title, LONGEST_TITLE),
            "body": message.body(MOST_BYTES),
            "group": "certferry",
        }

    def judge(reply: PostReply) -> Answered:
        code, said = reply.number("code"), reply.fields.get("message")
        if code == 200:  # noqa: PLR2004 - Bark's own code, of HTTP's numbers
            return Sent()
        return posting.refused(code, said, Text("compare `key` with what the app shows"))

    return PostedChannel(posting, lambda: address, fields, judge)
