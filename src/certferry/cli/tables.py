"""Tables as values, and how they are written where there is no terminal to draw them on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from certferry.cli.lines import Line, Span, Tone, line, padded, width

GAP = "  "


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under headers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[Span, ...], ...]


def aligned(table: Table) -> list[Line]:
    """Write a table as aligned columns."""
    headers = tuple(Span(header, Tone.STRONG) for header in table.headers)
    return columns((headers, *table.rows))


def columns(rows: Sequence[tuple[Span, ...]], indent: str = "") -> list[Line]:
    """Write rows as aligned columns without headers."""
    widths = [max(width(cell.words) for cell in column) for column in zip(*rows, strict=True)]
    return [line(indent, *_row(cells, widths)) for cells in rows]


def _row(cells: tuple[Span, ...], widths: Sequence[int]) -> Iterator[Span]:
    for cell, cells_wide in zip(cells[:-1], widths[:-1], strict=True):
        yield Span(padded(cell.words, cells_wide) + GAP, cell.tone)
    yield cells[-1]


def stacked(table: Table) -> Iterator[Line]:
    """Write each row downwards, for narrow terminals: its first cell, then one line per cell."""
    for first, *others in table.rows:
        yield line(Span(first.words, Tone.STRONG))
        for header, cell in zip(table.headers[1:], others, strict=True):
            if cell.words:
                yield line(GAP, Span(f"{header.lower()}  ", Tone.FAINT), cell)
