"""What to send to a target's support, in the language that its people read."""

from __future__ import annotations

from collections.abc import Sequence

from certferry.present.language import voice_in
from certferry.text import Text

_LANGUAGE = "zh"
"""The targets that certferry knows are in China, whatever the operator reads."""


def ticket(lines: Sequence[Text]) -> str:
    """Write a ticket, ready to be sent."""
    voice = voice_in(_LANGUAGE)
    return "\n".join(voice.say(line) for line in lines)
