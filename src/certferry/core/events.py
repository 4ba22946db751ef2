"""What is told while a run is under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from certferry.core.planning.report import StepOutcome
from certferry.core.waiting import Asking, Begun, Counted, Ended
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Activity:
    """What a lineage is busy with at this moment, told as it begins or changes."""

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


Event = Activity | StepEnded | Happened | Begun | Asking | Counted | Ended
