"""The status of a lineage, what is recorded, and its plan. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from certferry.core.assessment.health import Recorded
from certferry.core.assessment.status import LineageStatus, status_of, with_failures
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.observation import Observation
from certferry.core.planning.due import Times
from certferry.core.planning.plan import Plan, PlanFinding, Weight
from certferry.core.planning.planner import Issuing
from certferry.core.planning.steps import Action
from certferry.core.waiting import Begun, Ended
from certferry.errors import CertificateError, PlanRefused, StateError
from certferry.ports.progress import Progress
from certferry.ports.state import StateStore
from certferry.reconcile.doors import Doors
from certferry.reconcile.lineage_run import LineageRun, plan_lineage
from certferry.reconcile.observe import as_known, as_offered, observe
from certferry.reconcile.proof import Proofs
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.unended_runs import notices_of_unended
from certferry.reconcile.visits import WORKERS

S = TypeVar("S")
T = TypeVar("T")


class SideBySide:
    """Looks, which leave nothing to put right: those that hang when it is stopped are left."""

    def __init__(self, progress: Progress, stop: Callable[[], None]) -> None:
        self._tell = progress
        self._stop = stop

    def told(
        self, look: Callable[[DesiredCertificate], T], certificates: Sequence[DesiredCertificate]
    ) -> list[T]:
        """Look at each certificate, and tell how far that is."""
        self._tell(Begun(len(certificates)))

        def one(desired: DesiredCertificate) -> T:
            found = look(desired)
            self._tell(Ended(desired.lineage))
            return found

        return self.all(one, certificates)

    def all(self, look: Callable[[S], T], subjects: Sequence[S]) -> list[T]:
        """Look at each. Raises what a look raises, once the others are stopped."""
        pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="look")
        try:
            found = list(pool.map(look, subjects))
        except BaseException:
            # Ctrl-C, or what one of them cannot say in its plan.
            self._stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return found


def plans_of(
    engine: Reconciler, certificates: Sequence[DesiredCertificate], *, renew: bool = False
) -> list[Plan]:
    """Write down what `sync` would do. Changes nothing. Raises `StateError` for a lost key."""
    doors, issuing = engine.doors, Issuing.ALWAYS if renew else Issuing.IF_DUE
    doors.state.must_unseal()
    proofs = Proofs(doors)
    return SideBySide(doors.progress, engine.stop).told(
        lambda desired: proofs.added_to(_plan_now(desired, doors, issuing), desired), certificates
    )


def statuses_of(
    engine: Reconciler, certificates: Sequence[DesiredCertificate], recorded: Recorded
) -> list[LineageStatus]:
    """Return how each lineage and each of its domains stands. Changes nothing."""
    doors = engine.doors
    return SideBySide(doors.progress, engine.stop).told(
        lambda desired: _status_now(desired, doors, recorded), certificates
    )


def _status_now(desired: DesiredCertificate, doors: Doors, recorded: Recorded) -> LineageStatus:
    """Judge by what the files hold; when they cannot be read, by what was taken from them."""
    unreadable = None
    try:
        desired = as_offered(desired, doors)
    except (CertificateError, PlanRefused) as error:
        unreadable = error
        desired = as_known(desired, doors.source, doors.state, read=False)
    observed = observe(desired, doors, every_edge=True)
    now, timeout = doors.now(), doors.verify_timeout
    status = status_of(desired, observed, now, timeout, unreadable=unreadable)
    if all(subject.lineage != desired.lineage for subject in recorded.troubles):
        return status
    # What a scheduled run would hold back, and until when, is for its plan to say.
    plan = LineageRun(desired, doors, keeps_pauses=True).plan(observed)
    return with_failures(status, recorded, observed, plan)


def recorded(state: StateStore) -> Recorded:
    """Read what is recorded of every certificate and of runs. Raises `StateError` for what cannot
    be read at all.
    """
    problem = None
    try:
        state.must_unseal()
    except StateError as error:
        problem = error.problem()
    return Recorded(
        state.versions_in_use(),
        state.sightings(),
        (*notices_of_unended(state), *state.notices()),
        state.last_run(),
        problem,
    )


def _plan_now(desired: DesiredCertificate, doors: Doors, issuing: Issuing) -> Plan:
    """Plan one lineage, with what a run refuses once it has adopted what the files hold."""
    try:
        desired = as_offered(desired, doors)
    except (CertificateError, PlanRefused) as error:
        return Plan(
            desired.lineage, desired.names, findings=(PlanFinding.of(Weight.BLOCKED, error),)
        )
    observed = observe(desired, doors)
    plan = LineageRun(desired, doors, issuing).plan(observed)
    return _with_refusals_to_come(plan, desired, observed, doors.now())


def _with_refusals_to_come(
    plan: Plan, desired: DesiredCertificate, observed: Observation, now: datetime
) -> Plan:
    """Add to a plan that adopts what a run refuses once it has: what the files hold is known."""
    offered = desired.offered
    step = plan.issue_now
    if step is None or step.action is not Action.ADOPT or offered is None:
        return plan
    adopted = Version(
        0,
        offered,
        now,
        fullchain_digest=desired.offered_fullchain,
        issuer_not_after=desired.offered_issuer_end,
    )
    after = replace(observed, versions=(adopted, *observed.versions))
    adopted_plan = plan_lineage(desired, after, Times.at(now), Issuing.NEVER)
    refusals = adopted_plan.having(Weight.REFUSED)
    refused = {(one.target, one.domain) for one in refusals}
    rollouts = tuple(r for r in plan.rollouts if (r.target, r.domain) not in refused)
    return replace(plan, rollouts=rollouts, findings=(*plan.findings, *refusals))
