"""How many requests an account may send in an hour, counted by what is remembered of those before:
a note that the hosts which share a state share as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

HOUR = timedelta(hours=1)
BURST_SHARE = 6  # a sixth of an hour's requests at once; our choice
MOST = HOUR // timedelta(microseconds=1)  # intervals are no finer than that

CLOCKS_APART = timedelta(minutes=1)
"""What the clocks of hosts that share a note may differ by, and what a clock that was set back may
cost. A moment further ahead than a burst and this was written by a clock that was wrong.
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """A burst of requests at once, and after it one each interval.

    No hour, wherever it begins, holds more than the burst and the intervals of an hour.
    """

    burst: int
    interval: timedelta

    @property
    def room(self) -> timedelta:
        """Return how far ahead of the clock time may be used up."""
        return self.burst * self.interval


@dataclass(frozen=True, slots=True)
class Turn:
    """Whether a request may be sent: now, or after a wait to be asked again.

    `note` is what to remember in place of the note that was asked about.
    """

    wait: timedelta
    note: str


def rate_of(requests: int) -> Rate:
    """Return the rate that lets no hour have more requests than this, of which there must be one.

    An hour may begin with a full burst, so what follows must fit into the rest.
    """
    requests = min(requests, MOST)
    burst = max(1, requests // BURST_SHARE)
    rest = max(1, requests - burst)
    microseconds = (MOST + rest - 1) // rest  # rounded up: an hour must never have one more
    return Rate(burst, timedelta(microseconds=microseconds))


def take_turn(rate: Rate, note: str | None, now: datetime) -> Turn:
    """Return whether a request may be sent now, by what is remembered of those before it.

    A caller that is told to wait has taken nothing, and waits no longer than an interval and
    `CLOCKS_APART`.
    """
    used_until = _used_until(rate, note, now)
    wait = used_until - now + rate.interval - rate.room
    if wait > timedelta(0):
        return Turn(wait, used_until.isoformat())
    return Turn(timedelta(0), (max(used_until, now) + rate.interval).isoformat())


def _used_until(rate: Rate, note: str | None, now: datetime) -> datetime:
    """Read the moment up to which time is used up. What cannot be read, or cannot be true, counts
    as a burst just sent: no request waits for longer than an interval, and no hour gets too many.
    """
    if note is None:
        return now
    moment = _moment(note)
    if moment is None or moment - now > rate.room + CLOCKS_APART:
        return now + rate.room
    return moment


def _moment(note: str) -> datetime | None:
    """Read an RFC 3339 moment, `None` where there is none."""
    try:
        moment = datetime.fromisoformat(note)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
