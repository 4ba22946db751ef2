"""How long to wait before looking again. Waiting is a value: no thread sleeps on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.text import Text

FIRST = timedelta(milliseconds=250)
LONGEST = timedelta(minutes=2)
"""Beyond twenty minutes, something that hangs is seen at the latest this long after it moves."""
_SLACK = timedelta(seconds=1)
_OF_THE_WAIT = 10
"""What happens is seen at most a tenth of the wait, and this slack, after it has happened: a later
look would save few requests, and be noticed by the operator who waits.
"""
_EARLY = 3
"""In the first seconds each pause is a third of the time waited: some targets need no more."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Look again at `until`; given up at `deadline`, when there is one."""

    why: Text
    since: datetime
    until: datetime
    deadline: datetime | None = None


def wait_for(
    why: Text, since: datetime, now: datetime, deadline: datetime | None = None
) -> Waiting:
    """Choose the next look: soon at first, then ever later, never past the deadline."""
    waited = now - since
    # A beginning in the future was written by a clock that was ahead.
    until = now + (LONGEST if waited < timedelta(0) else _pause(waited))
    return Waiting(why, since, until if deadline is None else min(until, deadline), deadline)


def _pause(waited: timedelta) -> timedelta:
    growing = min(waited / _EARLY, waited / _OF_THE_WAIT + _SLACK)
    return min(max(growing, FIRST), LONGEST)
