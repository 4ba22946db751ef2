"""What is stored of all certificates, read once for all who ask within two seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.config.model import Settings
from certferry.core.assessment.agenda import Agenda, agenda_of
from certferry.core.assessment.health import Recorded
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.records import LastRun
from certferry.errors import CertferryError
from certferry.ports.state import StateStore
from certferry.wiring.recorded import expected, recorded
from certferry.wiring.workspace import Workspace

STALE = timedelta(seconds=2)
"""After which the state is read anew."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the state said at a moment, judged. `last_runs` are each host's, the latest first."""

    at: datetime
    settings: Settings
    recorded: Recorded
    agenda: Agenda
    declared: Mapping[str, DesiredCertificate]
    last_runs: tuple[tuple[str, LastRun], ...]

    def names(self, lineage: str) -> tuple[str, ...]:
        """Return the names that a certificate is for: those of its files, where it has any."""
        versions = self.recorded.versions.get(lineage, ())
        desired = self.declared.get(lineage)
        if desired is not None and desired.files is None:
            return desired.names
        return versions[0].certificate.names if versions else ()


def read_snapshot(workspace: Workspace) -> Snapshot:
    """Read the state. Raises `StateError`."""
    settings, state = workspace.settings, workspace.state
    now = state.now()
    known = recorded(settings, state, now)
    return Snapshot(
        at=now,
        settings=settings,
        recorded=known,
        agenda=agenda_of(expected(settings, known), known, now),
        declared={one.lineage: one for one in settings.certificates},
        last_runs=_last_runs(state),
    )


def _last_runs(state: StateStore) -> tuple[tuple[str, LastRun], ...]:
    found = [(one.name, one.last_run) for one in state.hosts() if one.last_run is not None]
    return tuple(sorted(found, key=lambda one: one[1].ended_at, reverse=True))


class Snapshots:
    """The last snapshot of a workspace. Safe to use from any thread; one reads, the others wait."""

    def __init__(self, workspace: Callable[[], Workspace]) -> None:
        self._workspace = workspace
        self._guard = threading.Lock()
        self._of: Workspace | None = None
        self._last: Snapshot | None = None
        self._failure: CertferryError | None = None
        self._failed_at = 0.0

    @property
    def troubles(self) -> int:
        """How many things needed a person when the state was last read."""
        return 0 if self._last is None else self._last.agenda.verdict.troubles

    def latest(self) -> Snapshot:
        """Return what is stored, as of two seconds ago at most, and of after the last run of any
        host. Raises `StateError`.
        """
        workspace, asked_at = self._workspace(), time.monotonic()
        with self._guard:
            if self._failure is not None and asked_at < self._failed_at:
                raise self._failure  # those who waited for a database that is gone wait only once
            try:
                return self._read(workspace)
            except CertferryError as error:
                self._failure, self._failed_at = error, time.monotonic()
                raise

    def _read(self, workspace: Workspace) -> Snapshot:
        last = self._last if self._of is workspace else None
        if last is None or self._is_stale(last, workspace.state):
            last = read_snapshot(workspace)
            self._of, self._last = workspace, last
        return last

    @staticmethod
    def _is_stale(last: Snapshot, state: StateStore) -> bool:
        is_old = not timedelta(0) <= state.now() - last.at <= STALE
        return is_old or _last_runs(state) != last.last_runs
