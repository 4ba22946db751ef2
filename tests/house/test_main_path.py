"""ARCHITECTURE.md leads a newcomer along the way that a run really takes."""

from __future__ import annotations

import re

import pytest

from tests.house.main_path import MOST_FILES, MOST_LINES, MainPath, walked
from tests.house.tree import ROOT

MODULE = re.compile(r"\b(?:cli|wiring|reconcile|core)(?:/\w+)+\.py\b")
SUM = re.compile(r"These are (\d+) files and about (\d+) lines")


@pytest.fixture(scope="module")
def path() -> MainPath:
    """The way, found by going it."""
    return walked()


def section() -> str:
    """Return what the document says of the way."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return text.partition("## The way of the main job")[2].partition("\n## ")[0]


def test_the_document_names_the_modules_of_the_way(path: MainPath) -> None:
    """All of them, and no other."""
    assert path.modules == frozenset(MODULE.findall(section()))


def test_the_document_says_how_long_the_way_is(path: MainPath) -> None:
    """To the nearest fifty lines."""
    found = SUM.search(section())
    assert found is not None
    files, lines = map(int, found.groups())
    assert files == len(path.modules)
    assert abs(lines - path.lines) <= 50, path.lines


def test_the_way_does_not_grow(path: MainPath) -> None:
    """A feature that most runs do not need lies beside it."""
    assert len(path.modules) <= MOST_FILES
    assert path.lines <= MOST_LINES
