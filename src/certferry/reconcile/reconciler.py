"""The main job: for each lineage, observe the world, compare it with what is desired, carry out the
difference, and observe again until it is served.

Each pass over a lineage observes and plans anew, so no step remembers being half done. A run knows
when it began, what it has reported, and how much it has removed; all else that decides is in the
state.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from certferry.core.assessment.health import Sighted, after_run, sighted, with_delivered
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import Begun, LineageEnded, StepEnded
from certferry.core.observed.observation import Observation
from certferry.core.planning.due import VERIFY_TIMEOUT, Times
from certferry.core.planning.plan import Action, Doubt, Plan, Verify, doubts_in
from certferry.core.planning.planner import Issuing, make_plan
from certferry.core.planning.report import (
    LineageReport,
    Outcome,
    StepKey,
    StepOutcome,
    SyncReport,
    standings,
    standings_left_alone,
    what_was_bound,
)
from certferry.core.planning.safety import without_refused
from certferry.core.reasons import Waiting, wait_for
from certferry.errors import (
    CertferryError,
    Interrupted,
    LeaseHeld,
    LeaseLost,
    PlanRefused,
    StateError,
)
from certferry.ports.progress import Progress
from certferry.ports.state import Lease
from certferry.reconcile.apply import carry_out, store_waits
from certferry.reconcile.issue import rate_limit_hold, sweep_ownerless
from certferry.reconcile.observe import observe, with_file_names, with_remembered, with_renewal_info
from certferry.reconcile.removals import without_order
from certferry.reconcile.run import Ports, Removals, StepContext, WaitLimit, WorkQueue
from certferry.text import Text

AT_LEAST = VERIFY_TIMEOUT
"""How long another run is waited for, however short the time-out of domains is: with the lease it
orders a certificate and uploads it, and neither is timed by that.
"""


_log = logging.getLogger(__name__)


def plan_lineage(
    desired: DesiredCertificate, observed: Observation, times: Times, issuing: Issuing
) -> Plan:
    """Plan one lineage and take out what safety refuses. A certificate that no place could take now
    is not issued: after a key or a name is corrected, everything is as it was, and the CA counts no
    order.
    """
    plan = make_plan(desired, observed, times, issuing)
    plan = without_refused(plan, desired, observed, times.now)
    could_take_it = plan.rollouts or plan.unchanged or plan.drifts
    if plan.issue_now is not None and desired.deployments and not could_take_it:
        return plan_lineage(desired, observed, times, Issuing.NEVER)
    return plan


class Outcomes:
    """The latest outcome of each step, in the order the steps were first heard of. It decides
    nothing: what the next pass does is in the plan. `has_looked`: a pass came so far as to report
    something.
    """

    def __init__(self, lineage: str, progress: Progress) -> None:
        self._lineage = lineage
        self._progress = progress
        self._latest: dict[StepKey, StepOutcome] = {}
        self._trouble: StepOutcome | None = None
        self._waits: dict[StepKey, Waiting] = {}
        self.has_looked = False

    def begin_pass(self) -> None:
        """Forget what was waited for: it has to be found again."""
        self._trouble = None
        self._waits.clear()

    def note(self, outcome: StepOutcome) -> None:
        """Keep an outcome, and report it if it is news."""
        self.has_looked = True
        self._waits.pop(outcome.key, None)
        if outcome.waiting is not None:
            self._waits[outcome.key] = outcome.waiting
        if self._latest.get(outcome.key) != outcome:
            self._latest[outcome.key] = outcome
            self._progress(StepEnded(self._lineage, outcome))

    def note_plan(self, plan: Plan, observed: Observation) -> None:
        """Keep how everything stands that the plan does not carry out now."""
        self.has_looked = True
        unread = {(one.target, one.domain) for one in plan.rollouts if one.unread}
        known = {key: _under(one, plan, observed) for key, one in self._latest.items()}
        after = {key: one for key, one in known.items() if one is not None}
        for standing in standings(plan, observed):
            # What is in progress at a target that cannot be read stays as the run reported it.
            deployment = replace(standing, action=Action.DEPLOY)
            begun = self._latest.get(deployment.key)
            is_begun = begun is not None and begun.outcome is Outcome.WAITING
            is_unread = (standing.target, standing.domain) in unread
            outcome = deployment if is_unread and is_begun else standing
            last = after.get(outcome.key)
            is_done = last is not None and last.outcome is Outcome.DONE
            if not (is_done and outcome.outcome is Outcome.UNCHANGED):
                after[outcome.key] = outcome
        for outcome in standings_left_alone(plan):
            last = after.get(outcome.key)
            if last is None or last.waiting is not None:
                after[outcome.key] = outcome
        self._latest = {key: one for key, one in self._latest.items() if key in after}
        for key, outcome in after.items():
            if outcome is not self._latest.get(key):
                self.note(outcome)

    def trouble(self, outcome: StepOutcome) -> None:
        """Keep what stopped the pass as a whole."""
        self._progress(StepEnded(self._lineage, outcome))
        self._trouble, self.has_looked = outcome, True

    def all(self) -> tuple[StepOutcome, ...]:
        """Return every step's latest outcome, and what stopped the last pass."""
        return tuple(filter(None, (*self._latest.values(), self._trouble)))

    def next_look(self) -> Waiting | None:
        """Return the wait that ends first, of those that this pass found."""
        if self._trouble is not None:
            return self._trouble.waiting
        return min(self._waits.values(), key=lambda waiting: waiting.until, default=None)


