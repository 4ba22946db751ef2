"""A run for tests, without pauses."""

from __future__ import annotations

from collections.abc import Callable

from certferry.reconcile.run import Run


class AtOnce(Run):
    """A run whose pauses end at once; `note` gets the seconds of each pause."""

    def __init__(self, note: Callable[[float], object] = lambda _: None) -> None:
        super().__init__()
        self._note = note

    def pause(self, seconds: float) -> None:
        self._note(seconds)
