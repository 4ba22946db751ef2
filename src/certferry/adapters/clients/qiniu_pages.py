"""Qiniu's lists, read page by page to their end. Half an account is never taken for the whole: what
is missing there would be uploaded again, or removed as if it were of no use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

import msgspec

from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_records import decode_entry
from certferry.errors import TargetUnavailable
from certferry.text import Text

MOST_PAGES = 200  # of a list: forty thousand certificates
MOST_WITHOUT_NEWS = 10
"""Pages one after the other that bring nothing new, where the marker goes on."""

T = TypeVar("T")
Page = tuple[tuple[msgspec.Raw, ...], str]
"""The entries, each still to be decoded, and the marker of the next page."""


def paging(marker: str, limit: int) -> str:
    """Write what asks for a page."""
    return f"marker={quote(marker, safe='')}&limit={limit}"


def all_pages(
    what: Text, read_page: Callable[[str], Page], into: type[T], identity: Callable[[T], str]
) -> list[T]:
    """Read on until a page has no marker, which alone is the end (docs/facts/qiniu.md §4.2). Raises
    `QiniuFailure` for a list that leads on to nothing new, or without an end.
    """
    found: dict[str, T | None] = {}
    marker, asked, without_news = "", {""}, 0
    for _ in range(MOST_PAGES):
        page, marker = read_page(marker)
        before = len(found)
        for raw in page:
            item = decode_entry(raw, into)
            # What cannot be read is counted by its bytes: a page of it is no end of the list.
            found[bytes(raw).decode(errors="replace") if item is None else identity(item)] = item
        if not marker:
            return [item for item in found.values() if item is not None]
        without_news = 0 if len(found) > before else without_news + 1
        if without_news > MOST_WITHOUT_NEWS or (without_news and marker in asked):
            break
        asked.add(marker)
    raise QiniuFailure(
        TargetUnavailable(
            Text("{what} at Qiniu does not come to an end", what=what),
            hint=Text("the next run reads it again; if it stays so, tell Qiniu's support"),
        )
    )
