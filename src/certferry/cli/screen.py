"""What is drawn with rich, on terminals only: imported when there is something to draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text as RichText

from certferry.cli.lines import Line, Span, Tone
from certferry.cli.tables import Table, stacked

NARROW = 60
"""Cells below which columns hold too little to be read, and rows are written downwards."""

_STYLES = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.GOOD: "green",
    Tone.PENDING: "yellow",
    Tone.BAD: "red",
    Tone.FAINT: "dim",
}


def console_on(stream: TextIO, environ: Mapping[str, str]) -> Console:
    """Give a console that draws what it is told and guesses nothing."""
    return Console(
        file=stream,
        no_color=bool(environ.get("NO_COLOR")),
        highlight=False,
        markup=False,
        emoji=False,
    )


def rich_line(written: Line) -> RichText:
    """Give a line as rich draws it."""
    return RichText.assemble(*(_rich(span) for span in written))


def draw(table: Table, console: Console) -> None:
    """Draw a table, as wide as the terminal and no wider."""
    if console.width < NARROW:
        for written in stacked(table):
            console.print(rich_line(written))
        return
    drawn = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for header in table.headers:
        drawn.add_column(header, overflow="fold")
    for cells in table.rows:
        drawn.add_row(*map(_rich, cells))
    console.print(drawn)


def _rich(span: Span) -> RichText:
    return RichText(span.words, style=_STYLES[span.tone])
