"""The page about three simulated years has the tables of its command."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.three_years import COLUMNS, LIVES, SCENARIOS, YEARS, cells, measure, table
from tests.house.tree import ROOT
from tests.support.tiers import long, thorough

ENGLISH, CHINESE = (
    ROOT / "docs" / "explanation" / f"three-years{language}.md" for language in ("", ".zh-CN")
)
HEADER, _ = table(())
NUMBERS = re.compile(r"−?\d+")


def tables(page: Path) -> list[list[list[str]]]:
    """Return the rows of each table with these columns, without its head."""
    all_tables: list[list[list[str]]] = []
    for line in page.read_text(encoding="utf-8").splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ---") and len(row) == len(COLUMNS):
            all_tables.append([])
        elif all_tables and line.startswith("|") and len(row) == len(COLUMNS):
            all_tables[-1].append(row)
    for rows in all_tables[:-1]:
        del rows[len(SCENARIOS) :]  # the head of the next table
    return all_tables


def test_page_has_every_table_and_every_scenario() -> None:
    """The order is the order of the command."""
    text = ENGLISH.read_text(encoding="utf-8")
    titles = re.findall(r"^### (.*)$", text, re.MULTILINE)

    assert [life.title for life in LIVES.values()] == titles
    assert len(LIVES) == text.count(HEADER) == len(tables(ENGLISH))
    for rows in tables(ENGLISH):
        assert [scenario.name for scenario in SCENARIOS] == [row[0] for row in rows]


def test_both_languages_have_the_same_numbers() -> None:
    """The tables are compared cell by cell."""
    english, chinese = (
        [[list(map(NUMBERS.findall, row[1:])) for row in rows] for rows in tables(page)]
        for page in (ENGLISH, CHINESE)
    )
    assert english == chinese


def test_no_certificate_of_45_days_and_more_expires() -> None:
    """The page promises the same for six days in the scenario without trouble."""
    *long, short = tables(ENGLISH)
    expiry = COLUMNS.index("closest to expiry")

    assert [] == [row for rows in long for row in rows if "−" in row[expiry]]
    assert "−" not in short[0][expiry]


SHORTEST, DAYS = list(LIVES)[-1], 5
"""A row of the shortest certificates takes two and a half minutes of a core, and each other row a
tenth: a day's run simulates a fifth of the former, so all rows are compared within `DAYS` days.
"""
TODAY = datetime.now(UTC).toordinal() % DAYS
ROWS = [
    (life, number)
    for life in LIVES
    for number in range(len(SCENARIOS))
    if life != SHORTEST or number % DAYS == TODAY
]


@thorough
@long
@pytest.mark.timeout(1800)  # three years of short certificates, while branches are counted
@pytest.mark.parametrize(("life", "number"), ROWS)
def test_row_of_the_page_equals_the_output_of_the_command(life: str, number: int) -> None:
    """The years are simulated again."""
    (row,) = tables(ENGLISH)[list(LIVES).index(life)][number : number + 1]

    assert list(cells(number, measure(life, number, YEARS))) == row
