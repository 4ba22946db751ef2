"""A pace that counts the requests it lets go."""

from __future__ import annotations

from certferry.adapters.clients.pacing import Pace


class CountedPace:
    """A `Pace`. `requests` are those that were let go; counted for one thread alone."""

    def __init__(self, pace: Pace) -> None:
        self.requests = 0
        self._pace = pace

    def wait(self) -> None:
        """Return when the next request may be sent. Raises whatever a pause raises."""
        self._pace.wait()
        self.requests += 1
