"""Scheduled runs, twice a day: their moments, the installed job, and the heartbeat."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from enum import Enum

from msgspec import Struct, field

from certferry.core.observed.records import LastRun
from certferry.text import Text

NIGHT_HOURS = 6
"""The first run of a day begins within so many hours after midnight, when a CDN's change disturbs
the fewest visitors. The second run follows half a day later (Let's Encrypt asks for two runs, at a
random second: docs/facts/letsencrypt.md §3.1)."""

_MINUTES, _SECONDS = 59, 60
NIGHT_MOMENTS = NIGHT_HOURS * _MINUTES * _SECONDS
"""The number of possible moments. The first minute of each hour is left out, because most machines
start jobs then.
"""

_HALF_A_DAY = 12  # hours


def night_time(number: int) -> time:
    """Return the moment with a number among the `NIGHT_MOMENTS`, by the machine's clock."""
    minutes, second = divmod(number % NIGHT_MOMENTS, _SECONDS)
    hour, minute = divmod(minutes, _MINUTES)
    return time(hour, minute + 1, second)


def twice(moment: time) -> tuple[time, time]:
    """Return the two moments of a day, half a day apart, including `moment`."""
    first = moment.replace(hour=moment.hour % _HALF_A_DAY)
    return first, first.replace(hour=first.hour + _HALF_A_DAY)


MISSED = timedelta(hours=13)
"""If the last run is older than this, a run was missed, for example because the machine was off."""


def moments_of(host: str) -> tuple[time, time]:
    """Return the two moments of a day at which `certferry serve` runs on a host.

    The moments differ by host, and stay the same after a restart.
    """
    return twice(night_time(int.from_bytes(hashlib.sha256(host.encode()).digest()[:8])))


def last_scheduled(moments: tuple[time, time], now: datetime) -> datetime:
    """Return the last of the daily moments up to `now`, in the time zone of `now`."""
    yesterday = now.date() - timedelta(days=1)
    today = [datetime.combine(now.date(), moment, now.tzinfo) for moment in moments]
    past = [moment for moment in today if moment <= now]
    return max(past, default=datetime.combine(yesterday, moments[-1], now.tzinfo))


class Job(Struct, frozen=True):
    """A job to install in the system's scheduler."""

    #: The command, with an absolute path.
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: The directories into which the job writes.
    writes: tuple[str, ...] = ()
    #: Whether the job runs programs of the operator.
    runs_programs: bool = False
    #: The command to run after a failure.
    on_failure: tuple[str, ...] = ()
    #: The directories of the job's sockets.
    sockets: tuple[str, ...] = ()


class Installation(Enum):
    """The result of an installation."""

    INSTALLED = "installed"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class Scheduled(Struct, frozen=True):
    """An installed job."""

    #: The place of the job, such as a crontab.
    place: Text
    command: str
    when: Text
    next_run: datetime | None
    #: The operator's remaining step before the job can start.
    to_do: Text | None
    #: The job's PATH.
    path: str


MINUTE = timedelta(minutes=1)
MOST = 5


def may_ping(sent: Sequence[datetime], now: datetime, *, ends: bool) -> bool:
    """Return whether a ping may be sent now. The ping for the end of a run may be the last of the
    `MOST` in a `MINUTE`; the ping for the beginning may not.
    """
    return len(recent(sent, now)) < (MOST if ends else MOST - 1)


class Beat(Struct, frozen=True):
    """The last heartbeat."""

    #: The host that sent the heartbeat.
    host: str
    #: When the host's run began.
    at: datetime
    #: Whether the run ended without a failure.
    succeeded: bool = True


def sends_beat(host: str, last: Beat | None, last_run: LastRun | None) -> bool:
    """Return whether a host sends the heartbeat of a run that begins.

    Only one host pings: this host, unless another host has pinged since the end of this host's last
    run. If the pinging host is gone, the next host takes over. After a failure, any host pings.
    """
    if last is None or last.host == host or not last.succeeded:
        return True
    return last_run is not None and last.at <= last_run.ended_at


def recent(sent: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the pings of the last minute. Pings in the future, by a wrong clock, are left out."""
    return tuple(moment for moment in sent if now - MINUTE < moment <= now)
