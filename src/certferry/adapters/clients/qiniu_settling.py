"""Look for a write whose answer is lost before making it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.ports.progress import Pause

ATTEMPTS = 2  # at a write whose answer does not come
# Seconds before each look for a write without an answer: it may still be on its way.
LOOKS = (0.5, 1.5, 4.0)

T = TypeVar("T")


class Settler:
    """Makes writes that may be lost."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause

    def until_settled(self, write: Callable[[], T], look: Callable[[], T | None]) -> T:
        """Write; when the answer is lost, look whether it was done before doing it again."""
        for _ in range(ATTEMPTS):
            try:
                return write()
            except QiniuFailure as failure:
                if not failure.maybe_done:
                    raise
                lost = failure
            found = self._look_for(look)
            if found is not None:
                return found
        raise lost

    def _look_for(self, look: Callable[[], T | None]) -> T | None:
        for seconds in LOOKS:
            self._pause(seconds)
            found = look()
            if found is not None:
                return found
        return None
