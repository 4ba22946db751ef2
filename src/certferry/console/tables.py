"""Make the tables of the console's pages: cells with badges and links, a hundred rows a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import compress
from typing import TypeVar
from urllib.parse import quote, urlencode

from msgspec import Struct

from certferry.errors import Severity
from certferry.present.language import Voice
from certferry.present.layout import Span, Tone
from certferry.present.status_text import NOTHING
from certferry.text import Text
from certferry.values import replace

T = TypeVar("T")

ROWS = 100
"""The most rows on a page. So a page stays well below 150 kB (`benchmarks/console.py`)."""

_LONG = 9
"""A page number has fewer digits than this. Longer numbers are not parsed, because that takes
long.
"""

_TONES = {Tone.GOOD: "ok", Tone.PENDING: "notice", Tone.BAD: "error"}


class Cell(Struct, frozen=True):
    """A cell of a table."""

    #: The text; each line end begins a new line in the cell.
    words: str = ""
    #: The class of a badge, or `faint`, or `code`; empty for plain text.
    tone: str = ""
    #: A moment shown after the words.
    at: datetime | None = None
    #: Whether the moment is shown with its seconds.
    to_the_second: bool = False
    #: The path of the page to which the words link.
    path: str | None = None
    #: The path to which a button with the words posts.
    post: str | None = None
    #: The severity shown as a badge before the words, if the words need a person.
    need: Severity | None = None


Row = tuple[Cell, ...]
_EMPTY = (Cell(), Cell(NOTHING.words), Cell(NOTHING.words, "faint"))


def of_span(span: Span) -> Cell:
    """Make a cell of words with a tone of the command line."""
    return Cell(span.words, _TONES.get(span.tone, span.tone.value))


def lines_of(sentences: Sequence[Text | None], voice: Voice) -> Cell:
    """Make a cell with a line for each sentence that is not `None`. Equal sentences appear once."""
    lines = [voice.say_on_one_line(sentence) for sentence in sentences if sentence is not None]
    return Cell("\n".join(dict.fromkeys(lines)))


class TableView(Struct, frozen=True):
    """A page of a table, without empty columns."""

    #: The heading of each column.
    headings: tuple[Text, ...]
    #: The rows of this page.
    rows: tuple[Row, ...]
    #: Whether the last cell of each row stands below the others, as long sentences do.
    is_last_below: bool = False
    #: The number of this page, from 1.
    number: int = 1
    #: The number of the last page.
    last: int = 1
    #: The number of rows on all pages.
    count: int = 0


def table_of(
    headings: Sequence[Text], rows: Sequence[Row], *, is_last_below: bool = False
) -> TableView:
    """Make a table with all `rows` on one page, without empty columns."""
    kept = [any(row[place] not in _EMPTY for row in rows) for place in range(len(headings))]
    shown = tuple(tuple(compress(row, kept)) for row in rows)
    is_last_below = is_last_below and kept[-1]
    return TableView(tuple(compress(headings, kept)), shown, is_last_below, count=len(rows))


def page_of(
    headings: Sequence[Text],
    entries: Sequence[T],
    asked: str,
    row: Callable[[T], Row],
    *,
    is_last_below: bool = False,
) -> TableView:
    """Make a page of a table, whose rows `row` makes of `entries`. `asked` has the number of the
    page. For another number take the nearest page, and for other text the first page.
    """
    last = max(1, -(-len(entries) // ROWS))
    is_number = asked.isdecimal() and len(asked) < _LONG
    number = min(max(int(asked), 1), last) if is_number else 1
    shown = entries[(number - 1) * ROWS : number * ROWS]
    whole = table_of(headings, [row(entry) for entry in shown], is_last_below=is_last_below)
    return replace(whole, number=number, last=last, count=len(entries))


def address(path: str, **query_values: object) -> str:
    """Return the path of a page with a query. Empty values are left out."""
    query = urlencode({name: value for name, value in query_values.items() if value})
    return f"{path}?{query}" if query else path


def page_of_certificate(lineage: str) -> str:
    """Return the path of a certificate's page."""
    return f"/certificates/{quote(lineage, safe='')}"
