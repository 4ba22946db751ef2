"""How long a scheduled run leaves alone what has failed: 1, 10 and 100 minutes, then a day (Let's
Encrypt's integration guide asks this of clients). Near the end of a certificate every scheduled run
tries, and a run by hand at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from certferry.core.certificates.certificate import Certificate
from certferry.core.desired.certificate import Authority
from certferry.core.observed.observation import Observation

if TYPE_CHECKING:
    from certferry.core.certificates.lineage import Version
    from certferry.core.observed.records import Remembered

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


LAST_SHARE = 6
"""In the last sixth of its life a certificate has failed to be renewed for half of the time that a
renewal has, and half is left to try elsewhere."""

WITHOUT_ANY = timedelta(days=1)
"""How long a CA must have failed before a first certificate is ordered elsewhere."""

PASSING = timedelta(hours=1)
"""An error that has lasted for less may pass, however near the deadline is."""


def authorities_now(
    authorities: tuple[Authority, ...], observed: Observation, now: datetime
) -> tuple[Authority, ...]:
    """Return the CAs of a list that may be asked now: the first, or all in this order."""
    if may_fall_back(of_use(observed), observed.remembered.failing_since, now):
        return authorities
    return authorities[:1]


def of_use(observed: Observation) -> Certificate | None:
    """Return the certificate in force, unless it was revoked."""
    current = observed.current
    return None if current is None or current.revocation is not None else current.certificate


def may_fall_back(
    current: Certificate | None, failing_since: datetime | None, now: datetime
) -> bool:
    """Return whether other CAs may be asked. `current` is the certificate in force, if it is of any
    use; `failing_since` is when a CA first failed since one came.
    """
    # A failure in the future was written by a clock that was ahead.
    if failing_since is None or failing_since > now:
        return False
    if current is None:
        return now >= failing_since + WITHOUT_ANY
    return _is_near(current, now) and now >= failing_since + PASSING


def may_pass_over(current: Certificate | None, held_until: datetime, now: datetime) -> bool:
    """Return whether a CA that is not asked before a moment, by its limits or its own words, may be
    passed over: near the deadline, or without a certificate that is of use (`current`), when that
    is later than an error that passes would last.
    """
    if current is None:
        return held_until > now + WITHOUT_ANY
    return _is_near(current, now) and held_until > now + PASSING


def _is_near(current: Certificate, now: datetime) -> bool:
    return current.remaining(now) <= current.lifetime / LAST_SHARE


def in_order(authorities: tuple[Authority, ...], in_progress: str | None) -> tuple[Authority, ...]:
    """Return the CAs in the order in which they are asked: first the one at whose directory an
    order is under way, so that a run that was killed there is not followed by a second certificate.
    """
    return tuple(sorted(authorities, key=lambda one: one.directory != in_progress))
