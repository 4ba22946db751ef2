"""The main job, from above: for each lineage, look at the world, compare it with the wish, carry
out the difference, and look again until it is served.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.planning.planner import Issuing
from certferry.core.planning.report import SyncReport
from certferry.core.waiting import Begun, Ended
from certferry.errors import Interrupted, StateError
from certferry.reconcile.challenge_cleanup import sweep_ownerless
from certferry.reconcile.doors import Doors
from certferry.reconcile.lineage_run import LineageRun
from certferry.reconcile.visits import Patience, Visits
from certferry.text import Text

_log = logging.getLogger(__name__)


class Reconciler:
    """Syncs declared certificates, through the doors it is given."""

    def __init__(self, doors: Doors, *, stop: Callable[[], None]) -> None:
        self.doors = doors
        self.stop = stop

    def sync(
        self,
        certificates: Sequence[DesiredCertificate],
        patience: Patience,
        *,
        renew: bool = False,
        scheduled: bool = False,
        before: SyncReport | None = None,
    ) -> SyncReport:
        """Bring the world to the declared state, as far as patience allows. A `scheduled` run
        leaves failures alone for a while; later tries follow a report `before`. Raises
        `StateError` for a lost key.
        """
        self.doors.state.must_unseal()
        issuing = Issuing.ALWAYS if renew else Issuing.IF_DUE
        report = self.run(certificates, patience, issuing, keeps_pauses=scheduled)
        return replace(self._noted(report, (before or report).with_newer(report)), renewing=renew)

    def _noted(self, report: SyncReport, whole: SyncReport) -> SyncReport:
        """Keep when the run ended; return the report with what prevented that."""
        try:
            succeeded = whole.has_succeeded and not whole.leaves_failures
            self.doors.state.save_run(self.doors.now(), succeeded=succeeded)
            self.doors.looks.keep(whole)
        except (KeyboardInterrupt, Interrupted):
            self.stop()
            return replace(report, complete=False)
        except StateError as error:
            return replace(report, problem=error)
        return report

    def run(
        self,
        certificates: Sequence[DesiredCertificate],
        patience: Patience,
        issuing: Issuing,
        *,
        keeps_pauses: bool = False,
    ) -> SyncReport:
        """Visit every certificate until none waits any longer, as far as patience allows."""
        removed: Counter[tuple[str, str]] = Counter()
        runs = [
            LineageRun(desired, self.doors, issuing, keeps_pauses=keeps_pauses, removed=removed)
            for desired in certificates
        ]
        tell = self.doors.progress
        tell(Begun(len(runs)))
        visits = Visits(
            runs,
            patience,
            self.doors.now,
            stop=self.stop,
            ended=lambda run: tell(Ended(run.desired.lineage)),
        )
        complete = visits.carry_out() and self._swept(certificates)
        reports = tuple(run.report() for run in runs)
        return SyncReport(reports, complete=complete)

    def _swept(self, certificates: Sequence[DesiredCertificate]) -> bool:
        """Clean up after lineages that are no more; tell whether that ran to its end."""
        try:
            left = self.doors.state.lineages_in_challenge_records()
            if left:
                sweep_ownerless(left, certificates, self.doors)
        except (KeyboardInterrupt, Interrupted):
            self.stop()
            return False
        except StateError as error:  # nothing that is declared depends on it
            _log.warning(
                Text(
                    "certferry could not look for challenge records of earlier runs: {problem}",
                    problem=error.message,
                )
            )
        return True
