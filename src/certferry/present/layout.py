"""How words are laid out: lines in tones, and tables, wrapped and aligned by their width."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import compress

from certferry.text import Text


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


_CODES = {Tone.STRONG: 1, Tone.FAINT: 2, Tone.BAD: 31, Tone.GOOD: 32, Tone.PENDING: 33}
"""What turns a tone on in a terminal (ECMA-48 §8.3.117)."""


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
    """Return a line without colour."""
    return "".join(visible(span.words) for span in written).rstrip()


def coloured(written: Line) -> str:
    """Return a line with the terminal's codes for its tones."""
    return "".join(
        visible(words) if tone is Tone.PLAIN else f"\x1b[{_CODES[tone]}m{visible(words)}\x1b[0m"
        for words, tone in ((span.words, span.tone) for span in written)
    )


def visible(words: str) -> str:
    """Return words as a terminal may have them: what would move its cursor is replaced."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", words)


def as_json(
    document: object,
    say: Callable[[Text], str] | None = None,
    *,
    indent: int | None = None,
    ascii_only: bool = False,
) -> str:
    """Write JSON that may stand on a terminal: control and bidi characters are escaped. `say`
    renders the sentences in it.
    """
    written = json.dumps(document, ensure_ascii=ascii_only, indent=indent, default=say)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


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
    """Break words into lines of so many cells, never before closing punctuation or in a word."""
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
"""As above; a command in backquotes is copied whole."""


def folded(written: Line, cells: int) -> list[Line]:
    """Break a wide line; the rest begins below its last span if it fits there, or else indented."""
    words = plain(written)
    if width(words) <= cells or "\n" in words:
        return [written]
    pieces = list(_pieces(written))
    column = width("".join(span.words for span in written[:-1]))
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
        if taken or has_words or not rows:  # no line goes on with the space at which it was broken
            row.append(piece)
            used += width(piece.words)
    return [_joined(spans) for spans in (*rows, row)]


def _pieces(written: Line) -> Iterator[tuple[Span, bool]]:
    """Return the words and spaces of a line, and whether it may be broken before each."""
    breaks = False
    for span in written:
        for found in _ON_ONE_LINE.finditer(visible(span.words)):
            is_space = found[0].isspace()
            yield Span(found[0], span.tone), breaks and not is_space
            breaks = True
        breaks = breaks and span.words[-1:].isspace()


def _joined(spans: Sequence[Span]) -> Line:
    """Put neighbours of one tone together, without the spaces at the end."""
    joined = list[Span]()
    last = max((place for place, span in enumerate(spans) if span.words.strip()), default=-1)
    for span in spans[: last + 1]:
        if joined and joined[-1].tone is span.tone:
            joined[-1] = Span(joined[-1].words + span.words, span.tone)
        else:
            joined.append(span)
    return tuple(joined)


def labelled(label: str, tone: Tone, words: str, indent: int = 0) -> Iterator[Line]:
    """Write words after a label; where they have several lines, all begin in the same column."""
    first, *rest = words.split("\n")
    yield line(" " * indent, Span(label, tone), first)
    yield from (line(" " * (indent + width(label)), more) for more in rest)


GAP = "  "


@dataclass(frozen=True, slots=True)
class TextTable:
    """Rows of cells under headers. If it `hangs`, a long first cell has a line to itself."""

    headers: tuple[str, ...]
    rows: tuple[tuple[Span, ...], ...]
    hangs: bool = False


def without_empty(table: TextTable, nothing: str, keeping: int) -> TextTable:
    """Leave out the columns behind the first few whose cells say nothing."""
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
    written = list[Line]()
    for *others, last in rows:
        cells = zip(others, widths, strict=False)
        padding = (Span(padded(cell.words, wide) + GAP, cell.tone) for cell, wide in cells)
        written.append(line(indent, *padding, last))
    return written


def hanging(table: TextTable, cells_wide: int) -> list[Line]:
    """Write a table in so many cells: a first cell that is too long has a line to itself."""
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
    """Write each row downwards, for narrow terminals: the first cell, then a line per other."""
    named = max(map(width, table.headers))
    for first, *others in table.rows:
        indent = first.words[: len(first.words) - len(first.words.lstrip())] + GAP
        yield line(first)
        for header, cell in zip(table.headers[1:], others, strict=True):
            if cell.words:
                label = padded(header.lower(), named) + GAP
                yield line(indent, Span(label, Tone.FAINT), cell)


def fitted(table: TextTable, cells_wide: int) -> list[Line]:
    """Write a table as columns where they fit, downwards elsewhere; see `TextTable.hangs`."""
    ways = [aligned(table)]
    if table.hangs:
        ways.append(hanging(table, cells_wide))
    fitting = (rows for rows in ways if all(width(plain(row)) <= cells_wide for row in rows))
    return next(fitting, None) or list(stacked(table))
