"""Lists of a service, read page by page to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from msgspec import Raw, Struct

from certferry.adapters.cdn.answers import decode_entry
from certferry.errors import DeployError, TargetUnavailable
from certferry.text import Text

MOST_PAGES = 200  # per list: forty thousand certificates, at 200 on a page
MOST_WITHOUT_NEWS = 10  # consecutive pages without a new entry, while the list goes on

T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True):
    """A page of a list."""

    #: The entries by their identity; `None` for an undecodable entry.
    entries: Mapping[str, T | None]
    #: The place of the next page, a marker or a number; empty at the end of the list.
    following: str = ""


def page_of(
    raws: Iterable[Raw], into: type[T], identity: Callable[[T], str], following: str
) -> Page[T]:
    """Return a page of decoded entries. An undecodable entry counts by its bytes: a page full of
    them is still news.
    """
    items = ((raw, decode_entry(raw, into)) for raw in raws)
    entries = {
        bytes(raw).decode(errors="replace") if item is None else identity(item): item
        for raw, item in items
    }
    return Page(entries, following)


def whole_list(page_at: Callable[[str], Page[T]]) -> list[T] | None:
    """Read pages with `page_at` until the end of the list, and return the entries, without
    undecodable entries. An entry on two pages counts once. `page_at` takes the place of a page, and
    the place of the first page is empty.

    Return `None` for an endless list: a place is repeated without new entries, more than
    `MOST_WITHOUT_NEWS` pages in a row have no new entry, or the list has more than `MOST_PAGES`.
    """
    entries: dict[str, T | None] = {}
    place, places, without_news = "", {""}, 0
    for _ in range(MOST_PAGES):
        page, before = page_at(place), len(entries)
        place = page.following
        entries |= page.entries
        if not place:
            return [entry for entry in entries.values() if entry is not None]
        without_news = 0 if len(entries) > before else without_news + 1
        if without_news > MOST_WITHOUT_NEWS or (without_news and place in places):
            break
        places.add(place)
    return None


def never_ends(what: Text, service: Text) -> DeployError:
    """Return the error for an endless list."""
    return TargetUnavailable(
        Text("{what} at {service} never ends", what=what, service=service),
        hint=Text(
            "the next run reads the list again; if the error persists, ask the support of"
            " {service}",
            service=service,
        ),
    )
