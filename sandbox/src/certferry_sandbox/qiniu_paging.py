"""Qiniu's lists: a page, and a marker for the next one (docs/facts/qiniu.md §4.2, §5.1)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from certferry_sandbox.qiniu_answers import Refused

DEFAULT_LIMIT = 10  # §5.1 for domains; unknown for certificates, taken as equal
LIMIT_MAX = 1000  # the same
STUCK_MARKER = "c3R1Y2s="


class Numbered(Protocol):
    """A thing with its place in the list: numbers only grow."""

    @property
    def number(self) -> int:
        """Its place."""


Item = TypeVar("Item", bound=Numbered)


@dataclass
class Pager:
    """Cuts pages. With `advances` off, every page is the first and its marker the same.

    A full page always carries a marker, so a list may end with an empty page (§4.2).
    """

    advances: bool = True

    def page(self, items: Sequence[Item], query: Mapping[str, str]) -> tuple[list[Item], str]:
        """The page that a query asks for and the marker of the next, "" at the end.

        Raises Refused for a limit outside 1 to 1000 (400000) and an unknown marker (400021).
        """
        limit, after = _limit(query.get("limit", "")), _after(query.get("marker", ""))
        if not self.advances:
            return list(items[:limit]), STUCK_MARKER
        page = [item for item in items if item.number > after][:limit]
        return page, _marker(page[-1].number) if len(page) == limit else ""


def _limit(given: str) -> int:
    if not given:
        return DEFAULT_LIMIT
    if not given.isdecimal() or not 1 <= int(given) <= LIMIT_MAX:
        raise Refused(400000, "invalid limit")
    return int(given)


def _marker(number: int) -> str:
    return base64.urlsafe_b64encode(b"%d" % number).decode()


def _after(marker: str) -> int:
    if marker in ("", STUCK_MARKER):
        return 0
    try:
        return int(base64.urlsafe_b64decode(marker))
    except ValueError as problem:
        raise Refused(400021) from problem
