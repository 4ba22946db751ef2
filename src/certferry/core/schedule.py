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
"""The number of hours after midnight in which the first run of a day may begin. At night a CDN's
change disturbs the fewest visitors. The second run comes half a day later, because Let's Encrypt
asks for two runs a day, at a random second (docs/facts/letsencrypt.md §3.1).
"""

_MINUTES, _SECONDS = 59, 60
NIGHT_MOMENTS = NIGHT_HOURS * _MINUTES * _SECONDS
"""The number of moments at which the first run may begin. The first minute of each hour is left
out, because most machines start jobs then.
"""

_HALF_A_DAY = 12  # hours


def night_time(number: int) -> time:
    """Return the time of day of a night moment, by the machine's clock. `number` counts the
    `NIGHT_MOMENTS` from 0; a number beyond the last moment begins again with the first.
    """
    minutes, second = divmod(number % NIGHT_MOMENTS, _SECONDS)
    hour, minute = divmod(minutes, _MINUTES)
    return time(hour, minute + 1, second)


def twice(moment: time) -> tuple[time, time]:
    """Return the two moments of a day, half a day apart, the earlier moment first. One of the two
    is `moment`.
    """
    first = moment.replace(hour=moment.hour % _HALF_A_DAY)
    return first, first.replace(hour=first.hour + _HALF_A_DAY)


MISSED = timedelta(hours=13)
"""If the last run is older than this time, a run was missed, for example because the machine was
off.
"""


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


def next_scheduled(moments: tuple[time, time], now: datetime) -> datetime:
    """Return the first of the daily moments after `now`, in the time zone of `now`. The moments
    must lie half a day apart.
    """
    return last_scheduled(moments, now + timedelta(hours=_HALF_A_DAY))


class Job(Struct, frozen=True):
    """A job to install in the system's scheduler."""

    #: The command, with an absolute path.
    command: tuple[str, ...]
    #: The environment variables that the job needs, with their values.
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

    INSTALLED = "installed"  #: No job was installed before.
    REPLACED = "replaced"  #: The job replaced another job.
    UNCHANGED = "unchanged"  #: The same job was installed before.


class Scheduled(Struct, frozen=True):
    """An installed job."""

    #: The place of the job, such as a crontab.
    place: Text
    command: str  #: The command line.
    when: Text  #: The moments of the runs, in words.
    next_run: datetime | None  #: The moment of the next run; `None` if unknown.
    #: The operator's remaining step before the job can start, if any.
    to_do: Text | None
    #: The job's PATH.
    path: str


MINUTE = timedelta(minutes=1)
MOST = 5


def may_ping(sent: Sequence[datetime], now: datetime, *, ends: bool) -> bool:
    """Return whether a heartbeat may be sent to a monitor now. In a `MINUTE`, at most `MOST`
    heartbeats are sent, and the last of these only to report the end of a run (`ends`). `sent` are
    the moments of earlier heartbeats.
    """
    return len(recent(sent, now)) < (MOST if ends else MOST - 1)


class Beat(Struct, frozen=True):
    """The last heartbeat to a monitor, of all hosts that share the state. The state of a single
    host stores no `Beat`.
    """

    #: The host that sent the heartbeat.
    host: str
    #: When the host's run began, or failed.
    at: datetime
    #: False if the heartbeat reports a failed run. True at the beginning of a run.
    succeeded: bool = True


def sends_beat(host: str, last: Beat | None, last_run: LastRun | None) -> bool:
    """Return whether a host that begins a run sends the run's heartbeat. Usually a single host
    sends.

    Return true without a last heartbeat, after this host's own heartbeat, and after the heartbeat
    of a failed run. After another host's heartbeat, return true only if no heartbeat was sent since
    the end of this host's `last_run`: the other host may be gone.
    """
    if last is None or last.host == host or not last.succeeded:
        return True
    return last_run is not None and last.at <= last_run.ended_at


def recent(sent: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the moments in the last minute. A moment in the future comes from a wrong clock and is
    left out.
    """
    return tuple(moment for moment in sent if now - MINUTE < moment <= now)
