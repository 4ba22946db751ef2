"""What an order is proven with, besides the CA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

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
