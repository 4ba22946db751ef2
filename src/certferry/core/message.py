"""One message to a channel: its words, and how they are made to fit what a service takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CUT = "…"


@dataclass(frozen=True, slots=True)
class Message:
    """A title of one line, paragraphs with the most important first, and the same for programs:
    `event`, a document as docs/reference/schema/event.json has it.
    """

    title: str
    paragraphs: tuple[str, ...]
    event: Mapping[str, object] = field(default_factory=dict)

    def body(self, most_bytes: int) -> str:
        """Return the paragraphs that fit in so many bytes of UTF-8, with a mark where some lack."""
        whole = "\n\n".join(self.paragraphs)
        if _size(whole) <= most_bytes:
            return whole
        kept: list[str] = []
        for paragraph in self.paragraphs:
            if _size("\n\n".join([*kept, paragraph, CUT])) > most_bytes:
                break
            kept.append(paragraph)
        if kept:
            return "\n\n".join([*kept, CUT])
        return shortened(whole, most_bytes)

    def text(self, most_bytes: int) -> str:
        """Return title and paragraphs in so many bytes of UTF-8, above all the title."""
        title = shortened(self.title, most_bytes // 2)
        return f"{title}\n\n{self.body(most_bytes - _size(title) - 2)}"


def shortened(words: str, most_bytes: int) -> str:
    """Cut words to so many bytes of UTF-8, never within a character, and show that they are cut."""
    raw = words.encode()
    if len(raw) <= most_bytes:
        return words
    room = max(most_bytes - _size(CUT), 0)
    return raw[:room].decode(errors="ignore").rstrip() + CUT


def _size(words: str) -> int:
    return len(words.encode())
