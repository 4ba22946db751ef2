"""Runs as stored: who started each run and how, the run's events, the report and the end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from msgspec import Struct, field

from certferry.text import Text


class RunKind(StrEnum):
    """The work of a run."""

    SYNC = "sync"  #: Bring certificates to the declared state.
    REHEARSE = "rehearse"  #: Try an order at a staging CA.
    RENEW = "renew"  #: As `SYNC`, and order new certificates even if none is due.
    ROLLBACK = "rollback"  #: Withdraw a certificate from a domain.


class RunSource(StrEnum):
    """How a run was started."""

    SCHEDULE = "schedule"  #: By the scheduler, twice a day.
    COMMAND = "command"  #: By a command of an operator.
    CONSOLE = "console"  #: By a user in the console.
    API = "api"  #: By a program with a token for the API.
    HOOK = "hook"  #: By the hook of another ACME client (`certferry hook`).


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
    #: Ended by the death of the process. The store finds out when reading the run.
    DIED = "died"


class StoredRun(Struct, frozen=True):
    """A run as stored."""

    id: str  #: Identifies the run in the state, the console and the API.
    kind: RunKind  #: The work of the run.
    source: RunSource  #: How the run was started.
    who: str  #: The person or program that started the run.
    host: str  #: The host of the run.
    started_at: datetime  #: The beginning of the run.
    #: The lineages of the run; empty for all lineages.
    names: tuple[str, ...] = ()
    #: The digest of the plan to carry out, if an operator confirmed a plan.
    plan: str | None = None
    #: The number of the `BegunRun` on `host`. A run with neither a number nor an end was killed.
    number: int | None = None
    #: The number of certificates done; `None` before the run has counted the certificates.
    done: int | None = None
    count: int | None = None  #: The number of all certificates; `None` before the run has counted.
    state: RunState = RunState.RUNNING  #: How the run stands.
    #: The end of the run; `None` before the end, and for a killed run.
    ended_at: datetime | None = None


class RunEvent(Struct, frozen=True):
    """An event of a run: the end of a step, an activity, or a warning."""

    #: The position among the run's events.
    number: int
    at: datetime  #: When the event happened.
    lineage: str  #: The lineage's name; empty for an event of the whole run.
    event: str  #: The event's name for programs.
    text: Text  #: The event in words.
    #: For a step, the word of the `Outcome`.
    outcome: str | None = None
    target: str | None = None  #: For a step at a target, the account's name.
    domain: str | None = None  #: For a step at a domain, the domain's name.


class RunReport(Struct, frozen=True):
    """The report printed at the end of a run."""

    #: The JSON document of the command, with sentences as `Text`.
    document: Mapping[str, object] = field(default_factory=dict)
