"""How long to wait before looking again. Waiting is a value: no thread sleeps on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.text import Text

FIRST = timedelta(milliseconds=250)
LONGEST = timedelta(minutes=2)
SLACK = timedelta(seconds=1)
"""What happens is seen at most a tenth of the wait, and this, after it has happened."""


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
    growing = max(min(waited / 3, waited / 10 + SLACK), FIRST)  # a third in the first seconds
    until = now + (LONGEST if waited < timedelta(0) else min(growing, LONGEST))
    return Waiting(why, since, until if deadline is None else min(until, deadline), deadline)
