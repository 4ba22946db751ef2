"""What an order is proven with, besides the CA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from certferry.adapters.acme.problems import moment_of
from certferry.errors import CaUnavailable, Retry
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Pause
from certferry.ports.state import StateStore
from certferry.text import Text

Report = Callable[[Text, datetime, datetime | None], None]
"""Takes a sentence about what the run waits for, since when, and until when at most."""

Count = Callable[[int, int], None]
"""Takes how many of the names are done that the last sentence was about, and of how many."""

Proven = Callable[[Sequence[str]], frozenset[str]]
"""Gives those of some names, without `*.`, that a standing record proves."""


def proven_by_none(names: Sequence[str]) -> frozenset[str]:
    """Where records are not looked for, none proves a name."""
    del names
    return frozenset()


def not_counted(done: int, names: int) -> None:
    """Where no display listens, count nothing."""
    del done, names


class Propagation(Protocol):
    """Asks the authoritative name servers."""

    @property
    def sees_cnames(self) -> bool:
        """Whether CNAMEs are looked for at all."""
        ...

    def follow(self, name: str) -> str:
        """Give the name at which a TXT value for `name` must be put: the end of its CNAMEs."""
        ...

    def wildcard_alias(self, name: str) -> str | None:
        """Give the name that a wildcard makes this one an alias of, which `follow` passes over."""
        ...

    def wait(self, wanted: Mapping[str, frozenset[str]], report: Report) -> None:
        """Wait until every authoritative server shows the values. Raises `DnsError`."""
        ...


@dataclass(frozen=True, slots=True)
class OrderContext:
    """The account that writes, and what it takes to see that it is seen."""

    dns: DnsProvider
    state: StateStore
    propagation: Propagation
    pause: Pause
    now: Callable[[], datetime]
    report: Report
    proven: Proven = proven_by_none
    count: Count = not_counted


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
