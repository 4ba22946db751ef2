"""The door to what is remembered of one account between runs: what worked, what was spent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Edit = Callable[[str | None], str | None]
"""From what a note says to what it is to say; `None` is no note."""


class AccountMemory(Protocol):
    """Short notes about one account. Nothing in them is secret, and losing them costs a few
    requests: an adapter works with none, and never believes one against what it sees.
    """

    def note(self, name: str) -> str | None:
        """Return what a note says, `None` where there is none."""
        ...

    def update(self, name: str, change: Edit) -> str | None:
        """Edit a note and return what it says now. Whole: no other run changes it in between."""
        ...
