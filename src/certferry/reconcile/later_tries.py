"""The later tries of a scheduled run: what has failed is tried again by the same run, after the
pauses that Let's Encrypt asks for, as long as these are minutes and not a day.

Nothing else starts between two scheduled runs, and a run that finds nothing due costs nothing more.
Killed meanwhile, the next scheduled run goes on: the pauses are in the state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from certferry.core.pauses import LONGEST_IN_A_RUN, pause_end, pause_of
from certferry.core.report import Activity, LineageReport, Outcome, SyncReport
from certferry.errors import CertferryError, DnsAccessDenied, Interrupted, TargetAccessDenied
from certferry.ports.progress import Pause
from certferry.reconcile.doors import Doors
from certferry.reconcile.visits import Patience
from certferry.text import Text

Run = Callable[[Sequence[str], Patience], SyncReport]
"""Run some of the lineages once more, with the patience that is left."""


@dataclass(frozen=True, slots=True)
class LaterTries:
    """What a run tries again. `pause` raises `Interrupted`, as everywhere; `begun` is when the run
    began, which its patience counts from.
    """

    doors: Doors
    pause: Pause
    patience: Patience
    begun: datetime
    _looks: Counter[str] = field(default_factory=Counter)

    def after(self, first: SyncReport, run: Run) -> SyncReport:
        """Try again until everything is in order, or has to wait longer than a run may; return what
        has become of all.
        """
        report = first
        while report.complete:
            due = self._due(report)
            if not due or not self._allows(min(due.values())):
                break
            try:
                self._wait_until(min(due.values()), due)
            except (KeyboardInterrupt, Interrupted):
                return replace(report, complete=False)
            now = self.doors.now()
            again = [lineage for lineage, moment in due.items() if moment <= now]
            self._looks.update(again)
            report = _with_newer(report, run(again, self._left(now)))
        return report

    def _due(self, report: SyncReport) -> dict[str, datetime]:
        now = self.doors.now()
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
        if not paused and all(map(_is_in_vain, failed)):
            return None
        ends = pause_end(self.doors.state.remembered(report.lineage), now)
        if ends is None and not paused:
            # It failed before anything was tried, as when a target does not answer.
            pause = pause_of(self._looks[report.lineage] + 1)
            if not any(error.retry.allowed for error in failed) or pause > LONGEST_IN_A_RUN:
                return None
            ends = now + pause
        asked = [error.retry.after for error in failed if error.retry.after is not None]
        return max([ends or now, *asked])

    def _allows(self, until: datetime) -> bool:
        return self.patience.allows((until - self.begun).total_seconds())

    def _left(self, now: datetime) -> Patience:
        limit = self.patience.limit
        return Patience(None if limit is None else max(limit - (now - self.begun), timedelta(0)))

    def _wait_until(self, until: datetime, lineages: Iterable[str]) -> None:
        now = self.doors.now()
        for lineage in lineages:
            what = Text("it has failed, and is tried again at {moment}", moment=until)
            self.doors.progress(Activity(lineage, what, now, until))
        self.pause(max((until - now).total_seconds(), 0))


def _is_in_vain(error: CertferryError) -> bool:
    """Tell whether only the operator can help: keys that are refused are not sent again and again,
    as services lock accounts for it.
    """
    return isinstance(error, DnsAccessDenied | TargetAccessDenied)


def _with_newer(report: SyncReport, newer: SyncReport) -> SyncReport:
    known = {each.lineage: each for each in newer.lineages}
    lineages = tuple(known.get(each.lineage, each) for each in report.lineages)
    return replace(report, lineages=lineages, complete=newer.complete)
