"""How long a scheduled run leaves alone what has failed: 1, 10 and 100 minutes, then a day (Let's
Encrypt's integration guide asks this of clients). A run by hand tries at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

PAUSES = (
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(minutes=100),
    timedelta(days=1),
)


def next_try(last: datetime, tries: int) -> datetime:
    """Return when something is tried again after so many tries in vain, the last at that moment."""
    return last + PAUSES[min(max(tries, 1), len(PAUSES)) - 1]


def paused_until(last: datetime | None, tries: int, now: datetime) -> datetime | None:
    """Return until when something is left alone, `None` when it may be tried. A try in the future
    was written by a clock that was ahead.
    """
    if last is None or tries == 0 or last > now:
        return None
    until = next_try(last, tries)
    return until if now < until else None
