"""Tables of pages: cells in the tones of the command line, and a hundred rows a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import compress
from typing import TypeVar
from urllib.parse import quote, urlencode

from certferry.errors import Severity
from certferry.present.language import Voice
from certferry.present.layout import Span, Tone
from certferry.present.status_text import NOTHING
from certferry.text import Text

T = TypeVar("T")

ROWS = 100
"""Rows of a page: it stays well below 150 kB (`benchmarks/console.py`)."""

_LONG = 9
"""Digits of a number that no page has; reading thousands of them would take long."""

_TONES = {Tone.GOOD: "ok", Tone.PENDING: "notice", Tone.BAD: "error"}


@dataclass(frozen=True, slots=True)
class Cell:
    """Words, each line of them by itself, and perhaps a moment after them. `tone` is the class of a
    badge, or `faint`, `code`; where they `need` a person, a badge of that severity is before them.
    They lead to the `path` of a page; with `post`, they are a
    button that posts there.
    """

    words: str = ""
    tone: str = ""
    at: datetime | None = None
    path: str | None = None
    post: str | None = None
    need: Severity | None = None


Row = tuple[Cell, ...]
_EMPTY = (Cell(), Cell(NOTHING.words), Cell(NOTHING.words, "faint"))


def of_span(said: Span) -> Cell:
    """Make a cell of words in a tone."""
    return Cell(said.words, _TONES.get(said.tone, said.tone.value))


def lines_of(said: Sequence[Text | None], voice: Voice) -> Cell:
    """Make a cell with a line for each sentence; of several addresses the same, one is enough."""
    lines = [voice.say_on_one_line(one) for one in said if one is not None]
    return Cell("\n".join(dict.fromkeys(lines)))


@dataclass(frozen=True, slots=True)
class TableView:
    """Rows under their headings, without columns that are empty: of `last` pages the one with this
    `number`, of so many rows in all.
    """

    headings: tuple[Text, ...]
    rows: tuple[Row, ...]
    number: int = 1
    last: int = 1
    count: int = 0


def table_of(headings: Sequence[Text], rows: Sequence[Row]) -> TableView:
    """Make a table on one page."""
    kept = [any(row[place] not in _EMPTY for row in rows) for place in range(len(headings))]
    shown = tuple(tuple(compress(row, kept)) for row in rows)
    return TableView(tuple(compress(headings, kept)), shown, count=len(rows))


def page_of(
    headings: Sequence[Text], found: Sequence[T], asked: str, row: Callable[[T], Row]
) -> TableView:
    """Make the page that is `asked` for, or the nearest; `row` makes a row of what was found."""
    last = max(1, -(-len(found) // ROWS))
    is_number = asked.isdecimal() and len(asked) < _LONG
    number = min(max(int(asked), 1), last) if is_number else 1
    shown = found[(number - 1) * ROWS : number * ROWS]
    whole = table_of(headings, [row(one) for one in shown])
    return replace(whole, number=number, last=last, count=len(found))


def address(path: str, **asked: object) -> str:
    """Return the path of a page with what is asked of it; what is empty is left out."""
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"{path}?{query}" if query else path


def page_of_certificate(lineage: str) -> str:
    """Return the path of a certificate's page."""
    return f"/certificates/{quote(lineage, safe='')}"
