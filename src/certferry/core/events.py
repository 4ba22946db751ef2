"""What happens during a run, for its display, its log and the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from certferry.core.planning.report import StepOutcome
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Activity:
    """What a lineage is busy with at this moment, reported as it begins or changes."""

    lineage: str
    what: Text
    since: datetime
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step of a lineage has its outcome, `WAITING` included."""

    lineage: str
    outcome: StepOutcome


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that the history keeps: its name there, and its facts."""

    lineage: str
    event: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """So many certificates, or whatever else is observed, are before a run."""

    count: int


@dataclass(frozen=True, slots=True)
class Asking:
    """The service that a run asks for a lineage at this moment, and for what. It changes nothing,
    and is no news where there is no display: an answer that comes at once is not seen at all.
    """

    lineage: str
    what: Text


@dataclass(frozen=True, slots=True)
class LineageEnded:
    """Nothing is left to do for one of those that were before the run."""

    lineage: str


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of the names that an activity of a lineage is about are done, of how many."""

    lineage: str
    done: int
    all: int


Event = Activity | StepEnded | Happened | Begun | Asking | Counted | LineageEnded
