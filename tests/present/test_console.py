"""Where words go: data to stdout, the rest to stderr, colour and drawing only where they belong."""

from __future__ import annotations

import json

import pytest

from certferry.present.layout import Span, Table, Tone, line, width
from tests.cli.consoles import Paper, TestConsole, terminal

FAILED = line(Span("failed", Tone.BAD), " img")
TABLE = Table(
    ("NAME", "STATE", "SERVED"),
    (
        (Span("  图片.example.com"), Span("verified", Tone.GOOD), Span("2 of 2")),
        (Span("  img.example.com"), Span("failed", Tone.BAD), Span("0 of 2")),
    ),
)
PLAIN = (
    "NAME                STATE     SERVED\n"
    "  图片.example.com  verified  2 of 2\n"
    "  img.example.com   failed    0 of 2\n"
)
DOWNWARDS = (
    "  图片.example.com\n"
    "    state   verified\n"
    "    served  2 of 2\n"
    "  img.example.com\n"
    "    state   failed\n"
    "    served  0 of 2\n"
)


def test_a_terminal_gets_colour() -> None:
    """Data and remarks are coloured on a terminal."""
    console = terminal()

    console.console.print([FAILED])
    console.console.print_stderr([FAILED])

    assert "\x1b[31mfailed\x1b[0m img\n" == console.out == console.err


@pytest.mark.parametrize(
    "console",
    [TestConsole(), terminal(NO_COLOR="1"), terminal(TERM="dumb"), terminal(TERM="")],
    ids=["a file", "NO_COLOR", "a dumb terminal", "no TERM"],
)
def test_colour_is_left_out_where_it_is_not_wanted(console: TestConsole) -> None:
    """The words alone say it."""
    console.console.print([FAILED])

    assert "failed img\n" == console.out


def test_a_table_is_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any script: where columns do not fit, rows are written downwards."""
    for columns, expected in ((36, PLAIN), (35, DOWNWARDS), (25, DOWNWARDS)):
        monkeypatch.setenv("COLUMNS", str(columns))
        console = terminal(NO_COLOR="1")

        console.console.print_table(TABLE)

        assert expected == console.out
        assert all(width(row) <= columns for row in console.out.split("\n"))


def test_a_table_is_coloured_unless_told_otherwise() -> None:
    """NO_COLOR is obeyed by tables too."""
    coloured, bare = terminal(), terminal(NO_COLOR="1")

    coloured.console.print_table(TABLE)
    bare.console.print_table(TABLE)

    assert "\x1b[31mfailed" in coloured.out
    assert "\x1b" not in bare.out


def test_elsewhere_a_table_is_plain_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and pipes get columns, however wide they become."""
    monkeypatch.setenv("COLUMNS", "10")
    console = TestConsole()

    console.console.print_table(TABLE, below=[line("img: due")])

    assert PLAIN + "\nimg: due\n" == console.out


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", "图片"), ("UTF8", "图片"), ("ascii", "\\u56fe\\u7247")]
)
def test_a_document_is_readable_where_the_stream_can_write_it(encoding: str, expected: str) -> None:
    """JSON is never broken by an old locale."""
    console = TestConsole(stdout=Paper(encoding=encoding))

    console.console.print_json({"name": "图片"})

    assert expected in console.out
    assert {"name": "图片"} == json.loads(console.out)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_document_on_a_terminal_moves_no_cursor(encoding: str) -> None:
    """What others say is in documents as well, and the eight-bit controls and those that turn text
    around are nothing that JSON escapes.
    """
    console = TestConsole(stdout=Paper(encoding=encoding))
    hostile = {"name": "\x1b[2J\x9b31m\u202e\x7f"}

    console.console.print_json(hostile)

    assert console.out.isprintable() or set(console.out) <= {"\n", *map(chr, range(32, 127))}
    assert hostile == json.loads(console.out)
