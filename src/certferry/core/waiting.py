"""How long to wait before looking again. Waiting is a value: no thread sleeps on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.text import Text

FIRST = timedelta(milliseconds=250)
LONGEST = timedelta(seconds=60)
_GROWTH = 3
"""Each pause is a third of the time already waited, so that looks grow rarer with age."""


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
    pause = LONGEST if waited < timedelta(0) else min(max(waited / _GROWTH, FIRST), LONGEST)
    until = now + pause
    return Waiting(why, since, until if deadline is None else min(until, deadline), deadline)
