"""Tables of pages: each row on a single page, columns with words only, and values quoted in
addresses.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certferry.console.tables import ROWS, Cell, address, of_span, page_of, table_of
from certferry.present.layout import Span, Tone
from certferry.text import Text

HEADINGS = (Text("Domain"), Text("State"))


@given(st.integers(0, 5 * ROWS))
def test_every_row_is_on_a_single_page(count: int) -> None:
    """The pages together have each row once, in order, at most a hundred on a page."""
    entries, seen, last = range(count), list[str](), 1
    number = 1
    while number <= last:
        page = page_of(HEADINGS, entries, str(number), lambda entry: (Cell(str(entry)), Cell("ok")))
        assert (number, count) == (page.number, page.count)
        assert len(page.rows) <= ROWS
        seen += [row[0].words for row in page.rows]
        number, last = number + 1, page.last

    assert seen == [str(entry) for entry in entries]


@given(st.text())
def test_any_page_number_leads_to_rows(asked: str) -> None:
    """A word or a number out of range leads to an existing page."""
    page = page_of(HEADINGS, range(250), asked, lambda number: (Cell(str(number)), Cell("ok")))

    assert 1 <= page.number <= page.last == 3
    assert page.rows


def test_column_without_words_is_left_out() -> None:
    """A column with words in a single row stays."""
    table = table_of(HEADINGS, [(Cell("a"), Cell()), (Cell("b"), Cell("—", "faint"))])

    assert (HEADINGS[:1], ((Cell("a"),), (Cell("b"),))) == (table.headings, table.rows)
    assert HEADINGS == table_of(HEADINGS, [(Cell("a"), Cell("ok")), (Cell("b"), Cell())]).headings


def test_tone_becomes_a_badge() -> None:
    """The tone of bad news becomes the badge of errors."""
    assert Cell("expired", "error") == of_span(Span("expired", Tone.BAD))


def test_query_of_an_address_is_quoted() -> None:
    """Each value is quoted. Empty values are left out."""
    assert "/history?who=a%26b%3D%22&before=7" == address(
        "/history", who='a&b="', host="", before=7
    )
    assert "/history" == address("/history", before=None)
