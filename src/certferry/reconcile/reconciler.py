"""The main job, from above: for each lineage, look at the world, compare it with the wish, carry
out the difference, and look again until it is served. Start reading here.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from certferry.core.desired import DesiredCertificate
from certferry.core.plan import Plan
from certferry.core.planner import Issuing
from certferry.core.progress import Begun, Ended
from certferry.core.report import SyncReport
from certferry.core.status import LineageStatus
from certferry.core.trouble import troubles_in
from certferry.errors import Interrupted, StateError
from certferry.reconcile.challenge_cleanup import sweep_ownerless
from certferry.reconcile.doors import Doors
from certferry.reconcile.ferried import as_known
from certferry.reconcile.lineage_run import LineageRun
from certferry.reconcile.proof import Proofs
from certferry.reconcile.rollback import give_up_where_refused, roll_back_by_hand
from certferry.reconcile.side_by_side import SideBySide
from certferry.reconcile.status import plan_now, status_now
from certferry.reconcile.visits import Patience, Visits
from certferry.text import Text

_log = logging.getLogger(__name__)


class Reconciler:
    """Plans, syncs and reports on declared certificates, through the doors it is given."""

    def __init__(self, doors: Doors, *, stop: Callable[[], None]) -> None:
        self.doors = doors
        self._stop = stop

    def plan(self, wishes: Sequence[DesiredCertificate], *, renew: bool = False) -> list[Plan]:
        """Write down what `sync` would do. Changes nothing. Raises `StateError` for a lost key."""
        self.doors.state.must_unseal()
        issuing = Issuing.ALWAYS if renew else Issuing.IF_DUE
        proofs = Proofs(self.doors)
        return self.side_by_side.told(
            lambda wish: proofs.added_to(plan_now(wish, self.doors, issuing), wish), wishes
        )

    def status(self, wishes: Sequence[DesiredCertificate]) -> list[LineageStatus]:
        """Tell how each lineage and each of its domains stands. Changes nothing."""
        troubles = troubles_in(self.doors.state.notices())
        return self.side_by_side.told(lambda wish: status_now(wish, self.doors, troubles), wishes)

    @property
    def side_by_side(self) -> SideBySide:
        """What looks at several certificates at once."""
        return SideBySide(self.doors.progress, self._stop)

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
        leaves failures alone for a while; later tries follow a report `before`. Raises as `plan`.
        """
        self.doors.state.must_unseal()
        issuing = Issuing.ALWAYS if renew else Issuing.IF_DUE
        report = self._run(wishes, patience, issuing, keeps_pauses=scheduled)
        complete = self._note_end((before or report).with_newer(report)) and report.complete
        return replace(report, renewing=renew, complete=complete)

    def _note_end(self, report: SyncReport) -> bool:
        """Keep when the run ended, where that can be. Return `False` if the run is stopped here."""
        try:
            succeeded = report.has_succeeded and not report.leaves_failures
            self.doors.state.save_run(self.doors.now(), succeeded=succeeded)
            self.doors.looks.keep(report)
        except (KeyboardInterrupt, Interrupted):
            self._stop()
            return False
        except StateError as error:
            _log.warning(
                Text("could not record the end of the run: {problem}", problem=error.message)
            )
        return True

    def withdraw(self, wish: DesiredCertificate) -> DesiredCertificate:
        """Withdraw the certificate in force wherever it is to be served, and return the wish for
        `go_back`. Raises `PlanRefused` where there is none to go back to, and as `plan`; then
        nothing was changed.
        """
        self.doors.state.must_unseal()
        wish = as_known(wish, self.doors.source, self.doors.state, read=False)
        roll_back_by_hand(wish, self.doors)
        return wish

    def go_back(self, wish: DesiredCertificate, patience: Patience) -> SyncReport:
        """Bind the previous certificate wherever the one in force was withdrawn."""
        report = self._run([wish], patience, Issuing.NEVER)
        for lineage in report.lineages:
            give_up_where_refused(lineage, self.doors)
        return report

    def _run(
        self,
        wishes: Sequence[DesiredCertificate],
        patience: Patience,
        issuing: Issuing,
        *,
        keeps_pauses: bool = False,
    ) -> SyncReport:
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
            stop=self._stop,
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
            self._stop()
            return False
        except StateError as error:  # nothing that is declared depends on it
            _log.warning(
                Text(
                    "certferry could not look for challenge records of earlier runs: {problem}",
                    problem=error.message,
                )
            )
        return True
