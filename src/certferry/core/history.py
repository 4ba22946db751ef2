"""What the state keeps of the past for people: what happened, and when runs ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class LastRun:
    """When the last run over declared certificates ended, and the last that left no failure."""

    ended_at: datetime
    succeeded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run that began and has not ended yet; `number` tells it from those at the same time."""

    number: int
    began_at: datetime
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that happened, for ever. `who` is the operator or host that ran certferry."""

    at: datetime
    lineage: str
    event: str
    who: str
    facts: Mapping[str, str] = field(default_factory=dict)
