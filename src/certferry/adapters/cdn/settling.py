"""Writes whose answer was lost: a search shows whether the service carried out the write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from certferry.adapters.cdn.failure import CallFailure
from certferry.ports.progress import Pause

T = TypeVar("T")

ATTEMPTS = 2  # for a write with lost answers
# Seconds before each search for an unanswered write, which the service may still be carrying out.
SEARCHES = (0.5, 1.5, 4.0)


class Settler(Struct, frozen=True):
    """Repeats a write once after a lost answer, unless a search shows that the write was done."""

    pause: Pause

    def until_settled(self, write: Callable[[], T], find: Callable[[], T | None]) -> T:
        """Return the result of `write`. If the answer of `write` is lost, return the result of
        `find`, which returns `None` while the write has left no trace.

        If none of the `SEARCHES` finds a trace, the write is repeated once. Raises the
        `CallFailure` of `write` or `find`.
        """
        for _ in range(ATTEMPTS):
            try:
                return write()
            except CallFailure as failure:
                if not failure.maybe_done:
                    raise
                lost = failure
            for seconds in SEARCHES:
                self.pause(seconds)
                if (result := find()) is not None:
                    return result
        raise lost
