"""Tables: aligned columns where they fit, each row written downwards where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from certferry.cli.lines import Line, Span, Tone, line, padded, plain, width

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
    """Write each row downwards, for terminals that are too narrow: below the first cell a line for
    each of the others that says something.
    """
    named = max(map(width, table.headers))
    for first, *others in table.rows:
        indent = first.words[: len(first.words) - len(first.words.lstrip())] + GAP
        yield line(first)
        for header, cell in zip(table.headers[1:], others, strict=True):
            if cell.words:
                label = padded(header.lower(), named) + GAP
                yield line(indent, Span(label, Tone.FAINT), cell)


def fitted(table: Table, cells_wide: int) -> list[Line]:
    """Write a table as columns where they fit, downwards elsewhere."""
    rows = aligned(table)
    fits = all(width(plain(row)) <= cells_wide for row in rows)
    return rows if fits else list(stacked(table))
