"""Runs as they are stored: who started each, from where, what happened in it, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from certferry.text import Text


class RunKind(StrEnum):
    """What a run does."""

    SYNC = "sync"
    REHEARSE = "rehearse"
    RENEW = "renew"
    ROLLBACK = "rollback"


class RunSource(StrEnum):
    """Where a run was started from."""

    SCHEDULE = "schedule"
    COMMAND = "command"
    CONSOLE = "console"
    API = "api"
    HOOK = "hook"


class RunState(StrEnum):
    """How a run stands: in progress; ended with everything in order, or not; stopped by a person;
    ended by the death of its process.
    """

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    DIED = "died"


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run by its `id`: `names` are the lineages that it was for, none where it was for all;
    `plan` the digest of the plan that it was to carry out; `number` its process's `BegunRun` on its
    `host`, by which its death is noticed: one without a number, or an end, has died. The store
    derives `DIED`; it is never stored.
    """

    id: str
    kind: RunKind
    source: RunSource
    who: str
    host: str
    started_at: datetime
    names: tuple[str, ...] = ()
    plan: str | None = None
    number: int | None = None
    state: RunState = RunState.RUNNING
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One thing that happened in a run, in its order: a step of a lineage that ended with an
    `outcome`, what it is busy with, or a warning.
    """

    number: int
    at: datetime
    lineage: str
    event: str
    text: Text
    outcome: str | None = None
    target: str | None = None
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run printed at its end, as the `document` of its command, with sentences as `Text`.
    One that an earlier release stored is `rendered` as JSON, by language.
    """

    document: Mapping[str, object] = field(default_factory=dict)
    rendered: Mapping[str, str] = field(default_factory=dict)
