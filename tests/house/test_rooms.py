"""Each room says on one short page what lives in it, and the tests lie in the same rooms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.tree import PACKAGE, ROOT, SANDBOX, relative

LONGEST = 15  # lines: a page that is read before the code, not in its place
MODULE = re.compile(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)`")
MIRRORED = ("adapters", "core")

ROOMS = sorted(
    [*(file.parent for file in PACKAGE.glob("*/__init__.py")), SANDBOX, SANDBOX / "testing"]
)
PAGES = sorted([*PACKAGE.rglob("README.md"), *SANDBOX.rglob("README.md")])


@pytest.mark.parametrize("room", ROOMS, ids=relative)
def test_each_room_has_a_page(room: Path) -> None:
    """Also each room of the core."""
    assert (room / "README.md") in PAGES
    if "core" == room.name:
        assert all((file.parent / "README.md") in PAGES for file in room.glob("*/__init__.py"))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_a_page_is_short(page: Path) -> None:
    """It says where to begin and what may not be imported, and leaves the rest to docstrings."""
    text = page.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= LONGEST
    assert "**Begin** with" in text
    assert ("**May not be imported:**" in text) or ("**Not here:**" in text)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_a_page_names_only_modules_that_exist(page: Path) -> None:
    """By their path in the room, beside it, or in its package."""
    places = (page.parent, page.parent.parent, PACKAGE)
    named = MODULE.findall(page.read_text(encoding="utf-8"))

    assert [] == [name for name in named if not any((place / name).exists() for place in places)]


@pytest.mark.parametrize("room", MIRRORED)
def test_the_tests_lie_in_the_rooms_that_they_are_about(room: str) -> None:
    """No folder of tests is left of a room that is no more."""
    tests = {
        folder.name for folder in (ROOT / "tests" / room).iterdir() if any(folder.glob("*.py"))
    }
    rooms = {file.parent.name for file in (PACKAGE / room).glob("*/__init__.py")}

    assert tests <= rooms
