"""The layout of words: safe quotations, aligned columns, folded lines."""

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
def test_words_from_outside_move_no_cursor(words: str) -> None:
    """Control characters and changes of direction are shown as replacements."""
    span = Span(Voice().say(Text("it said: {words}", words=verbatim(words))))
    shown = plain((span,))

    assert shown == coloured((span,)).rstrip()
    assert not any(unicodedata.category(c) == "Cc" for c in shown.replace("\n", ""))
    assert not any(unicodedata.bidirectional(c) in {"RLO", "LRO", "RLE", "LRE"} for c in shown)


@given(st.text())
def test_words_on_a_single_line(words: str) -> None:
    """Words with line breaks are put on a single line."""
    assert len(Voice().say_on_one_line(verbatim(words)).splitlines()) <= 1


def test_secrets_are_hidden_in_sentences() -> None:
    """Secrets are masked in the whole sentence, since a key has several lines."""
    key = make_key().reveal()
    refused = Text("refused: {words}", words=verbatim(f"{key}Authorization: Bearer planted"))

    assert "refused: •••\nAuthorization: •••" == Voice().say(refused)
    assert "refused: ••• Authorization: •••" == Voice().say_on_one_line(refused)


def test_texts_inside_a_text_are_translated() -> None:
    """Every text is translated with the same catalogue, values included."""
    catalogue = {"{count} days": "{count} 天", "left: {left}": "剩余:{left}"}
    voice = Voice(lambda template: catalogue.get(template, template))

    assert "剩余:3 天" == voice.say(Text("left: {left}", left=Text("{count} days", count=3)))


def test_singular_and_plural() -> None:
    """A number agrees with its noun."""
    singular, plural = Text("1 deployment"), Text("{count} deployments")

    assert "1 deployment" == str(one_or_many(1, singular, plural))
    assert "2 deployments" == str(one_or_many(2, singular, plural))


def test_subject_is_shown_once() -> None:
    """A detail loses its leading domain after the same domain on the line."""
    assert "is frozen" == once("img.example.com", "img.example.com: is frozen")
    assert "other: is frozen" == once("img.example.com", "other: is frozen")
    assert "is frozen" == once(None, "is frozen")


def test_words_after_a_label_begin_in_the_same_column() -> None:
    """A message of several lines stays to the right of its label."""
    assert "  hint: first\n        second\n" == values.text_of(
        list(labelled("hint: ", Tone.FAINT, "first\nsecond", indent=2))
    )


@given(st.text(alphabet="aé中文。Ｗ\u0301", max_size=20), st.integers(0, 10))
def test_padding_counts_cells_not_characters(words: str, more: int) -> None:
    """Chinese characters are two cells wide, and accents have no width."""
    wanted = width(words) + more

    assert wanted == width(padded(words, wanted))


def test_columns_line_up_in_any_script() -> None:
    """The second column begins in the same cell of every row."""
    rows = [(Span("图片"), Span("x")), (Span("img"), Span("y")), (Span("a" * 9), Span("z"))]

    starts = {width(plain(row)[:-1]) for row in columns(rows)}

    assert {11} == starts


def test_a_table_can_be_written_downwards() -> None:
    """If columns are too wide, each row is its first cell and a line for each other cell."""
    rows = ((Span("img"), Span("valid"), Span("")), (Span("  a.img"), Span(""), Span("2 of 2")))
    table = TextTable(("NAME", "STATE", "SERVED"), rows)
    columns_ = "NAME     STATE  SERVED\nimg      valid\n  a.img         2 of 2\n"
    downwards = "img\n  state   valid\n  a.img\n    served  2 of 2\n"

    assert columns_ == values.text_of(aligned(table)) == values.text_of(fitted(table, 22))
    assert downwards == values.text_of(list(stacked(table))) == values.text_of(fitted(table, 21))


def test_table_that_hangs() -> None:
    """If columns are too wide, a long first cell has a line of its own, and the others stay in
    their columns. On a narrower terminal every cell has a line.
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
def test_table_that_hangs_fits_with_all_cells(names: list[str], cells: int) -> None:
    """Every cell is present, in lines that fit unless a single word is too long."""
    table = TextTable(("NAME", "X"), tuple((Span(name), Span("yes")) for name in names), hangs=True)

    rows = [plain(row) for row in fitted(table, cells)]

    assert len(names) == sum(row.count("yes") for row in rows)
    assert all(any(name in row for row in rows) for name in names)
    if max(map(width, names)) <= cells:
        assert max(map(width, rows)) <= cells


def test_coloured_line_is_the_plain_line_with_codes() -> None:
    """The plain line has the same words."""
    failed_line = line(Span("failed", Tone.BAD), " img")

    assert "\x1b[31mfailed\x1b[0m img" == coloured(failed_line)
    assert "failed img" == plain(failed_line)


@given(
    spans=st.lists(st.text(alphabet="ab 中，。`", max_size=12).map(Span), min_size=1, max_size=4),
    cells=st.integers(4, 30),
)
def test_folding_keeps_all_words(spans: list[Span], cells: int) -> None:
    """Only spaces at breaks go, and lines are never blank."""
    rows = [plain(row) for row in folded(tuple(spans), cells)]

    assert "".join(plain(tuple(spans)).split()) == "".join("".join(rows).split())
    assert all(rows) or not plain(tuple(spans))


@given(words=st.text(alphabet="ab 中", max_size=40).map(str.lstrip), cells=st.integers(4, 30))
def test_a_folded_line_fits(words: str, cells: int) -> None:
    """A single word that is too long is the only exception."""
    rows = [plain(row) for row in folded(line(words), cells)]

    assert [] == [row for row in rows if width(row) > cells and set(row.strip()) - {*"ab"}]


def test_folded_line_continues_below_its_last_column() -> None:
    """On a narrow terminal the line continues a little to the right. A command stays whole, and so
    does the tone.
    """
    step_line = line(
        "  deploy   ",
        Span("failed ", Tone.BAD),
        "img.example.com: run `certferry sync --renew img` and wait (HTTPS is off)",
    )

    assert (
        "  deploy   failed img.example.com: run\n"
        "                  `certferry sync --renew img`\n"
        "                  and wait (HTTPS is off)\n"
    ) == values.text_of(folded(step_line, 48))
    assert (
        "  deploy   failed\n"
        "    img.example.com: run\n"
        "    `certferry sync --renew img`\n"
        "    and wait (HTTPS is off)\n"
    ) == values.text_of(folded(step_line, 32))
    assert Span("failed", Tone.BAD) in [
        Span(span.words.strip(), span.tone) for span in folded(step_line, 48)[0]
    ]


def test_line_that_fits_stays_unchanged() -> None:
    """To the exact cell; also a line with breaks of its own."""
    exact = line("a ", Span("中文", Tone.GOOD))

    assert [exact] == folded(exact, 6)
    assert ["a 中", "  文"] == [plain(row) for row in folded(exact, 5)]
    assert [line("one two\nthree")] == folded(line("one two\nthree"), 4)
