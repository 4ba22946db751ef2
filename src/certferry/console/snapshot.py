"""Read the facts that the state stores about all certificates, once for all visitors together, and
again after two seconds or after a run. Places that a page has found in order since the last run
count as in order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct, field

from certferry.config.model import Settings
from certferry.core.assessment.agenda import Agenda, agenda_of
from certferry.core.assessment.causes import Cause, Severities, causes_of, severities_of
from certferry.core.assessment.health import Recorded, concerns_of
from certferry.core.assessment.settled import Seen, as_seen
from certferry.core.assessment.sightings import Place
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.records import LastRun
from certferry.errors import CertferryError
from certferry.ports.state import StateStore
from certferry.wiring.recorded import expected, recorded
from certferry.wiring.workspace import Workspace

STALE = timedelta(seconds=2)
"""Age after which the state is read again."""


class Snapshot(Struct, frozen=True):
    """The records in the state at a moment, and the conclusions from the records."""

    #: The moment of reading, by the state's clock.
    at: datetime
    #: The settings in force at the moment.
    settings: Settings
    #: The records of all certificates, as runs stored them.
    recorded: Recorded
    #: The matters that need a person, and the next events, with the places in `settled` as in
    #: order.
    agenda: Agenda
    #: The causes of trouble, the worst first.
    causes: tuple[Cause, ...]
    #: The severities of the causes, for pages that find the same problems by themselves.
    severities: Severities
    #: The declared certificates, by lineage.
    declared: Mapping[str, DesiredCertificate]
    #: The last run of each host, latest first.
    last_runs: tuple[tuple[str, LastRun], ...]
    #: The places found in order since the last run.
    settled: Mapping[Place, Seen] = field(default_factory=dict)
    #: The places in `settled` at which the last run left a concern.
    recovered: tuple[Place, ...] = ()

    @property
    def deployed(self) -> frozenset[str]:
        """The declared lineages with a deployment."""
        declared = self.declared.values()
        return frozenset(desired.lineage for desired in declared if desired.deployments)

    def names(self, lineage: str) -> tuple[str, ...]:
        """Return the names of a certificate: the declared names. For an undeclared certificate, and
        for one that another client issues, return the names in the newest stored certificate, or
        none.
        """
        versions = self.recorded.versions.get(lineage, ())
        desired = self.declared.get(lineage)
        if desired is not None and desired.files is None:
            return desired.names
        return versions[0].certificate.names if versions else ()


Settled = Callable[[datetime | None], Mapping[Place, Seen]]
"""Returns the places found in order after a moment; `None` stands for any time."""


def _settles_nothing(moment: datetime | None) -> Mapping[Place, Seen]:
    del moment
    return {}


def read_snapshot(workspace: Workspace, settled_since: Settled = _settles_nothing) -> Snapshot:
    """Read the state. Raises `StateError`."""
    settings, state = workspace.settings, workspace.state
    now = state.now()
    records, last_runs = recorded(settings, state, now), _last_runs(state)
    settled = settled_since(_last_end(last_runs))
    shown = as_seen(records, settled)
    agenda = agenda_of(expected(settings, shown), shown, now)
    causes = causes_of(agenda.checkup.concerns)
    return Snapshot(
        at=now,
        settings=settings,
        recorded=records,
        agenda=agenda,
        causes=causes,
        severities=severities_of(causes),
        declared={desired.lineage: desired for desired in settings.certificates},
        last_runs=last_runs,
        settled=settled,
        recovered=_recovered(settings, records, settled, now),
    )


def _recovered(
    settings: Settings, records: Recorded, settled: Mapping[Place, Seen], now: datetime
) -> tuple[Place, ...]:
    if not settled:
        return ()
    abouts = (concern.subject for concern in concerns_of(expected(settings, records), records, now))
    places = {(about.lineage, about.target, about.domain) for about in abouts}
    return tuple(sorted(places & settled.keys()))


def _last_end(last_runs: Sequence[tuple[str, LastRun]]) -> datetime | None:
    return last_runs[0][1].ended_at if last_runs else None


def _last_runs(state: StateStore) -> tuple[tuple[str, LastRun], ...]:
    ended = [(host.name, host.last_run) for host in state.hosts() if host.last_run is not None]
    return tuple(sorted(ended, key=lambda pair: pair[1].ended_at, reverse=True))


class Snapshots:
    """Keeps the last snapshot of a workspace. Safe to use from any thread: while one thread reads
    the state, the others wait.
    """

    def __init__(
        self, workspace: Callable[[], Workspace], settled_since: Settled = _settles_nothing
    ) -> None:
        self._workspace = workspace
        self._settled_since = settled_since
        self._guard = threading.Lock()
        self._of: Workspace | None = None
        self._last: Snapshot | None = None
        self._failure: CertferryError | None = None
        self._failed_at = 0.0

    @property
    def troubles(self) -> int:
        """The number of causes in the last snapshot; 0 before the first."""
        return 0 if self._last is None else len(self._last.causes)

    def latest(self) -> Snapshot:
        """Return a snapshot that is at most two seconds old, and newer than every host's last run
        and every observation of a page. Raises `StateError`.
        """
        workspace, asked_at = self._workspace(), time.monotonic()
        with self._guard:
            if self._failure is not None and asked_at < self._failed_at:
                # The reading failed while this thread waited, so do not wait for another failure.
                raise self._failure
            try:
                return self._read(workspace)
            except CertferryError as error:
                self._failure, self._failed_at = error, time.monotonic()
                raise

    def _read(self, workspace: Workspace) -> Snapshot:
        last = self._last if self._of is workspace else None
        if last is None or self._is_stale(last, workspace.state):
            last = read_snapshot(workspace, self._settled_since)
            self._of, self._last = workspace, last
        return last

    def _is_stale(self, last: Snapshot, state: StateStore) -> bool:
        is_old = not timedelta(0) <= state.now() - last.at <= STALE
        if is_old or _last_runs(state) != last.last_runs:
            return True
        return self._settled_since(_last_end(last.last_runs)) != last.settled
