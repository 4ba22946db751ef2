"""The page on renewals lists the rules of the code, in both languages."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module

import pytest

from certferry.core.planning import renewal
from certferry.core.reasons import ReasonCode
from tests.house.tree import ROOT

REASONS = [rule.__name__ for rule in renewal.REASONS]
HOLDS = [rule.code for rule in renewal.HOLDS]


@pytest.mark.parametrize("language", ["", ".zh-CN"])
def test_page_lists_every_rule_in_order(language: str) -> None:
    """The page has exactly the rules of the code."""
    path = ROOT / "docs" / "explanation" / f"when-it-renews{language}.md"
    listed = re.findall(r"^\| `(\w+)` \|", path.read_text(encoding="utf-8"), re.MULTILINE)

    assert [*REASONS, *HOLDS] == listed


def test_reasons_are_called_by_their_codes() -> None:
    """A reason in `--json` leads to its function, and to its line on the page."""
    assert {code.value for code in ReasonCode} >= set(REASONS)


@pytest.mark.parametrize("rule", renewal.HOLDS, ids=HOLDS)
def test_each_hold_names_the_place_that_decides(rule: renewal.Rule) -> None:
    """A rule that moves to another room changes its line as well."""
    room, _, name = rule.place.rpartition(".")
    names = [name]
    while room and not _is_module(room):
        room, _, outer = room.rpartition(".")
        names.insert(0, outer)
    module = import_module(f"certferry.{room}") if room else renewal

    assert reduce(getattr, names, module) is not None


def _is_module(room: str) -> bool:
    return (ROOT / "src" / "certferry" / f"{room.replace('.', '/')}.py").is_file()
