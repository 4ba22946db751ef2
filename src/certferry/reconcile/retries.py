"""A scheduled run with retries: the run tries failed lineages again after a pause, if the pause is
at most `LONGEST_IN_A_RUN`. Let's Encrypt recommends the lengths of the pauses.

Without retries a failure would last until the next scheduled run. If the run is killed during a
pause, the next scheduled run keeps the pause, because the state has the moment of the failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
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
from certferry.values import replace


@dataclass(eq=False)
class ScheduledRun:
    """A run that tries failed lineages again."""

    #: Makes a reconciler with new connections for each try.
    engine: Callable[[], Reconciler]
    #: Waits between the tries.
    pause: Pause
    #: The limit for all tries together.
    wait_limit: WaitLimit
    #: By lineage, the number of further tries.
    _tries: Counter[str] = field(default_factory=Counter, init=False)

    def sync(
        self, certificates: Sequence[DesiredCertificate], *, renew: bool = False
    ) -> SyncReport:
        """Sync the certificates, and try failed lineages again as long as the limit allows; return
        the joined report, incomplete if the run was stopped. Raises `StateError`.
        """
        engine = self.engine()
        self._ports = ports = engine.ports
        begun = ports.now()
        report = engine.sync(certificates, self.wait_limit, renew=renew, scheduled=True)
        while report.complete and report.problem is None:
            next_tries = self._next_tries(report)
            first = min(next_tries.values(), default=None)
            if first is None or not self.wait_limit.allows((first - begun).total_seconds()):
                break
            try:
                self._wait_until(first, next_tries)
            except (KeyboardInterrupt, errors.Interrupted):
                return replace(report, complete=False)
            now, limit = ports.now(), self.wait_limit.limit
            again = [
                desired
                for desired in certificates
                if desired.lineage in next_tries and next_tries[desired.lineage] <= now
            ]
            self._tries.update(desired.lineage for desired in again)
            left = None if limit is None else max(limit - (now - begun), timedelta(0))
            newer = self.engine().sync(again, WaitLimit(left), scheduled=True, before=report)
            report = report.with_newer(newer)
        return report

    def _next_tries(self, report: SyncReport) -> dict[str, datetime]:
        """Return the lineages to try again in this run, each with the moment of the next try."""
        now = self._ports.now()
        tries = ((each.lineage, self._next_try(each, now)) for each in report.lineages)
        return {
            lineage: moment
            for lineage, moment in tries
            if moment and moment - now <= LONGEST_IN_A_RUN
        }

    def _next_try(self, report: LineageReport, now: datetime) -> datetime | None:
        failed = [step.error for step in report.having(Outcome.FAILED) if step.error is not None]
        paused = [
            s.error for s in report.having(Outcome.WAITING) if s.error and s.error.retry.after
        ]
        # If services refused the credentials, an operator has to act. Repeated tries would make
        # the services lock the accounts.
        refused = [
            isinstance(error, errors.DnsAccessDenied | errors.TargetAccessDenied)
            for error in failed
        ]
        if not paused and all(refused):
            return None
        ends = pause_end(self._ports.state.remembered(report.lineage), now)
        if ends is None and not paused:
            # The lineage failed before any step, for example because a target was unreachable.
            pause = pause_of(self._tries[report.lineage] + 1)
            if not any(error.retry.allowed for error in failed) or pause > LONGEST_IN_A_RUN:
                return None
            ends = now + pause
        # If a service asked for a later moment than the end of the pause, that moment counts.
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
            activity = Text("failed; the next try is at {moment}", moment=until)
            self._ports.progress(Activity(lineage, activity, now, until))
        self.pause(max((until - now).total_seconds(), 0))
