"""Asking again: soon at first, then ever later; a CA as late as it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from certferry.adapters.acme.problems import moment_of
from certferry.errors import CaUnavailable, Retry
from certferry.ports.progress import Pause
from certferry.text import Text

FIRST = 0.1  # seconds
GROWTH = 1.5
LONGEST = 10.0  # seconds


def growing(first: float, longest: float) -> Iterator[float]:
    """Give the seconds between looks: short at first, then ever longer."""
    rest = first
    while True:
        yield rest
        rest = min(rest * GROWTH, longest)


@dataclass(slots=True)
class Polling:
    """The rests between looks at one thing that the CA works on, until `deadline`."""

    what: Text
    deadline: datetime
    pause: Pause
    now: Callable[[], datetime]
    _rests: Iterator[float] = field(default_factory=lambda: growing(FIRST, LONGEST), init=False)

    def rest(self, retry_after: str | None = None) -> None:
        """Wait until the next look, and as long as the last answer's Retry-After asks for.

        Raises `CaUnavailable` when there is to be none before the deadline.
        """
        now = self.now()
        asked = moment_of(retry_after, now) or now
        if max(now, asked) >= self.deadline:
            raise self._given_up(asked if asked > now else None)
        seconds = max(next(self._rests), (asked - now).total_seconds())
        self.pause(min(seconds, (self.deadline - now).total_seconds()))

    def _given_up(self, moment: datetime | None) -> CaUnavailable:
        return CaUnavailable(
            Text("{what}: no result until {deadline}", what=self.what, deadline=self.deadline),
            hint=Text("the order is kept: the next `certferry sync` looks at it again"),
            retry=None if moment is None else Retry.at(moment),
        )
