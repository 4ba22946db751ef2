"""Lists of DNSPod's, read page by page; both of its APIs give them in the same way."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from certferry.adapters.clients.json_answers import as_text
from certferry.errors import DnsUnavailable
from certferry.text import Text

MOST_PAGES = 200  # of a list: a hundred thousand domains or records
NUMBER = re.compile(r"[0-9]{1,15}")

Item = dict[str, Any]
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """A call that gives a list in pages: what it is called, where its items stand and what each is
    known by, and where their number stands.
    """

    action: str
    items: str
    key: str
    counts: str
    total: str

    def read(self, page: Callable[[int], Body | None], about: str | Text) -> list[Item]:
        """Read a list to its end, which is no page, an empty one, or the told total. `page` gives
        what follows so many items. Raises `DnsUnavailable` for a list without an end, and for one
        whose pages bring nothing new: half a list is not the whole.
        """
        found: dict[str, Item] = {}
        for _ in range(MOST_PAGES):
            before = len(found)
            body = page(before)
            if body is None:
                break
            items = items_in(body, self.items)
            found.update((as_text(item.get(self.key)), item) for item in items)
            if not items or len(found) >= self._total(body):
                break
            if len(found) == before:
                raise _endless(about)
        else:
            raise _endless(about)
        return list(found.values())

    def _total(self, body: Body) -> float:
        """Give how many items there are in all; endless when the answer does not say."""
        counts = body.get(self.counts)
        total = number_of(counts.get(self.total)) if isinstance(counts, dict) else None
        return math.inf if total is None else total


def _endless(about: str | Text) -> DnsUnavailable:
    return DnsUnavailable(Text("{about}: a list at DNSPod does not come to an end", about=about))


def items_in(body: Body, key: str) -> list[Item]:
    """Give the items of a list in an answer, as far as they are any."""
    items = body.get(key)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def number_of(value: object) -> int | None:
    """Read a number, which may be written as a text."""
    written = as_text(value)
    return int(written) if NUMBER.fullmatch(written) else None
