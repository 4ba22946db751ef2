"""Tables of pages: each row on one page, no empty column, no character that moves a cursor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certferry.console.tables import ROWS, Cell, address, of_span, page_of, table_of
from certferry.present.layout import Span, Tone
from certferry.text import Text

HEADINGS = (Text("Domain"), Text("State"))


@given(st.integers(0, 5 * ROWS))
def test_every_row_is_on_one_page(count: int) -> None:
    """Following the pages shows all rows once, in their order, a hundred at a time."""
    found, seen, last = range(count), list[str](), 1
    number = 1
    while number <= last:
        page = page_of(HEADINGS, found, str(number), lambda one: (Cell(str(one)), Cell("ok")))
        assert (number, count) == (page.number, page.count)
        assert len(page.rows) <= ROWS
        seen += [row[0].words for row in page.rows]
        number, last = number + 1, page.last

    assert seen == [str(one) for one in found]


@given(st.text())
def test_whatever_is_asked_for_there_is_a_page(asked: str) -> None:
    """A number that is none, or too great, shows the nearest page."""
    page = page_of(HEADINGS, range(250), asked, lambda one: (Cell(str(one)), Cell("ok")))

    assert 1 <= page.number <= page.last == 3
    assert page.rows


def test_column_without_words_is_left_out() -> None:
    """With its heading; one that has words in a single row stays."""
    table = table_of(HEADINGS, [(Cell("a"), Cell()), (Cell("b"), Cell("—", "faint"))])

    assert (HEADINGS[:1], ((Cell("a"),), (Cell("b"),))) == (table.headings, table.rows)
    assert HEADINGS == table_of(HEADINGS, [(Cell("a"), Cell("ok")), (Cell("b"), Cell())]).headings


def test_tone_of_the_command_line_is_a_badge() -> None:
    """Where it says how something stands."""
    assert Cell("expired", "error") == of_span(Span("expired", Tone.BAD))


def test_what_is_asked_is_quoted() -> None:
    """Whatever is in a value, it is one value of the address; what is empty is left out."""
    assert "/history?who=a%26b%3D%22&before=7" == address(
        "/history", who='a&b="', host="", before=7
    )
    assert "/history" == address("/history", before=None)
