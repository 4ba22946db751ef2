"""The daily run that the system starts: what is run, when, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Self

from certferry.text import Text

NIGHT_HOURS = 6
"""From midnight on: the hours in which a CDN's change disturbs fewest visitors."""

_MINUTES = 59
NIGHT_MOMENTS = NIGHT_HOURS * _MINUTES
"""How many moments there are to choose from. Full hours are none: everybody's jobs run then, and
CAs ask for another minute (letsencrypt.org/docs/integration-guide, "When to Renew", 2026-11).
"""


@dataclass(frozen=True, slots=True)
class DailyTime:
    """A time of day, by the clock of the machine."""

    hour: int
    minute: int

    @classmethod
    def at_night(cls, number: int) -> Self:
        """Give one of the `NIGHT_MOMENTS`, counted from 0."""
        hour, minute = divmod(number % NIGHT_MOMENTS, _MINUTES)
        return cls(hour, minute + 1)


@dataclass(frozen=True, slots=True)
class Job:
    """What is run: absolute, so that it needs neither this directory nor this environment.

    `environment` is what it needs all the same. It reads the files `reads`, and writes into the
    directories `keeps`, which are its own, and `fills`, which exist. With `changes_owners` it gives
    files away; with `runs_programs` it starts programs of the operator's, whose needs nobody knows.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    fills: tuple[str, ...] = ()
    changes_owners: bool = False
    runs_programs: bool = False


class Change(Enum):
    """What became of an installation."""

    INSTALLED = "installed"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A run that is installed.

    `every_day` is false where somebody has chosen another rhythm, or one that is not understood.
    `next_run` is `None` where nobody knows it. `to_do` is what somebody has to do before the
    system starts it. `arguments` are the words of `command`, none where they are not clear, and
    `path` is where it looks for programs, written like PATH; `None` where nobody knows.
    """

    place: Text
    command: str
    when: Text
    every_day: bool = True
    next_run: datetime | None = None
    to_do: Text | None = None
    arguments: tuple[str, ...] = ()
    path: str | None = None
