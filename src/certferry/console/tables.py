"""Tables of pages: cells in the tones of the command line, a hundred rows a page, filters in URLs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import quote, urlencode

from certferry.present.language import Voice
from certferry.present.layout import Span, Tone, visible
from certferry.problem import Problem
from certferry.text import Text

T = TypeVar("T")

ROWS = 100
"""Rows of a page: it stays well below 150 kB (`benchmarks/console.py`)."""

_TONES = {Tone.GOOD: "ok", Tone.PENDING: "notice", Tone.BAD: "error"}


@dataclass(frozen=True, slots=True)
class Cell:
    """Words, each line of them by itself, and perhaps a moment after them. `tone` is the class of a
    badge, or `strong`, `faint`, `code`. They lead to the `path` of a page; with `post`, they are a
    button that posts there.
    """

    words: str = ""
    tone: str = ""
    at: datetime | None = None
    path: str | None = None
    post: str | None = None


Row = tuple[Cell, ...]


def cell(words: str | Span, tone: str = "", path: str | None = None) -> Cell:
    """Make a cell of words that others may have written: control characters are replaced."""
    if isinstance(words, Span):
        words, tone = words.words, _TONES.get(words.tone, words.tone.value)
    return Cell("\n".join(map(visible, words.splitlines())), tone, path=path)


def lines_of(said: Sequence[Text | None], voice: Voice) -> Cell:
    """Make a cell with a line for each sentence."""
    return cell("\n".join(voice.say_on_one_line(one) for one in said if one is not None))


def of_problems(problems: Sequence[Problem], voice: Voice) -> Cell:
    """Make a cell of what is wrong, and what to do."""
    return lines_of([said for one in problems for said in (one.message, one.hint)], voice)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """The rows of one page: of `last` pages the one with this `number`, of so many rows in all."""

    rows: Sequence[T]
    number: int
    last: int
    count: int


def page_of(rows: Sequence[T], asked: str) -> Page[T]:
    """Return the page that is `asked` for; the first or the last where there is no such page."""
    last = max(1, -(-len(rows) // ROWS))
    number = min(max(int(asked), 1), last) if asked.isdecimal() and len(asked) < len(rows) else 1
    return Page(rows[(number - 1) * ROWS : number * ROWS], number, last, len(rows))


def address(path: str, **asked: object) -> str:
    """Return the path of a page with what is asked of it; what is empty is left out."""
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"{path}?{query}" if query else path


def page_of_certificate(lineage: str) -> str:
    """Return the path of a certificate's page."""
    return f"/certificates/{quote(lineage, safe='')}"
