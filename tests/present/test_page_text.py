"""Markdown, as a terminal shows it."""

from __future__ import annotations

from textwrap import dedent

import pytest

from certferry.present.layout import coloured, plain
from certferry.present.pages import lines


def shown(text: str, cells: int = 40) -> str:
    """Give a page without colour."""
    return "\n".join(plain(row) for row in lines(dedent(text), cells))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("# A title: `x`", "A title: `x`"),
        ("one\ntwo", "one two"),
        ("一\n二 `x`\n三", "一二 `x` 三"),
        ("**bold** and *soft* and `a*b*c` and a * b", "bold and soft and `a*b*c` and a * b"),
        ("**`a`**：一", "`a`：一"),
        ("see [it](config.md)", "see it (`certferry help config`)"),
        ("see [it](../how-to/backup.zh-CN.md#x)", "see it (`certferry help backup`)"),
        ("see [it](https://x.example)", "see it (https://x.example)"),
        ("see [it](../decisions/0001-x.md)", "see it"),
        ("- one\n  more\n- two", "- one more\n- two"),
        ("1. one\n2. two", "1. one\n2. two"),
        ("```console\n$ a  b\n\n$ c\n```", "    $ a  b\n\n    $ c"),
        ("[中文](x.zh-CN.md)\n\nText", "Text"),
        ("<!-- for authors -->\n\nText", "Text"),
    ],
)
def test_marks_are_taken_away(written: str, read: str) -> None:
    """What they mean stays."""
    assert read == shown(written)


def test_a_list_hangs() -> None:
    """An item that is longer than a line goes on below its words."""
    assert "- 12345678 12345678 12345678\n  12345678" == shown("- 12345678" + " 12345678" * 3, 30)


def test_a_row_of_a_table_is_written_downwards() -> None:
    """Its first cell, and below it each of the others that says something, by its header."""
    table = """\
        | code | cause | fix |
        | --- | --- | --- |
        | `a` | one or another thing that happened | do [it](x.md) |
        | `b` | a \\| b | |
        """

    assert dedent("""\
        `a`
          cause: one or another thing that
            happened
          fix: do it (`certferry help x`)

        `b`
          cause: a | b""") == shown(table)


def test_a_page_is_no_wider_than_can_be_read() -> None:
    """However wide the terminal is. Headings are strong."""
    rows = shown("word " * 100, 400).splitlines()

    assert max(map(len, rows)) <= 100
    assert ["\x1b[1mA\x1b[0m"] == [coloured(row) for row in lines("# A", 80)]
