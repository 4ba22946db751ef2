"""The progress of a run or a look, and the usual times: for displays alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from certferry.text import Text

Usual = tuple[timedelta, timedelta]
"""From and to how long something usually takes."""


def in_minutes(usual: Usual) -> dict[str, int]:
    """Give both as whole minutes, by the names that sentences have for them."""
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
