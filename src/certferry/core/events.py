"""The events of a run, for the display, the log and the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from certferry.core.planning.report import StepOutcome
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Activity:
    """The present activity of a lineage, reported at every beginning or change."""

    lineage: str
    #: The activity in words.
    what: Text
    since: datetime
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class StepEnded:
    """The outcome of a step of a lineage, which may be `WAITING`."""

    lineage: str
    outcome: StepOutcome


@dataclass(frozen=True, slots=True)
class Happened:
    """An event for the history."""

    lineage: str
    #: The event's name in the history.
    event: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """The beginning of a run."""

    #: The number of certificates, or of other things to observe.
    count: int


@dataclass(frozen=True, slots=True)
class Asking:
    """A request to a service for a lineage, for the display only."""

    lineage: str
    #: The service.
    what: Text


@dataclass(frozen=True, slots=True)
class LineageEnded:
    """The end of the work on a lineage, which counts towards `Begun.count`."""

    lineage: str


@dataclass(frozen=True, slots=True)
class Counted:
    """The progress of a lineage's activity, counted in names."""

    lineage: str
    #: The number of names done.
    done: int
    #: The number of all names.
    all: int


Event = Activity | StepEnded | Happened | Begun | Asking | Counted | LineageEnded
