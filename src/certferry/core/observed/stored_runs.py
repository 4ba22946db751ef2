"""Stored runs: who started each run and from where, with events, report and end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from msgspec import Struct, field

from certferry.text import Text


class RunKind(StrEnum):
    """The work of a run."""

    SYNC = "sync"
    REHEARSE = "rehearse"
    RENEW = "renew"
    ROLLBACK = "rollback"


class RunSource(StrEnum):
    """How a run was started."""

    SCHEDULE = "schedule"
    COMMAND = "command"
    CONSOLE = "console"
    API = "api"
    HOOK = "hook"


class RunState(StrEnum):
    """How a run stands."""

    #: In progress.
    RUNNING = "running"
    #: Ended without a failure; steps may still wait.
    DONE = "done"
    #: Ended with a failure.
    FAILED = "failed"
    #: Stopped by a person.
    STOPPED = "stopped"
    #: Ended by the death of the process. The store derives `DIED` from `StoredRun.number`.
    DIED = "died"


class StoredRun(Struct, frozen=True):
    """A run as stored."""

    id: str
    kind: RunKind
    source: RunSource
    who: str
    host: str
    started_at: datetime
    #: The lineages of the run; empty for all lineages.
    names: tuple[str, ...] = ()
    #: The digest of the plan to carry out, if an operator confirmed a plan.
    plan: str | None = None
    #: Links to the `BegunRun` on `host`. A run with neither number nor end was killed.
    number: int | None = None
    #: The number of certificates done, and of all certificates; `None` before the run has counted.
    done: int | None = None
    count: int | None = None
    state: RunState = RunState.RUNNING
    ended_at: datetime | None = None


class RunEvent(Struct, frozen=True):
    """An event of a run: the end of a step, an activity, or a warning."""

    #: The position among the run's events.
    number: int
    at: datetime
    lineage: str
    event: str
    text: Text
    #: For a step, how the step ended.
    outcome: str | None = None
    target: str | None = None
    domain: str | None = None


class RunReport(Struct, frozen=True):
    """The report printed at the end of a run."""

    #: The JSON document of the command, with sentences as `Text`.
    document: Mapping[str, object] = field(default_factory=dict)
