"""The runs that the system starts, twice a day: what is run, when, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import Enum

from certferry.text import Text

NIGHT_HOURS = 6
"""From midnight on: the hours in which a CDN's change disturbs fewest visitors. The second run of a
day comes half a day after the first (Let's Encrypt asks for two, at a random second:
docs/facts/letsencrypt.md §3.1)."""

_MINUTES, _SECONDS = 59, 60
NIGHT_MOMENTS = NIGHT_HOURS * _MINUTES * _SECONDS
"""How many moments there are to choose from. The first minute of an hour is none: most machines'
jobs run then.
"""

_HALF_A_DAY = 12  # hours


def night_time(number: int) -> time:
    """Return one of the `NIGHT_MOMENTS`, counted from 0, by the clock of the machine."""
    minutes, second = divmod(number % NIGHT_MOMENTS, _SECONDS)
    hour, minute = divmod(minutes, _MINUTES)
    return time(hour, minute + 1, second)


def twice(moment: time) -> tuple[time, time]:
    """Return the two moments of a day, half a day apart, of which this is one."""
    first = moment.replace(hour=moment.hour % _HALF_A_DAY)
    return first, first.replace(hour=first.hour + _HALF_A_DAY)


@dataclass(frozen=True, slots=True)
class Job:
    """What is run, absolute, with the `environment` that it needs all the same and the directories
    into which it `writes`. With `runs_programs` it starts programs of the operator's.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    runs_programs: bool = False
    on_failure: tuple[str, ...] = ()


class Installation(Enum):
    """What became of an installation."""

    INSTALLED = "installed"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A run that is installed. `to_do` is what the operator has to do before the system is sure to
    start it; `path` is where it looks for programs, written like PATH.
    """

    place: Text
    command: str
    when: Text
    next_run: datetime | None
    to_do: Text | None
    path: str


MINUTE = timedelta(minutes=1)
MOST = 5


def may_ping(sent: Sequence[datetime], now: datetime, *, ends: bool) -> bool:
    """Return whether a ping may be sent. One for a beginning leaves room for that of the end."""
    return len(recent(sent, now)) < (MOST if ends else MOST - 1)


def recent(sent: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the pings of the last minute, none by a clock that was ahead."""
    return tuple(moment for moment in sent if now - MINUTE < moment <= now)
