"""How words are laid out: what comes from outside cannot move the cursor; lines line up."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from certferry.present.language import Voice, once, one_or_many
from certferry.present.layout import (
    Span,
    TextTable,
    Tone,
    aligned,
    coloured,
    columns,
    fitted,
    folded,
    labelled,
    line,
    padded,
    plain,
    stacked,
    width,
)
from certferry.text import Text, verbatim
from certferry_sandbox.testing.certificates import make_key
from tests.cli import values


@given(st.text())
def test_nothing_from_outside_moves_the_cursor(words: str) -> None:
    """Control characters and those that turn text around are shown as what they are: wrong."""
    span = Span(Voice().say(Text("it said: {words}", words=verbatim(words))))
    said = plain((span,))

    assert said == coloured((span,)).rstrip()
    assert not any(unicodedata.category(c) == "Cc" for c in said.replace("\n", ""))
    assert not any(unicodedata.bidirectional(c) in {"RLO", "LRO", "RLE", "LRE"} for c in said)


@given(st.text())
def test_one_line_is_one_line(words: str) -> None:
    """What has one line gets one, whatever was said."""
    assert len(Voice().say_on_one_line(verbatim(words)).splitlines()) <= 1


def test_what_must_not_be_seen_is_not_said() -> None:
    """From any source, it is taken out while the sentence is whole: a key has several lines."""
    key = make_key().reveal()
    refused = Text("refused: {words}", words=verbatim(f"{key}Authorization: Bearer planted"))

    assert "refused: •••\nAuthorization: •••" == Voice().say(refused)
    assert "refused: ••• Authorization: •••" == Voice().say_on_one_line(refused)


def test_the_language_is_chosen_once() -> None:
    """Every text goes through the one translation, the values inside it too."""
    catalogue = {"{count} days": "{count} 天", "left: {left}": "剩余:{left}"}
    voice = Voice(lambda template: catalogue.get(template, template))

    assert "剩余:3 天" == voice.say(Text("left: {left}", left=Text("{count} days", count=3)))


def test_one_is_one_and_two_are_many() -> None:
    """No number stands before the wrong form."""
    one, many = Text("1 deployment"), Text("{count} deployments")

    assert "1 deployment" == str(one_or_many(1, one, many))
    assert "2 deployments" == str(one_or_many(2, one, many))


def test_a_subject_is_said_once() -> None:
    """A detail that begins with its domain does not repeat it after the line has."""
    assert "is frozen" == once("img.example.com", "img.example.com: is frozen")
    assert "other: is frozen" == once("img.example.com", "other: is frozen")
    assert "is frozen" == once(None, "is frozen")


def test_words_after_a_label_begin_in_one_column() -> None:
    """A message of several lines stays to the right of its label."""
    assert "  hint: first\n        second\n" == values.text_of(
        list(labelled("hint: ", Tone.FAINT, "first\nsecond", indent=2))
    )


@given(st.text(alphabet="aé中文。Ｗ\u0301", max_size=20), st.integers(0, 10))
def test_padding_counts_cells_not_characters(words: str, more: int) -> None:
    """Chinese characters are two cells wide, accents none."""
    wanted = width(words) + more

    assert wanted == width(padded(words, wanted))


def test_columns_line_up_in_any_script() -> None:
    """The second column begins in the same cell of every row."""
    rows = [(Span("图片"), Span("x")), (Span("img"), Span("y")), (Span("a" * 9), Span("z"))]

    starts = {width(plain(row)[:-1]) for row in columns(rows)}

    assert {11} == starts


def test_a_table_can_be_written_downwards() -> None:
    """Where columns do not fit, each row is its first cell and a line for each of the others."""
    rows = ((Span("img"), Span("valid"), Span("")), (Span("  a.img"), Span(""), Span("2 of 2")))
    table = TextTable(("NAME", "STATE", "SERVED"), rows)
    columns_ = "NAME     STATE  SERVED\nimg      valid\n  a.img         2 of 2\n"
    downwards = "img\n  state   valid\n  a.img\n    served  2 of 2\n"

    assert columns_ == values.text_of(aligned(table)) == values.text_of(fitted(table, 22))
    assert downwards == values.text_of(list(stacked(table))) == values.text_of(fitted(table, 21))


def test_a_table_may_hang() -> None:
    """Where columns do not fit, a long first cell has a line to itself, and the others stay in
    their columns; where these do not fit either, every cell has a line.
    """
    rows = ((Span("img.example.com"), Span("valid"), Span("2")), (Span("a"), Span("x"), Span("")))
    table = TextTable(("NAME", "STATE", "SERVED"), rows, hangs=True)
    hung = "NAME  STATE  SERVED\nimg.example.com\n      valid  2\na     x\n"
    narrow = "NAME\n   STATE  SERVED\nimg.example.com\n   valid  2\na  x\n"

    assert values.text_of(aligned(table)) == values.text_of(fitted(table, 30))
    assert hung == values.text_of(fitted(table, 29)) == values.text_of(fitted(table, 19))
    assert narrow == values.text_of(fitted(table, 18))
    assert narrow.replace("   ", "  ").replace("a  x", "a\n  x") == values.text_of(
        fitted(table, 15)
    )
    assert values.text_of(list(stacked(table))) == values.text_of(fitted(table, 14))


@given(st.lists(st.text("ab中", max_size=12), min_size=1, max_size=5), st.integers(8, 40))
def test_a_table_that_hangs_loses_nothing_and_fits(names: list[str], cells: int) -> None:
    """Every cell is there, in lines that fit unless a word alone does not."""
    table = TextTable(("NAME", "X"), tuple((Span(name), Span("yes")) for name in names), hangs=True)

    written = [plain(row) for row in fitted(table, cells)]

    assert len(names) == sum(row.count("yes") for row in written)
    assert all(any(name in row for row in written) for name in names)
    if max(map(width, names)) <= cells:
        assert max(map(width, written)) <= cells


def test_colour_is_added_and_nothing_else() -> None:
    """A coloured line without its codes is the plain one."""
    written = line(Span("failed", Tone.BAD), " img")

    assert "\x1b[31mfailed\x1b[0m img" == coloured(written)
    assert "failed img" == plain(written)


@given(
    spans=st.lists(st.text(alphabet="ab 中，。`", max_size=12).map(Span), min_size=1, max_size=4),
    cells=st.integers(4, 30),
)
def test_folding_loses_nothing(spans: list[Span], cells: int) -> None:
    """Only spaces at breaks go, and no line is blank."""
    rows = [plain(row) for row in folded(tuple(spans), cells)]

    assert "".join(plain(tuple(spans)).split()) == "".join("".join(rows).split())
    assert all(rows) or not plain(tuple(spans))


@given(words=st.text(alphabet="ab 中", max_size=40).map(str.lstrip), cells=st.integers(4, 30))
def test_a_folded_line_fits(words: str, cells: int) -> None:
    """But for one word that is too long."""
    rows = [plain(row) for row in folded(line(words), cells)]

    assert [] == [one for one in rows if width(one) > cells and set(one.strip()) - {*"ab"}]


def test_a_folded_line_goes_on_below_what_it_is_about() -> None:
    """Below the last column; where that leaves no room, a little to the right. A command stays
    whole, and so does the tone.
    """
    written = line(
        "  deploy   ",
        Span("failed ", Tone.BAD),
        "img.example.com: run `certferry sync --renew img` and wait (HTTPS is off)",
    )

    assert (
        "  deploy   failed img.example.com: run\n"
        "                  `certferry sync --renew img`\n"
        "                  and wait (HTTPS is off)\n"
    ) == values.text_of(folded(written, 48))
    assert (
        "  deploy   failed\n"
        "    img.example.com: run\n"
        "    `certferry sync --renew img`\n"
        "    and wait (HTTPS is off)\n"
    ) == values.text_of(folded(written, 32))
    assert Span("failed", Tone.BAD) in [
        Span(one.words.strip(), one.tone) for one in folded(written, 48)[0]
    ]


def test_a_line_that_fits_stays_as_it_is() -> None:
    """To the cell; one with lines of its own, too."""
    written = line("a ", Span("中文", Tone.GOOD))

    assert [written] == folded(written, 6)
    assert ["a 中", "  文"] == [plain(row) for row in folded(written, 5)]
    assert [line("one two\nthree")] == folded(line("one two\nthree"), 4)
