"""Vendors' names stay in the vendors' folders."""

from __future__ import annotations

import ast

import pytest

from tests.house.source_rules import NAMES_A_VENDOR, VENDORS_FOLDERS, may_name_vendors, vendors
from tests.house.tree import PACKAGE, modules


def named_in(text: str) -> list[int]:
    return [line for line, _ in vendors(ast.parse(text), text)]


def test_no_module_outside_the_folders_names_a_vendor() -> None:
    """The rule covers code, prose and sentences for operators."""
    others = [path for path in modules(PACKAGE) if not may_name_vendors(path.relative_to(PACKAGE))]

    assert len(others) > len(NAMES_A_VENDOR)
    assert [] == [path for path in others if named_in(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("module", NAMES_A_VENDOR)
def test_every_exception_is_needed(module: str) -> None:
    """A module that no longer names a vendor leaves the list."""
    assert named_in((PACKAGE / module).read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", sorted(VENDORS_FOLDERS))
def test_every_folder_exists(folder: str) -> None:
    """A removed folder leaves the list."""
    assert (PACKAGE / "adapters" / folder).is_dir()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("kind = 'kodo'", [1]),
        ("# As Qiniu asks.\nx = 1", [1]),
        ("x = 1\ny = '七牛'", [2]),
        ("x = 1  # docs/facts/qiniu.md §2.3", []),
    ],
)
def test_names_in_code_and_prose_count(text: str, lines: list[int]) -> None:
    """A citation of a page of facts does not count."""
    assert lines == named_in(text)
