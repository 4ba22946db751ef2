"""The main job, from above: for each lineage, look at the world, compare it with the wish, carry
out the difference, and look again until it is served.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from certferry.core.desired import DesiredCertificate
from certferry.core.planner import Issuing
from certferry.core.progress import Begun, Ended
from certferry.core.report import SyncReport
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
        wishes: Sequence[DesiredCertificate],
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
        report = self.run(wishes, patience, issuing, keeps_pauses=scheduled)
        complete = self._note_end((before or report).with_newer(report)) and report.complete
        return replace(report, renewing=renew, complete=complete)

    def _note_end(self, report: SyncReport) -> bool:
        """Keep when the run ended, where that can be. Return `False` if the run is stopped here."""
        try:
            succeeded = report.has_succeeded and not report.leaves_failures
            self.doors.state.save_run(self.doors.now(), succeeded=succeeded)
            self.doors.looks.keep(report)
        except (KeyboardInterrupt, Interrupted):
            self.stop()
            return False
        except StateError as error:
            _log.warning(
                Text("could not record the end of the run: {problem}", problem=error.message)
            )
        return True

    def run(
        self,
        wishes: Sequence[DesiredCertificate],
        patience: Patience,
        issuing: Issuing,
        *,
        keeps_pauses: bool = False,
    ) -> SyncReport:
        """Visit every certificate until none waits any longer, as far as patience allows."""
        removed: Counter[tuple[str, str]] = Counter()
        runs = [
            LineageRun(wish, self.doors, issuing, keeps_pauses=keeps_pauses, removed=removed)
            for wish in wishes
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
        complete = visits.carry_out() and self._swept(wishes)
        reports = tuple(run.report() for run in runs)
        return SyncReport(reports, complete=complete)

    def _swept(self, wishes: Sequence[DesiredCertificate]) -> bool:
        """Clean up after lineages that are no more; tell whether that ran to its end."""
        try:
            left = self.doors.state.lineages_in_challenge_records()
            if left:
                sweep_ownerless(left, wishes, self.doors)
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
