"""Lines of words with tones: coloured on a terminal, plain elsewhere, aligned in both."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypedDict

import click


class Tone(Enum):
    """How words are meant. The words say it too: a tone only helps the eye."""

    PLAIN = "plain"
    STRONG = "strong"
    GOOD = "good"
    PENDING = "pending"
    BAD = "bad"
    FAINT = "faint"


_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Everything that moves a cursor or turns text around, but the line end: C0, C1, bidi controls."""


class _Style(TypedDict, total=False):
    bold: bool
    dim: bool
    fg: str


_STYLES: Mapping[Tone, _Style] = {
    Tone.STRONG: {"bold": True},
    Tone.GOOD: {"fg": "green"},
    Tone.PENDING: {"fg": "yellow"},
    Tone.BAD: {"fg": "red"},
    Tone.FAINT: {"dim": True},
}


@dataclass(frozen=True, slots=True)
class Span:
    """Words in one tone."""

    words: str
    tone: Tone = Tone.PLAIN


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    """Put a line together."""
    return tuple(Span(part) if isinstance(part, str) else part for part in parts)


def plain(written: Line) -> str:
    """Give a line without colour."""
    return "".join(visible(span.words) for span in written).rstrip()


def coloured(written: Line) -> str:
    """Give a line with the terminal's codes for its tones."""
    return "".join(map(_coloured, written))


def _coloured(span: Span) -> str:
    words = visible(span.words)
    return words if span.tone is Tone.PLAIN else click.style(words, **_STYLES[span.tone])


def visible(words: str) -> str:
    """Give words as a terminal may have them: what would move its cursor is replaced."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", words)


def padded(words: str, cells: int) -> str:
    """Fill up with spaces to a width on the screen."""
    return words + " " * (cells - width(words))


def width(words: str) -> int:
    """Count the cells that words take on a screen: Chinese characters are two wide (UAX #11)."""
    return sum(_cells(character) for character in words)


_OPENING = "（「『《“‘"
_CLOSING = "，。；：、？！）」』》”’…"
_UNBROKEN = re.compile(
    rf"\s+|[{_OPENING}]*(?:[\u2e80-\u9fff\uff00-\uffef]|[^\s\u2e80-\u9fff\uff00-\uffef]+)[{_CLOSING}]*"
)
"""What stays on one line: a word, or one Chinese character, with the punctuation around it."""


def wrapped(words: str, cells: int) -> list[str]:
    """Break words into lines of so many cells: at spaces, and between Chinese characters.

    No line begins with punctuation that closes. What is longer than a line has one to itself.
    """
    rows, row = list[str](), ""
    for piece in _UNBROKEN.findall(words):
        if width(row + piece.rstrip()) > cells and row.strip():
            rows.append(row.rstrip())
            row = ""
        row += piece if row else piece.lstrip()
    return [*rows, row.rstrip()] if row.strip() else rows


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
