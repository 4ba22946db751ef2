"""The page of `doctor` has every code, in both languages, and no other; each code has its tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from certferry.core.findings import Code
from tests.house.tree import ROOT, relative

PAGES = (ROOT / "docs/reference/doctor.md", ROOT / "docs/reference/doctor.zh-CN.md")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_page_has_every_code(page: Path) -> None:
    """An operator finds what was printed, with its cause and its fix."""
    rows = re.findall(r"^\| (`[a-z_`、, ]+) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    told = [code for row in rows for code in re.findall(r"[a-z_]+", row)]

    assert sorted(Code) == sorted(told)


def test_each_code_is_met_by_a_test() -> None:
    """By its name in the sources, or as it is printed."""
    tests = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "tests").rglob("test_*.py")
        if path != Path(__file__)
    ]
    words = "\n".join(tests)

    unmet = [code for code in Code if f"Code.{code.name}" not in words and f'"{code}"' not in words]

    assert [] == unmet
