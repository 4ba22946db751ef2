"""The rules at Qiniu are the same in both languages, row by row."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import zip_longest

import pytest

from tests.house.tree import ROOT

ENGLISH, CHINESE = (
    (ROOT / "docs" / "reference" / f"qiniu{language}.md").read_text(encoding="utf-8")
    for language in ("", ".zh-CN")
)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
NUMBER = re.compile(r"\d+(?:,\d{3})*")
NAME = re.compile(r"`([!-~ ]+)`")
MARKS = {"seen": "见过", "documented": "文档", "guessed": "推测"}
MARK = re.compile("|".join((*MARKS, *MARKS.values())))
SOURCES = re.compile(r"\(.*?\)|（.*?）")


def tables(page: str) -> list[list[str]]:
    """Give the rows of each table."""
    return [table.splitlines() for table in TABLE.findall(page)]


def numbers(row: str) -> list[str]:
    """Give all numbers of a row: what is a word in one language is a word in the other."""
    return sorted(number.replace(",", "") for number in NUMBER.findall(row))


def marks(row: str) -> list[str]:
    """Give the marks of the last column, in Chinese, without their sources."""
    last = SOURCES.sub("", row.rstrip("| ").rpartition("|")[2])
    return [MARKS.get(mark, mark) for mark in MARK.findall(last)]


ROWS = [
    rows
    for english, chinese in zip(tables(ENGLISH), tables(CHINESE), strict=False)
    for rows in zip_longest(english, chinese, fillvalue="")
]


def test_both_pages_have_as_many_rows() -> None:
    """Under each heading, so that those beside one another are the same rule."""
    english, chinese = ([len(table) for table in tables(page)] for page in (ENGLISH, CHINESE))

    assert english == chinese
    assert len(ROWS) == sum(english) > 200


@pytest.mark.parametrize("tell", [numbers, marks], ids=["numbers", "marks"])
def test_rows_tell_the_same(tell: Callable[[str], list[str]]) -> None:
    """Codes, periods and limits; and how well each reason is known."""
    assert [] == [row for row in ROWS if tell(row[0]) != tell(row[1])]


def test_rows_name_the_same() -> None:
    """What is no word of Chinese stands in the English row as well: a state, a call, a setting."""
    other = [
        (name, english)
        for english, chinese in ROWS
        for name in NAME.findall(chinese)
        if f"`{name}`" not in english
    ]

    assert [] == other


def test_every_rule_has_a_mark() -> None:
    """One of the three that the page explains."""
    for page, heading in ((ENGLISH, "Mark and source"), (CHINESE, "标记与来源")):
        marked = [table for table in tables(page) if heading in table[0]]
        assert len(marked) > 8
        assert [] == [row for table in marked for row in table[2:] if not marks(row)]
