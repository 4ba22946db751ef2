"""A scheduled run and its later tries: what has failed is tried again by the same run, after the
pauses that Let's Encrypt asks for, as long as these are minutes and not a day.

Nothing else starts between two scheduled runs, and a run that finds nothing due costs nothing more.
Killed meanwhile, the next scheduled run goes on: the pauses are in the state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import Activity
from certferry.core.planning.pauses import LONGEST_IN_A_RUN, pause_end, pause_of
from certferry.core.planning.report import LineageReport, Outcome, SyncReport
from certferry.errors import (
    CaUnavailable,
    DnsAccessDenied,
    Interrupted,
    RateLimited,
    Reported,
    TargetAccessDenied,
)
from certferry.ports.progress import Pause
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.visits import Patience
from certferry.text import Text


class ScheduledRun:
    """A run that tries again. `engine` connects anew for each try: keys may be right by now, and
    what was seen an hour ago is no more; `pause` raises `Interrupted`, as everywhere.
    """

    def __init__(self, engine: Callable[[], Reconciler], pause: Pause, patience: Patience) -> None:
        self._engine = engine
        self._pause = pause
        self._patience = patience
        self._looks: Counter[str] = Counter()

    def sync(
        self, certificates: Sequence[DesiredCertificate], *, renew: bool = False
    ) -> SyncReport:
        """Bring the world to the declared state, and try again until everything is in order, or has
        to wait longer than a run may; return what has become of all. Raises as `Reconciler.sync`.
        """
        engine = self._engine()
        self._doors, self._begun = engine.doors, engine.doors.now()
        report = engine.sync(certificates, self._patience, renew=renew, scheduled=True)
        while report.complete and report.problem is None:
            try:
                due = self._due(report)
                if not due or not self._allows(min(due.values())):
                    break
                self._wait_until(min(due.values()), due)
            except (KeyboardInterrupt, Interrupted):
                return replace(report, complete=False)
            now = self._doors.now()
            tried = {lineage for lineage, moment in due.items() if moment <= now}
            again = [desired for desired in certificates if desired.lineage in tried]
            self._looks.update(tried)
            newer = self._engine().sync(again, self._left(now), scheduled=True, before=report)
            report = report.with_newer(newer)
        return report

    def _due(self, report: SyncReport) -> dict[str, datetime]:
        now = self._doors.now()
        found = {each.lineage: self._next_try(each, now) for each in report.lineages}
        return {
            lineage: moment
            for lineage, moment in found.items()
            if moment is not None and moment - now <= LONGEST_IN_A_RUN
        }

    def _next_try(self, report: LineageReport, now: datetime) -> datetime | None:
        failed = [step.error for step in report.having(Outcome.FAILED) if step.error is not None]
        paused = [
            s.error for s in report.having(Outcome.WAITING) if s.error and s.error.retry.after
        ]
        if not paused and all(map(_needs_an_operator, failed)):
            return None
        ends = pause_end(self._doors.state.remembered(report.lineage), now)
        if ends is None and not paused:
            # It failed before anything was tried, as when a target does not answer.
            pause = pause_of(self._looks[report.lineage] + 1)
            if not any(error.retry.allowed for error in failed) or pause > LONGEST_IN_A_RUN:
                return None
            ends = now + pause
        # What the CA asks for counts beside our own pause, also where nothing was tried.
        by_ca = [error for error in paused if isinstance(error, RateLimited | CaUnavailable)]
        asked = [e.retry.after for e in (*failed, *by_ca) if e.retry.after is not None]
        return max([ends or now, *asked])

    def _allows(self, until: datetime) -> bool:
        return self._patience.allows((until - self._begun).total_seconds())

    def _left(self, now: datetime) -> Patience:
        limit = self._patience.limit
        return Patience(None if limit is None else max(limit - (now - self._begun), timedelta(0)))

    def _wait_until(self, until: datetime, lineages: Iterable[str]) -> None:
        now = self._doors.now()
        for lineage in lineages:
            what = Text("it has failed, and is tried again at {moment}", moment=until)
            self._doors.progress(Activity(lineage, what, now, until))
        self._pause(max((until - now).total_seconds(), 0))


def _needs_an_operator(error: Reported) -> bool:
    """Tell whether only the operator can help: keys that are refused are not sent again and again,
    as services lock accounts for it.
    """
    return isinstance(error, DnsAccessDenied | TargetAccessDenied)