_ONCE = {Action.ISSUE, Action.ADOPT, Action.ROLLBACK, Action.RETIRE}
"""Steps that no later plan reports again: what became of them stays."""


def _under(known: StepOutcome, plan: Plan, observed: Observation) -> StepOutcome | None:
    """Return an earlier outcome as it stands under a later plan, `None` when it is over: what was
    waited for has to be found again. A deployment has ended once the plan has none for its domain;
    what was bound then is in the state.
    """
    target, domain = known.target or "", known.domain or ""
    found = observed.find(target, domain)
    is_unread = any(one.label == target and one.failure for one in observed.targets)
    if domain and found is None and is_unread:
        return known
    at_place = [one for one in plan.rollouts if (one.target, one.domain) == (target, domain)]
    is_deployed = any(one.deploy is not None for one in at_place)
    if known.action is Action.VERIFY and is_deployed:
        return None
    if known.outcome is Outcome.DONE:
        return known
    if known.action is Action.DEPLOY and domain:
        if is_deployed:
            return known  # carried out now, or it was tried in this run
        if found is None or not (at_place or (target, domain) in plan.unchanged):
            return None
        said = what_was_bound(found[1], observed)
        return StepOutcome(Action.DEPLOY, Outcome.DONE, said, target, domain)
    return known if known.action in _ONCE and known.waiting is None else None


