"""The runs that the system starts, twice a day: what is run, when, and how it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import Enum

from certferry.core.observed.records import LastRun
from certferry.text import Text

NIGHT_HOURS = 6
"""From midnight on: the hours in which a CDN's change disturbs fewest visitors. The second run of a
day comes half a day after the first (Let's Encrypt asks for two, at a random second:
docs/facts/letsencrypt.md §3.1)."""

_MINUTES, _SECONDS = 59, 60
NIGHT_MOMENTS = NIGHT_HOURS * _MINUTES * _SECONDS
"""How many moments there are: none in an hour's first minute, when most machines' jobs run."""

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


MISSED = timedelta(hours=13)
"""From this age of the last run on, the one after it was missed, as by a machine that was off."""


def moments_of(host: str) -> tuple[time, time]:
    """Return when a process that goes on for ever makes its two runs of a day: others on another
    `host`, the same after a restart.
    """
    return twice(night_time(int.from_bytes(hashlib.sha256(host.encode()).digest()[:8])))


def last_due(moments: tuple[time, time], now: datetime) -> datetime:
    """Return the last of a day's moments that is not after `now`, by the clock of its zone."""
    yesterday = now.date() - timedelta(days=1)
    found = [datetime.combine(now.date(), moment, now.tzinfo) for moment in moments]
    past = [moment for moment in found if moment <= now]
    return max(past, default=datetime.combine(yesterday, moments[-1], now.tzinfo))


@dataclass(frozen=True, slots=True)
class Job:
    """An absolute command with its environment, the directories into which it `writes`, and those
    of its `sockets`.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    runs_programs: bool = False
    on_failure: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()


class Installation(Enum):
    """The result of an installation."""

    INSTALLED = "installed"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """An installed run, what is still `to_do` before it starts, and its PATH."""

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


@dataclass(frozen=True, slots=True)
class Beat:
    """The last round of the heartbeat: the host that sends it, since when, and how it ended."""

    host: str
    at: datetime
    succeeded: bool = True


def sends_beat(host: str, last: Beat | None, last_run: LastRun | None) -> bool:
    """Return whether a host sends the heartbeat of a run that begins: not if another has begun to
    since this one's last run, so that one of all hosts does, whatever their schedule, and another
    when that one is gone. After a failure the next one does.
    """
    if last is None or last.host == host or not last.succeeded:
        return True
    return last_run is not None and last.at <= last_run.ended_at


def recent(sent: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the pings of the last minute, none by a clock that was ahead."""
    return tuple(moment for moment in sent if now - MINUTE < moment <= now)
