"""How long to wait before looking again. Waiting is a value: no thread sleeps on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.text import Text

Usual = tuple[timedelta, timedelta]
"""From and to how long something usually takes."""


def in_minutes(usual: Usual) -> dict[str, int]:
    """Return both as whole minutes, by the names that sentences have for them."""
    least, most = (time // timedelta(minutes=1) for time in usual)
    return {"least": least, "most": most}


@dataclass(frozen=True, slots=True)
class Begun:
    """So many certificates, or whatever else is looked at, are before a run."""

    count: int


@dataclass(frozen=True, slots=True)
class Asking:
    """The service that a run asks for a lineage at this moment, and for what. It changes nothing,
    and is no news where there is no display: an answer that comes at once is not seen at all.
    """

    lineage: str
    what: Text


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing is left to do for one of those that were before the run."""

    lineage: str


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of the names that an activity of a lineage is about are done, of how many."""

    lineage: str
    done: int
    all: int


FIRST = timedelta(milliseconds=250)
LONGEST = timedelta(minutes=2)
STEP, SLACK = 12, timedelta(seconds=0.8)
"""A look comes a twelfth of the wait, and this, after the one before it: a change is seen at most a
tenth of the wait, and a second, late. A target may answer from a list that is the rest of it old.
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Look again at `until`; given up at `deadline`, when there is one. `usual` is how long it
    takes most times, where that is known.
    """

    why: Text
    since: datetime
    until: datetime
    deadline: datetime | None = None
    usual: Usual | None = None


def wait_for(
    why: Text,
    since: datetime,
    now: datetime,
    deadline: datetime | None = None,
    usual: Usual | None = None,
) -> Waiting:
    """Choose the next look: soon at first, then ever later, never past the deadline."""
    waited = now - since
    # A beginning in the future was written by a clock that was ahead.
    growing = max(min(waited / 3, waited / STEP + SLACK), FIRST)  # a third in the first seconds
    until = now + (LONGEST if waited < timedelta(0) else min(growing, LONGEST))
    until = until if deadline is None else min(until, deadline)
    return Waiting(why, since, until, deadline, usual)


def applying(target: str, usual: Usual | None) -> Text:
    """Return that a target has taken a change, and how long that lasts, where it is known."""
    if usual is None:
        return Text("{target} is applying the change", target=target)
    return Text(
        "{target} is applying the change (usually {least}–{most} min)",
        target=target,
        **in_minutes(usual),
    )
