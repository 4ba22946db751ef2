"""The page of `certferry watch` names every code that programs may meet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from certferry.core.certificates.chain import EdgeProblemCode
from tests.house.tree import ROOT

PAGES = sorted((ROOT / "docs" / "reference").glob("watch*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_code_of_an_edge_is_on_the_page(page: Path) -> None:
    """Each once, and none that there is not."""
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", page.read_text(), re.MULTILINE)

    assert sorted(code.value for code in EdgeProblemCode) == sorted(rows)