class LineageReconciler:
    """Brings one lineage to its desired state, pass by pass."""

    def __init__(
        self,
        desired: DesiredCertificate,
        ports: Ports,
        issuing: Issuing = Issuing.IF_DUE,
        *,
        keeps_pauses: bool = False,
        removals: Removals | None = None,
    ) -> None:
        self.desired = desired
        self._ports = ports
        self._begun = ports.now()
        self._issuing = issuing
        self._keeps_pauses = keeps_pauses
        self._outcomes = Outcomes(desired.lineage, ports.progress)
        self._fingerprint: str | None = None
        self._lease_busy_since: datetime | None = None
        self._certain: frozenset[Doubt] = frozenset()
        self._keeping: set[str] = set()
        self._removals = removals or Removals()
        self.seen: Sighted | None = None

    def report(self) -> LineageReport:
        """Return what has become of the lineage so far."""
        known = self._outcomes
        return LineageReport(self.desired.lineage, self._fingerprint, known.all(), known.has_looked)

    def reconcile(self) -> Waiting | None:
        """Observe, plan, act; return the wait before the next pass, `None` when this was the last.
        Raises `Interrupted` when the run is stopped; everything else becomes an outcome. An error
        outside a step ends this lineage's run, unless another run holds the lease.
        """
        self._outcomes.begin_pass()
        try:
            self._make_pass()
            self._lease_busy_since = None
        except Interrupted as stopped:
            self._outcomes.trouble(StepOutcome.of(None, stopped, Outcome.SKIPPED))
            raise
        except (LeaseHeld, LeaseLost) as error:
            since = self._lease_busy_since = self._lease_busy_since or self._ports.now()
            self._outcomes.trouble(lease_busy(error, self._ports, since))
        except PlanRefused as refused:
            self._outcomes.trouble(StepOutcome.of(None, refused, Outcome.REFUSED))
        except CertferryError as error:
            self._outcomes.trouble(StepOutcome.of(None, error))
        except (Exception, SystemExit):  # noqa: BLE001 - logged whole; see below
            # A mistake of ours in one lineage must not stop the others.
            _log.exception(Text("{lineage}: unexpected error", lineage=self.desired.lineage))
            detail = Text("a mistake in certferry; please report it with the traceback above")
            self._outcomes.trouble(StepOutcome(None, Outcome.FAILED, detail))
        return self._outcomes.next_look()

    def _make_pass(self) -> None:
        observed = self._with_renewal_info(self._observe())
        ordered = observed.remembered.ordered
        if ordered is not None and not ordered.is_for(self.desired):
            observed = without_order(observed, self.desired.lineage, self._ports)
        plan = self.plan(observed)
        # Without a lease no target is written to, and nothing is reported that another run may
        # explain.
        is_open = self._lease_busy_since is not None or doubts_in(plan, observed) - self._certain
        if not is_open and all(isinstance(step, Verify) for step in plan.ready):
            self._follow(plan, observed)
            return
        with self._ports.lease(self.desired.lineage) as lease:
            observed, plan = self._again_under_lease(observed, plan, anew=bool(is_open))
            if plan.issue_now is not None:
                self._carry_out(plan, self._context(observed, lease))
                observed = self._in_force(with_remembered(observed, self.desired, self._ports))
                observed = self._with_renewal_info(observed)
                plan = self.plan(observed)
            self._follow(plan, observed, lease)

    def _again_under_lease(
        self, before: Observation, plan: Plan, *, anew: bool
    ) -> tuple[Observation, Plan]:
        """Observe under the lease, and plan again where that shows something else: until the lease
        was ours, another run may have changed the world. Where it has, or where doubts are left,
        nothing counts that was read before.
        """
        observed = self._observe(anew=anew)
        if observed != before:
            plan = self.plan(observed)
        doubts = doubts_in(plan, observed)
        is_news = observed.remembered != before.remembered or doubts - self._certain
        if is_news and not anew:
            return self._again_under_lease(observed, plan, anew=True)
        self._certain |= doubts
        return observed, plan

    def _observe(self, *, anew: bool = False) -> Observation:
        if self.desired.files is not None:
            self.desired = with_file_names(self.desired, self._ports)
        return self._in_force(observe(self.desired, self._ports, anew=anew))

    def _in_force(self, observed: Observation) -> Observation:
        """Keep which version is in force, for the report."""
        if observed.current is not None:
            self._fingerprint = observed.current.fingerprint
        return observed

    def plan(self, observed: Observation) -> Plan:
        """Plan. If the CA would refuse an order now, report when it may be placed."""
        times = Times(
            now=self._ports.now(),
            begun=self._begun,
            timeout=self._ports.verify_timeout,
            keeps_pauses=self._keeps_pauses,
        )
        plan = plan_lineage(self.desired, observed, times, self._issuing)
        step = plan.issue_now
        if step is None or step.action is not Action.ISSUE:
            return plan
        step = rate_limit_hold(step, self.desired, observed, self._ports.issuer, times.now)
        if step.due is None:
            return replace(plan, issue=step)
        without = plan_lineage(self.desired, observed, times, Issuing.NEVER)
        return replace(without, issue=step)

    def _with_renewal_info(self, observed: Observation) -> Observation:
        if self._issuing is Issuing.NEVER:
            return observed
        return with_renewal_info(self.desired, observed, self._ports)

    def _follow(self, plan: Plan, observed: Observation, lease: Lease | None = None) -> None:
        """Carry out every step that is ready, and report how the others stand."""
        self._outcomes.note_plan(plan, observed)
        self.seen = sighted(self.desired.lineage, observed, self._ports.now())
        context = self._context(observed, lease)
        store_waits(plan, context)
        self._carry_out(plan, context)

    def _context(self, observed: Observation, lease: Lease | None) -> StepContext:
        return StepContext(
            self.desired, observed, self._ports, lease, self._keeping, self._removals
        )

    def _carry_out(self, plan: Plan, context: StepContext) -> None:
        for outcome in carry_out(plan.ready, context):
            self._outcomes.note(outcome)


