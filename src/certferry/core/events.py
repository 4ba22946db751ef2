"""The events of a run, for the display, the log and the history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct, field

from certferry.core.planning.report import StepOutcome
from certferry.text import Text


class Activity(Struct, frozen=True):
    """The present work on a lineage, reported whenever the work begins or changes."""

    lineage: str  #: The lineage's name.
    #: The activity in words.
    what: Text
    since: datetime  #: The beginning of the activity.
    deadline: datetime | None = None  #: When certferry gives up, if ever.


class StepEnded(Struct, frozen=True):
    """The outcome of a step of a lineage. A step left to a later pass of the run has the outcome
    `WAITING`.
    """

    lineage: str  #: The lineage's name.
    outcome: StepOutcome  #: How the step ended.


class Happened(Struct, frozen=True):
    """An event for the history."""

    lineage: str  #: The lineage's name.
    #: The event's name in the history.
    event: str
    facts: Mapping[str, str | Text] = field(default_factory=dict)  #: The event's facts by name.


class Begun(Struct, frozen=True):
    """The beginning of a run."""

    #: The number of certificates, or of other subjects of the run.
    count: int


class Asking(Struct, frozen=True):
    """A request to a service for a lineage, for the display only."""

    lineage: str  #: The lineage's name.
    #: The service's name for people.
    what: Text


class LineageEnded(Struct, frozen=True):
    """The end of the work on a lineage. A display counts these ends towards `Begun.count`."""

    lineage: str  #: The lineage's name.


class Counted(Struct, frozen=True):
    """The progress of a lineage's activity, counted in names."""

    lineage: str  #: The lineage's name.
    #: The number of names done.
    done: int
    #: The number of all names.
    all: int


Event = Activity | StepEnded | Happened | Begun | Asking | Counted | LineageEnded
