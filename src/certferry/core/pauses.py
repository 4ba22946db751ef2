"""How long a scheduled run leaves alone what has failed: 1, 10 and 100 minutes, then a day (Let's
Encrypt's integration guide asks this of clients). A run by hand tries at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certferry.core.remembered import Remembered

PAUSES = (
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(minutes=100),
    timedelta(days=1),
)


LONGEST_IN_A_RUN = PAUSES[-2]
"""What a run itself waits for, in order to try again."""


def pause_of(tries: int) -> timedelta:
    """Return the pause after so many tries in vain."""
    return PAUSES[min(max(tries, 1), len(PAUSES)) - 1]


def next_try(last: datetime, tries: int) -> datetime:
    """Return when something is tried again after so many tries in vain, the last at that moment."""
    return last + pause_of(tries)


def paused_until(last: datetime | None, tries: int, now: datetime) -> datetime | None:
    """Return until when something is left alone, `None` when it may be tried. A try in the future
    was written by a clock that was ahead.
    """
    if last is None or tries == 0 or last > now:
        return None
    until = next_try(last, tries)
    return until if now < until else None


def pause_end(remembered: Remembered, now: datetime) -> datetime | None:
    """Return when the first of a lineage's pauses ends, `None` where there is none."""
    issue = paused_until(remembered.issue_tried_at, remembered.issue_tries, now)
    rollouts = (
        paused_until(record.failed_at or record.accepted_at, record.tries, now)
        for record in remembered.rollouts
        if record.verified_at is None
    )
    return min((end for end in (issue, *rollouts) if end is not None), default=None)
