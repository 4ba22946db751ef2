"""Lists read page by page: by numbers, by offsets and by markers."""

from __future__ import annotations

from itertools import count

import pytest

from certferry.adapters.cdn.lists import MOST_PAGES, MOST_WITHOUT_NEWS, Page, never_ends, whole_list
from certferry.errors import TargetUnavailable
from certferry.text import Text


@pytest.mark.parametrize("total", [0, 1, 50, 51, 100])
def test_numbered_pages(total: int) -> None:
    """Every entry once, whether the last page is full or not."""
    size, places = 50, list[str]()

    def page_at(place: str) -> Page[int]:
        places.append(place)
        number = int(place or 1)
        entries = range((number - 1) * size, min(number * size, total))
        following = str(number + 1) if number * size < total else ""
        return Page({str(entry): entry for entry in entries}, following)

    assert list(range(total)) == whole_list(page_at)
    assert max(1, -(-total // size)) == len(places)


def test_an_entry_on_two_pages_counts_once() -> None:
    """A list that grows while read repeats entries; undecodable entries are left out."""
    pages = {
        "": Page({"a": 1, "b": 2}, "b"),
        "b": Page({"b": 2, "odd": None, "c": 3}),
    }

    assert [1, 2, 3] == whole_list(pages.__getitem__)


@pytest.mark.parametrize("places", [["x"], ["x", "y"]])
def test_a_list_in_a_circle_ends(places: list[str]) -> None:
    """A repeated place without new entries is an endless list."""
    numbers = count()

    def page_at(place: str) -> Page[int]:
        del place
        return Page({"a": 1}, places[next(numbers) % len(places)])

    assert whole_list(page_at) is None
    assert next(numbers) <= MOST_WITHOUT_NEWS


def test_a_list_that_always_has_news_ends_too() -> None:
    """The number of pages has a limit."""
    numbers = count()

    def page_at(place: str) -> Page[int]:
        number = next(numbers)
        return Page({place: number}, str(number))

    assert whole_list(page_at) is None
    assert MOST_PAGES == next(numbers)


def test_the_error_names_list_and_service() -> None:
    """A later run reads the list again."""
    error = never_ends(Text("the list of domains"), Text("Harbour"))

    assert isinstance(error, TargetUnavailable)
    assert "the list of domains at Harbour never ends" == str(error)
