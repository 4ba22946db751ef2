"""Lay out lines and tables for a terminal. Widths are counted in cells: a Chinese character takes
two.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import compress

from msgspec import Struct

from certferry.text import Text


class Tone(Enum):
    """The meaning of words, which a terminal shows as a colour. The words alone have the meaning
    too.
    """

    PLAIN = "plain"
    STRONG = "strong"
    GOOD = "good"
    PENDING = "pending"
    BAD = "bad"
    FAINT = "faint"


_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Matches a character that could move the cursor or reverse text: C0, C1 and bidi controls, and
line separators, but no line end.
"""


_CODES = {Tone.STRONG: 1, Tone.FAINT: 2, Tone.BAD: 31, Tone.GOOD: 32, Tone.PENDING: 33}
"""The terminal's code for each tone except `PLAIN` (ECMA-48 §8.3.117)."""


class Span(Struct, frozen=True):
    """A part of a line, in one tone."""

    #: The text.
    words: str
    #: The meaning, for the colour.
    tone: Tone = Tone.PLAIN


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    """Return a line of words and spans."""
    return tuple(Span(part) if isinstance(part, str) else part for part in parts)


def plain(row: Line) -> str:
    """Return a line without colour and without spaces at the end. Control characters except line
    ends are replaced.
    """
    return "".join(visible(span.words) for span in row).rstrip()


def coloured(row: Line) -> str:
    """Return a line with the terminal's codes for the tones. Control characters in the words are
    replaced.
    """
    return "".join(
        visible(words) if tone is Tone.PLAIN else f"\x1b[{_CODES[tone]}m{visible(words)}\x1b[0m"
        for words, tone in ((span.words, span.tone) for span in row)
    )


