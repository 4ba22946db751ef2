"""The notices that a run leaves, kept with or without a channel: `check`, `status` and the metrics
read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from certferry.config.model import Settings
from certferry.core.assessment.notices import (
    Notices,
    Topic,
    failed_run,
    noticed,
    of_channel,
    without_channels,
)
from certferry.core.planning.report import SyncReport
from certferry.errors import CertferryError
from certferry.ports.notifier import Answered
from certferry.ports.state import StateStore
from certferry.problem import Problem
from certferry.wiring.clock import now

Update = Callable[[Notices], Notices]


class NoticeKeeper:
    """Keeps the notices of some settings. `state` is opened when there is something to keep."""

    def __init__(self, settings: Settings, state: Callable[[], StateStore]) -> None:
        self._settings = settings
        self._state = state

    def tell(self, report: SyncReport) -> Mapping[str, Answered]:
        """Keep the notices of a run. There is no channel to tell."""
        return self._keep(self.after(report))

    def tell_failure(self, error: CertferryError) -> Mapping[str, Answered]:
        """Keep what ended a run before it had a report."""
        return self._keep(self.after_failure(error))

    def after(self, report: SyncReport) -> Update:
        """Return how a run changes what stands."""
        state = self._state()
        # A run with nothing to do reads nothing more.
        all_end = any(Topic.DEADLINE in table.on for table in self._settings.channels.values())
        lineages = [one.lineage for one in report.lineages if all_end or not one.ok]
        versions = {lineage: state.versions(lineage) for lineage in lineages}
        declared = [desired.lineage for desired in self._settings.declared]

        names = [*self._settings.channels, *self._settings.monitoring.names]

        def change(before: Notices) -> Notices:
            known = without_channels(before, names)
            return noticed(report, known, now(), versions=versions, declared=declared)

        return change

    def after_failure(self, error: CertferryError) -> Update:
        """Return how an error that ends a run changes what stands."""
        return lambda before: failed_run(error, before, now())

    def monitored(self, name: str, missed: Problem | None) -> None:
        """Store whether a monitor heard of the run."""
        self._keep(lambda before: of_channel(name, missed, before, now()))

    def _keep(self, change: Update) -> Mapping[str, Answered]:
        state = self._state()
        before = state.notices()
        # A run that changes nothing writes nothing.
        if {*change(before)} != {*before}:
            state.update_notices(change)
        return {}
