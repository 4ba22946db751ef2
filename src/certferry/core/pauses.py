"""How long a scheduled run leaves alone what has failed: 1, 10 and 100 minutes, then a day (Let's
Encrypt's integration guide asks this of clients). Near the end of a certificate every scheduled run
tries, and a run by hand at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certferry.core.lineage import Version
    from certferry.core.remembered import Remembered

PAUSES = (
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(minutes=100),
    timedelta(days=1),
)


LONGEST_IN_A_RUN = PAUSES[-2]
"""What a run itself waits for, in order to try again."""


NEAR = timedelta(days=3)
"""The time before the end of a certificate in which every scheduled run counts: for one that is
valid for six days, a pause of a day may be the last."""

NEAR_THE_END = timedelta(hours=6)
"""The longest pause there: less than half a day, the tries of the run before included."""


def longest_pause(versions: Sequence[Version], now: datetime) -> timedelta:
    """Return the longest pause of a lineage with these versions, newest first: it is short where
    the newest ends soon, or the one before it, which may be served still.
    """
    left = [version.certificate.remaining(now) for version in versions[:2]]
    is_near = any(one <= NEAR for one in left[:1]) or any(abs(one) <= NEAR for one in left[1:])
    return NEAR_THE_END if is_near else PAUSES[-1]


def pause_of(tries: int) -> timedelta:
    """Return the pause after so many tries in vain."""
    return PAUSES[min(max(tries, 1), len(PAUSES)) - 1]


def paused_until(
    last: datetime | None, tries: int, now: datetime, longest: timedelta = PAUSES[-1]
) -> datetime | None:
    """Return until when something is left alone, `None` when it may be tried. A try in the future
    was written by a clock that was ahead.
    """
    if last is None or tries == 0 or last > now:
        return None
    until = last + min(pause_of(tries), longest)
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