def visible(words: str) -> str:
    """Replace each character that would move the terminal's cursor or reverse text, except line
    ends.
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", words)


def as_json(
    document: object,
    say: Callable[[Text], str] | None = None,
    *,
    indent: int | None = None,
    ascii_only: bool = False,
) -> str:
    """Return JSON that is safe on a terminal: control and bidi characters are escaped.

    `say` renders each `Text` in the document. Without `say`, a `Text` raises `TypeError`.
    """
    json_text = json.dumps(document, ensure_ascii=ascii_only, indent=indent, default=say)
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", json_text)


def padded(words: str, cells: int) -> str:
    """Pad words with spaces to a width in cells."""
    return words + " " * (cells - width(words))


def width(words: str) -> int:
    """Return the cells that words take on a terminal: a Chinese character takes two (UAX #11)."""
    return sum(_cells(character) for character in words)


_OPENING = "（「『《“‘"
_CLOSING = "，。；：、？！）」』》”’…"
_UNBROKEN = re.compile(
    rf"\s+|[{_OPENING}]*(?:[\u2e80-\u9fff\uff00-\uffef]|[^\s\u2e80-\u9fff\uff00-\uffef]+)[{_CLOSING}]*"
)
"""Matches a piece of text that stays on one line: a word or one Chinese character, with the
punctuation beside it.
"""


def wrapped(words: str, cells: int) -> list[str]:
    """Break text into lines of at most `cells`, never before closing punctuation or inside a word.
    A word that is wider than `cells` gets a line of its own.
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


_ON_ONE_LINE = re.compile(
    r"[^\s`\u2e80-\u9fff\uff00-\uffef]*`[^`]*`[^\s`\u2e80-\u9fff\uff00-\uffef]*"
    rf"[{_CLOSING}]*|{_UNBROKEN.pattern}"
)
"""Matches a piece of a sentence that stays on one line: as `_UNBROKEN`, but a command in backquotes
stays whole, so that people can copy the command.
"""


def folded(row_line: Line, cells: int) -> list[Line]:
    """Break a line that is wider than `cells`, unless the line contains line ends. The second and
    later lines align with the last span of the line. If too little room is left there, they are
    indented by two cells more than the line.
    """
    words = plain(row_line)
    if width(words) <= cells or "\n" in words:
        return [row_line]
    pieces = list(_pieces(row_line))
    column = width("".join(span.words for span in row_line[:-1]))
    longest = max(width(piece.words) for piece, _ in pieces)
    if column > cells // 2 or column + longest > cells:
        column = len(words) - len(words.lstrip()) + len(GAP)
    rows, row, used = list[list[Span]](), list[Span](), 0
    for piece, breaks in pieces:
        taken = width(piece.words.rstrip())
        has_words = any(not span.words.isspace() for span in row)
        if breaks and has_words and used + taken > cells:
            rows.append(row)
            row, used, has_words = [Span(" " * column)], column, False
        # The space at a break is dropped, because the next line must not begin with a space.
        if taken or has_words or not rows:
            row.append(piece)
            used += width(piece.words)
    return [_joined(spans) for spans in (*rows, row)]


def _pieces(row: Line) -> Iterator[tuple[Span, bool]]:
    """Yield the pieces of a line (words, spaces), and for each piece whether the line may be broken
    before the piece.
    """
    breaks = False
    for span in row:
        for match in _ON_ONE_LINE.finditer(visible(span.words)):
            is_space = match[0].isspace()
            yield Span(match[0], span.tone), breaks and not is_space
            breaks = True
        breaks = breaks and span.words[-1:].isspace()


def _joined(spans: Sequence[Span]) -> Line:
    """Join neighbouring spans of one tone, and remove the spaces at the end."""
    joined = list[Span]()
    last = max((place for place, span in enumerate(spans) if span.words.strip()), default=-1)
    for span in spans[: last + 1]:
        if joined and joined[-1].tone is span.tone:
            joined[-1] = Span(joined[-1].words + span.words, span.tone)
        else:
            joined.append(span)
    return tuple(joined)


def labelled(label: str, tone: Tone, words: str, indent: int = 0) -> Iterator[Line]:
    """Write text after a label. Further lines of the text align with the text's first word."""
    first, *rest = words.split("\n")
    yield line(" " * indent, Span(label, tone), first)
    yield from (line(" " * (indent + width(label)), more) for more in rest)


GAP = "  "


class TextTable(Struct, frozen=True):
    """Rows of cells under headers."""

    #: The header of each column.
    headers: tuple[str, ...]
    #: The rows, with a cell for each column.
    rows: tuple[tuple[Span, ...], ...]
    #: Whether a wide first cell gets a line of its own, if the table is wider than the terminal.
    hangs: bool = False


def without_empty(table: TextTable, nothing: str, keeping: int) -> TextTable:
    """Remove columns in which every cell is empty or has the text `nothing`. The first `keeping`
    columns stay.
    """
    kept = [
        place < keeping or any(row[place].words not in {"", nothing} for row in table.rows)
        for place in range(len(table.headers))
    ]
    return TextTable(
        tuple(compress(table.headers, kept)),
        tuple(tuple(compress(row, kept)) for row in table.rows),
        table.hangs,
    )


def aligned(table: TextTable) -> list[Line]:
    """Write a table as aligned columns."""
    headers = tuple(Span(header, Tone.STRONG) for header in table.headers)
    return columns((headers, *table.rows))


def columns(rows: Sequence[tuple[Span, ...]], indent: str = "") -> list[Line]:
    """Write rows as aligned columns without headers."""
    widths = [max(width(cell.words) for cell in column) for column in zip(*rows, strict=True)]
    aligned_rows = list[Line]()
    for *others, last in rows:
        cells = zip(others, widths, strict=False)
        padding = (Span(padded(cell.words, wide) + GAP, cell.tone) for cell, wide in cells)
        aligned_rows.append(line(indent, *padding, last))
    return aligned_rows


def hanging(table: TextTable, cells_wide: int) -> list[Line]:
    """Write a table for a width of `cells_wide`. A first cell that is too wide gets a line of its
    own. If the other columns are too wide, so is the result.
    """
    below = aligned(TextTable(table.headers[1:], tuple(row[1:] for row in table.rows)))
    firsts = [Span(table.headers[0], Tone.STRONG), *(row[0] for row in table.rows)]
    room = cells_wide - len(GAP) - max(width(plain(row)) for row in below)
    column = max((cells for first in firsts if (cells := width(first.words)) <= room), default=0)
    rows = list[Line]()
    for first, others in zip(firsts, below, strict=True):
        if width(first.words) <= column:
            rows.append(line(Span(padded(first.words, column) + GAP, first.tone), *others))
        else:
            rows += [line(first), line(" " * column + GAP, *others)]
    return rows


def stacked(table: TextTable) -> Iterator[Line]:
    """Write each row as lines, for narrow terminals: the first cell, then a line with the header
    and the words of each other cell that is not empty.
    """
    named = max(map(width, table.headers))
    for first, *others in table.rows:
        indent = first.words[: len(first.words) - len(first.words.lstrip())] + GAP
        yield line(first)
        for header, cell in zip(table.headers[1:], others, strict=True):
            if cell.words:
                label = padded(header.lower(), named) + GAP
                yield line(indent, Span(label, Tone.FAINT), cell)


def fitted(table: TextTable, cells_wide: int) -> list[Line]:
    """Write a table in the first way that fits into a width of `cells_wide`: as `aligned`, else as
    `hanging` if the table may hang, else as `stacked`.
    """
    ways = [aligned(table)]
    if table.hangs:
        ways.append(hanging(table, cells_wide))
    fitting = (rows for rows in ways if all(width(plain(row)) <= cells_wide for row in rows))
    return next(fitting, None) or list(stacked(table))
