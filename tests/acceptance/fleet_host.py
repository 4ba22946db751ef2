"""A host of a fleet, as a process. The host makes runs over a state that several hosts share; each
run is a separate process, which another process may kill, freeze or cut off at any moment.

Usage: python -m tests.acceptance.fleet_host URL HOST LEASE_SECONDS LOG

Each line on standard input has a way to run (`scheduled` or `by-hand`) and the path of a
configuration. For each line the host begins a run, prints the number of the run's process, and
prints the exit code at the end. LOG receives the diary of the runs.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests.adapters

from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import SharedState
from certferry.config.load import load
from certferry.core.events import Event, StepEnded
from certferry.core.planning.report import SyncReport
from certferry.core.redaction import Secret
from certferry.errors import LeaseLost
from certferry.ports.state import Lease, StateStore
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import Ports, Run, WaitLimit, recorded_as_begun
from certferry.values import replace
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.workspace import Workspace
from certferry_sandbox.testing.interruptions import Altered

AT_ONCE = 5
"""The most concurrent orders of a host: Pebble takes twenty (`certferry_sandbox.pebble`) from the
four hosts.
"""

SCHEDULED, BY_HAND = "scheduled", "by-hand"
"""A scheduled run skips another host's work and pauses after failures; a run by hand waits for the
other host and tries again.
"""

WELL = {"DONE", "UNCHANGED"}
"""Successful outcomes, which the diary omits."""

KEY = "FLEET_KEY"
"""The environment variable with the key of the state."""

_send = requests.adapters.HTTPAdapter.send


class Diary:
    """The actions of a process, each with its time and its thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, kind: str, about: str, begun: float | None = None) -> None:
        """Add a line with the given time, or with the current time."""
        at = time.monotonic() if begun is None else begun
        line = [os.getpid(), threading.get_ident(), at, kind, about]
        with self._path.open("a") as lines:
            lines.write(json.dumps(line) + "\n")

    def watch_requests(self) -> None:
        """Note each request that the HTTP library sends, from any caller."""

        def send(adapter: Any, request: Any, *args: Any, **named: Any) -> Any:
            begun, is_sent = time.monotonic(), True
            try:
                return _send(adapter, request, *args, **named)
            except LeaseLost:
                is_sent = False
                raise
            finally:
                if is_sent:
                    self.note(request.method, request.url, begun)

        requests.adapters.HTTPAdapter.send = send  # type: ignore[assignment, method-assign]  # the library's


class WatchedState(SharedState):
    """The state of several hosts, with a line in the diary for each acquired lease."""

    diary: Diary

    def acquire(self, lineage: str, now: datetime) -> Lease:
        """See `LeaseStore.acquire`."""
        lease = super().acquire(lineage, now)
        self.diary.note("lease", lineage)
        return lease


@dataclass(eq=False)
class FleetWorkspace(Workspace):
    """A workspace with a given state."""

    shared: StateStore | None = None

    @property
    def state(self) -> StateStore:
        """Return the given state."""
        assert self.shared is not None
        return self.shared

    def connect(self, run: Run, *, declares: bool = True) -> Ports:
        """Connect a run's ports; the number of concurrent orders stays within Pebble's limit."""
        ports = super().connect(run, declares=declares)
        turns = threading.BoundedSemaphore(AT_ONCE)
        issuer: Any = ports.issuer

        def issue(*args: Any) -> Any:
            with turns:
                return issuer.issue(*args)

        limited: Any = Altered(issuer, issue=issue)
        return replace(ports, issuer=limited)


@dataclass(frozen=True, slots=True)
class FleetHost:
    """The settings of a host's process."""

    url: str
    name: str
    lease: timedelta
    diary: Diary

    @contextmanager
    def state(self) -> Iterator[StateStore]:
        """Open the shared state."""
        database = PostgresqlDatabase(self.url)
        state = WatchedState(database, Sealing(Secret(os.environ[KEY])), self.name, self.lease)
        state.diary = self.diary
        with closing(state):
            yield state

    def run(self, how: str, config: Path, environ: Mapping[str, str]) -> SyncReport:
        """Make a run to its end, as `certferry sync` does."""
        settings = load(config, environ, ADAPTERS)
        with self.state() as state, FleetWorkspace(settings, shared=state) as workspace:
            run = Run(self.name, self._follow)

            def sync() -> SyncReport:
                engine = Reconciler(workspace.connect(run))
                return engine.sync(workspace.certificates, WaitLimit(), scheduled=how == SCHEDULED)

            with recorded_as_begun(lambda: state):
                return workspace.notifications(run).notify_of(sync, is_whole=True)

    def _follow(self, event: Event) -> None:
        """Note the waits and the problems of a run."""
        if isinstance(event, StepEnded) and event.outcome.outcome.name not in WELL:
            outcome = event.outcome
            self.diary.note(outcome.outcome.name, f"{event.lineage}: {outcome.detail}")


def is_well(report: SyncReport, diary: Diary) -> bool:
    """Return whether a run completed all its work, and note the run's problem."""
    if report.problem is not None:
        diary.note("problem", str(report.problem))
    return report.ok and report.complete


def must_not_outlive_its_parent() -> None:
    """Have the system kill the process at the end of its parent (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve: make a run for each line."""
    must_not_outlive_its_parent()
    url, name, lease, log = sys.argv[1:]
    diary = Diary(Path(log))
    host = FleetHost(url, name, timedelta(seconds=float(lease)), diary)
    diary.watch_requests()
    for line in sys.stdin:
        number = os.fork()
        if not number:
            must_not_outlive_its_parent()
            code = 2
            try:
                how, _, config = line.strip().partition(" ")
                code = 0 if is_well(host.run(how, Path(config), os.environ), diary) else 1
            except BaseException as problem:  # noqa: BLE001 - the test reads the diary
                diary.note("died", repr(problem))
            finally:
                os._exit(code)
        say(number)
        _, status = os.waitpid(number, 0)
        say(os.waitstatus_to_exitcode(status))


def say(number: int) -> None:
    """Answer with a number."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
