"""The page about a hundred thousand certificates has the tables that its commands print."""

from __future__ import annotations

import re

from benchmarks.run_cost import MOST
from benchmarks.scale import CERTIFICATES, needed
from tests.house.tree import ROOT

ENGLISH, CHINESE = (
    (ROOT / "docs" / "explanation" / f"scale{language}.md").read_text(encoding="utf-8")
    for language in ("", ".zh-CN")
)
ROW = re.compile(r"^\| .*\|$", re.MULTILINE)
NUMBERS = re.compile(r"\d[\d,.]*")


def test_page_has_what_the_arithmetic_says() -> None:
    """By the rules that are in force: a changed limit, share or promise changes the page."""
    lines = needed(CERTIFICATES)

    assert [] == [line for line in lines if line and line not in ENGLISH.splitlines()]


def test_page_has_what_every_kind_of_run_costs() -> None:
    """At most what is promised, which a test of the whole command holds."""
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in ROW.findall(ENGLISH)]
    costs = {row[0]: row[1:4] for row in rows if row[0] in MOST and len(row) == 5}

    assert MOST.keys() == costs.keys()
    for what, most in MOST.items():
        for counted, promised in zip(costs[what], (most.ca, most.dns, most.cdn), strict=True):
            assert int(counted) <= promised


def test_both_languages_have_the_same_numbers() -> None:
    """Row by row."""
    english, chinese = (
        [NUMBERS.findall(row) for row in ROW.findall(page)] for page in (ENGLISH, CHINESE)
    )
    assert english == chinese
