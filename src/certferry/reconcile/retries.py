"""A scheduled run and its retries: what has failed is tried again by the same run, after the
pauses that Let's Encrypt asks for, as long as these are minutes and not a day.

Nothing else starts between two scheduled runs, and a run that finds nothing due costs nothing more.
Killed meanwhile, the next scheduled run goes on: the pauses are in the state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from certferry import errors
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import Activity
from certferry.core.planning.limits import LONGEST_IN_A_RUN, pause_end, pause_of
from certferry.core.planning.report import LineageReport, Outcome, SyncReport
from certferry.ports.progress import Pause
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import WaitLimit
from certferry.text import Text


@dataclass(eq=False)
class ScheduledRun:
    """A run that tries again, each time with an `engine` that connects anew."""

    engine: Callable[[], Reconciler]
    pause: Pause
    wait_limit: WaitLimit
    _tries: Counter[str] = field(default_factory=Counter, init=False)

    def sync(
        self, certificates: Sequence[DesiredCertificate], *, renew: bool = False
    ) -> SyncReport:
        """Bring the world to the declared state, in as many tries as the limit allows."""
        engine = self.engine()
        self._ports = ports = engine.ports
        begun = ports.now()
        report = engine.sync(certificates, self.wait_limit, renew=renew, scheduled=True)
        while report.complete and report.problem is None:
            due = self._due(report)
            first = min(due.values(), default=None)
            if first is None or not self.wait_limit.allows((first - begun).total_seconds()):
                break
            try:
                self._wait_until(first, due)
            except (KeyboardInterrupt, errors.Interrupted):
                return replace(report, complete=False)
            now, limit = ports.now(), self.wait_limit.limit
            again = [
                desired
                for desired in certificates
                if desired.lineage in due and due[desired.lineage] <= now
            ]
            self._tries.update(desired.lineage for desired in again)
            left = None if limit is None else max(limit - (now - begun), timedelta(0))
            newer = self.engine().sync(again, WaitLimit(left), scheduled=True, before=report)
            report = report.with_newer(newer)
        return report

    def _due(self, report: SyncReport) -> dict[str, datetime]:
        """Return when each lineage is tried again that is tried again in this run."""
        now = self._ports.now()
        found = ((each.lineage, self._next_try(each, now)) for each in report.lineages)
        return {one: moment for one, moment in found if moment and moment - now <= LONGEST_IN_A_RUN}

    def _next_try(self, report: LineageReport, now: datetime) -> datetime | None:
        failed = [step.error for step in report.having(Outcome.FAILED) if step.error is not None]
        paused = [
            s.error for s in report.having(Outcome.WAITING) if s.error and s.error.retry.after
        ]
        # Keys that are refused are not sent again and again, as services lock accounts for it.
        refused = [
            isinstance(error, errors.DnsAccessDenied | errors.TargetAccessDenied)
            for error in failed
        ]
        if not paused and all(refused):
            return None
        ends = pause_end(self._ports.state.remembered(report.lineage), now)
        if ends is None and not paused:
            # It failed before anything was tried, as when a target does not answer.
            pause = pause_of(self._tries[report.lineage] + 1)
            if not any(error.retry.allowed for error in failed) or pause > LONGEST_IN_A_RUN:
                return None
            ends = now + pause
        # What the CA asks for counts beside our own pause, also where nothing was tried.
        by_ca = [
            error
            for error in paused
            if isinstance(error, errors.RateLimited | errors.CaUnavailable)
        ]
        asked = [e.retry.after for e in (*failed, *by_ca) if e.retry.after is not None]
        return max([ends or now, *asked])

    def _wait_until(self, until: datetime, lineages: Iterable[str]) -> None:
        now = self._ports.now()
        for lineage in lineages:
            what = Text("it has failed, and is tried again at {moment}", moment=until)
            self._ports.progress(Activity(lineage, what, now, until))
        self.pause(max((until - now).total_seconds(), 0))