def lease_busy(error: LeaseHeld | LeaseLost, ports: Ports, since: datetime) -> StepOutcome:
    """Wait for the other run, but not for ever: every later run would come to wait as well, and
    a run that hangs would look like one at work. `since` is when the lease was first refused.
    """
    now, longest = ports.now(), max(ports.verify_timeout, AT_LEAST)
    deadline = since + longest
    if now < deadline:
        waiting = wait_for(error.message, since, now, deadline)
        return replace(StepOutcome.of(None, error, Outcome.WAITING), waiting=waiting)
    said = Text("{held}; it did not end in the {time} that this run has waited")
    hanging = LeaseHeld(
        said.filled(held=error.message, time=longest),
        hint=Text("look for another `certferry` that hangs (`pgrep -a certferry`), and end it"),
    )
    return StepOutcome.of(None, hanging)


class Reconciler:
    """Syncs declared certificates, through the ports it is given."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self._seen: Mapping[str, Sighted] = {}

    def sync(
        self,
        certificates: Sequence[DesiredCertificate],
        wait_limit: WaitLimit,
        *,
        renew: bool = False,
        scheduled: bool = False,
        before: SyncReport | None = None,
    ) -> SyncReport:
        """Bring the world to the declared state, within the limit. A `scheduled` run leaves
        failures alone for a while; its retries follow a report `before`. Raises `StateError` for a
        lost key.
        """
        self.ports.state.must_unseal()
        issuing = Issuing.ALWAYS if renew else Issuing.IF_DUE
        report = self.run(certificates, wait_limit, issuing, keeps_pauses=scheduled)
        whole = (before or report).with_newer(report)
        return replace(self._stored(report, whole), renewing=renew)

    def _stored(self, report: SyncReport, whole: SyncReport) -> SyncReport:
        """Store when the run ended and what it saw; return the report with what prevented that."""
        try:
            succeeded = whole.has_succeeded and not whole.leaves_failures
            self.ports.state.save_run(self.ports.now(), succeeded=succeeded)
            self._store_sightings(whole)
        except (KeyboardInterrupt, Interrupted):
            self.ports.run.stop()
            return replace(report, complete=False)
        except StateError as error:
            return replace(report, problem=error)
        return report

    def _store_sightings(self, report: SyncReport) -> None:
        """Store what the run saw at the places, for commands that ask no service."""
        after = partial(after_run, seen=with_delivered(self._seen, report.lineages))
        before = self.ports.state.sightings()
        if after(before) != before:
            self.ports.state.update_sightings(after)

    def run(
        self,
        certificates: Sequence[DesiredCertificate],
        wait_limit: WaitLimit,
        issuing: Issuing,
        *,
        keeps_pauses: bool = False,
    ) -> SyncReport:
        """Reconcile every certificate until none waits any longer, within the limit."""
        ports, removals = self.ports, Removals()
        lineages = [
            LineageReconciler(desired, ports, issuing, keeps_pauses=keeps_pauses, removals=removals)
            for desired in certificates
        ]

        def ended(one: LineageReconciler) -> None:
            ports.progress(LineageEnded(one.desired.lineage))

        ports.progress(Begun(len(lineages)))
        complete = False
        try:
            WorkQueue(lineages, ports.run, ports.now, wait_limit, ended=ended).carry_out()
            sweep_ownerless(certificates, ports)
            complete = True
        except (KeyboardInterrupt, Interrupted):
            ports.run.stop()
        self._seen = {one.desired.lineage: one.seen for one in lineages if one.seen is not None}
        return SyncReport(tuple(one.report() for one in lineages), complete=complete)
