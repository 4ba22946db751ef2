"""One lineage in one run: visited again and again until nothing is left to do or to wait for.

Each visit looks at the world anew and plans anew, so no step remembers being half done. A run knows
when it began, what it has told, and how much it has removed; all else that decides is in the state.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.observation import Observation
from certferry.core.planning.due import VERIFY_TIMEOUT, Times
from certferry.core.planning.plan import Doubt, Plan, doubts_in
from certferry.core.planning.planner import Issuing, make_plan
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome
from certferry.core.planning.safety import without_refused
from certferry.core.planning.steps import Action, Verify
from certferry.core.waiting import Waiting, wait_for
from certferry.errors import (
    CertferryError,
    Interrupted,
    LeaseHeld,
    LeaseLost,
    PlanRefused,
)
from certferry.ports.state import Lease
from certferry.reconcile.apply import carry_out, write_down
from certferry.reconcile.challenge_cleanup import without_order
from certferry.reconcile.doors import Doors
from certferry.reconcile.issue import rate_limit_hold
from certferry.reconcile.observe import as_offered, observe, with_remembered, with_renewal_info
from certferry.reconcile.outcomes import Outcomes
from certferry.reconcile.visit import Visit
from certferry.text import Text

AT_LEAST = VERIFY_TIMEOUT
"""How long another run is waited for, however short the time-out of domains is: with the lease it
orders a certificate and uploads it, and neither is timed by that.
"""


def held_up(error: LeaseHeld | LeaseLost, doors: Doors, since: datetime) -> StepOutcome:
    """Wait for the other run, but not for ever: every later run would come to wait as well, and
    a run that hangs would look like one at work. `since` is when the lease was first refused.
    """
    now, longest = doors.now(), max(doors.verify_timeout, AT_LEAST)
    deadline = since + longest
    if now >= deadline:
        return StepOutcome.of(None, _hanging(error, longest))
    waiting = wait_for(error.message, since, now, deadline)
    return replace(StepOutcome.of(None, error, Outcome.WAITING), waiting=waiting)


def _hanging(error: LeaseHeld | LeaseLost, longest: timedelta) -> LeaseHeld:
    return LeaseHeld(
        Text(
            "{held}; it did not end in the {time} that this run has waited",
            held=error.message,
            time=longest,
        ),
        hint=Text("look for another `certferry` that hangs (`pgrep -a certferry`), and end it"),
    )


_log = logging.getLogger(__name__)


def plan_lineage(
    desired: DesiredCertificate, observed: Observation, times: Times, issuing: Issuing
) -> Plan:
    """Plan one lineage and take out what safety refuses.

    A certificate that no place could take now is not issued: after a key or a name is corrected,
    everything is as it was, and the CA counts no order.
    """
    plan = make_plan(desired, observed, times, issuing)
    plan = without_refused(plan, desired, observed, times.now)
    could_take_it = plan.rollouts or plan.unchanged or plan.drifts
    if plan.issue_now is not None and desired.deployments and not could_take_it:
        return plan_lineage(desired, observed, times, Issuing.NEVER)
    return plan


class LineageRun:
    """Brings one lineage to its desired state, visit by visit."""

    def __init__(
        self,
        desired: DesiredCertificate,
        doors: Doors,
        issuing: Issuing = Issuing.IF_DUE,
        *,
        keeps_pauses: bool = False,
        removed: Counter[tuple[str, str]] | None = None,
    ) -> None:
        self.desired = desired
        self._doors = doors
        self._begun = doors.now()
        self._issuing = issuing
        self._keeps_pauses = keeps_pauses
        self._outcomes = Outcomes(desired.lineage, doors.progress)
        self._fingerprint: str | None = None
        self._held_up_since: datetime | None = None
        self._certain: frozenset[Doubt] = frozenset()
        self._keeping: set[str] = set()
        self._removed = Counter[tuple[str, str]]() if removed is None else removed

    def report(self) -> LineageReport:
        """Tell what has become of the lineage so far."""
        told = self._outcomes
        return LineageReport(self.desired.lineage, self._fingerprint, told.all(), told.has_looked)

    def visit(self) -> Waiting | None:
        """Look, plan, act; return the wait before the next visit, `None` when this was the last.

        Raises `Interrupted` when the run is stopped; everything else becomes an outcome. What
        stops a visit as a whole is the end of the lineage's run, unless it is another run's lease.
        """
        self._outcomes.begin_visit()
        try:
            self._visit()
            self._held_up_since = None
        except Interrupted as stopped:
            self._outcomes.trouble(StepOutcome.of(None, stopped, Outcome.SKIPPED))
            raise
        except (LeaseHeld, LeaseLost) as held:
            since = self._held_up_since = self._held_up_since or self._doors.now()
            self._outcomes.trouble(held_up(held, self._doors, since))
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

    def _visit(self) -> None:
        observed = self._with_renewal_info(self._observe())
        ordered = observed.remembered.ordered
        if ordered is not None and not ordered.is_for(self.desired):
            observed = without_order(observed, self.desired.lineage, self._doors)
        plan = self.plan(observed)
        # Without a lease no target is written to, and nothing is told that another run may explain.
        is_open = self._held_up_since is not None or doubts_in(plan, observed) - self._certain
        if not is_open and all(isinstance(step, Verify) for step in plan.ready):
            self._follow(plan, observed)
            return
        with self._doors.lease(self.desired.lineage) as lease:
            observed, plan = self._look_again(observed, anew=bool(is_open))
            if plan.issue_now is not None:
                observed = self._with_renewal_info(self._issue(plan, observed, lease))
                plan = self.plan(observed)
            self._follow(plan, observed, lease)

    def _look_again(self, before: Observation, *, anew: bool) -> tuple[Observation, Plan]:
        """Look and plan under the lease: until it was ours, another run may have changed the world.
        Where it has, or where doubts are left, nothing counts that was read before.
        """
        observed = self._observe(anew=anew)
        plan = self.plan(observed)
        doubts = doubts_in(plan, observed)
        is_news = observed.remembered != before.remembered or doubts - self._certain
        if is_news and not anew:
            return self._look_again(observed, anew=True)
        self._certain |= doubts
        return observed, plan

    def _observe(self, *, anew: bool = False) -> Observation:
        if self.desired.files is not None:
            self.desired = as_offered(self.desired, self._doors)
        return self._in_force(observe(self.desired, self._doors, anew=anew))

    def plan(self, observed: Observation) -> Plan:
        """Plan. An order that the CA would refuse now is told with its moment; all else goes on."""
        times = Times(
            now=self._doors.now(),
            begun=self._begun,
            timeout=self._doors.verify_timeout,
            keeps_pauses=self._keeps_pauses,
        )
        plan = partial(plan_lineage, self.desired, observed, times)
        planned = plan(self._issuing)
        step = planned.issue_now
        if step is None or step.action is not Action.ISSUE:
            return planned
        step = rate_limit_hold(step, self.desired, observed, self._doors.issuer, times.now)
        if step.due is None:
            return replace(planned, issue=step)
        return replace(plan(Issuing.NEVER), issue=step)

    def _with_renewal_info(self, observed: Observation) -> Observation:
        if self._issuing is Issuing.NEVER:
            return observed
        return with_renewal_info(self.desired, observed, self._doors)

    def _issue(self, plan: Plan, observed: Observation, lease: Lease) -> Observation:
        """Issue, and return the observation with what came of it."""
        self._carry_out(plan, self._as_visit(observed, lease))
        return self._in_force(with_remembered(observed, self.desired, self._doors))

    def _follow(self, plan: Plan, observed: Observation, lease: Lease | None = None) -> None:
        """Carry out every step that is ready, and tell how the others stand."""
        visit = self._as_visit(observed, lease)
        self._outcomes.note_plan(plan, observed)
        self._doors.looks.note(self.desired.lineage, observed)
        write_down(plan, visit)
        self._carry_out(plan, visit)

    def _as_visit(self, observed: Observation, lease: Lease | None) -> Visit:
        return Visit(self.desired, observed, self._doors, lease, self._keeping, self._removed)

    def _carry_out(self, plan: Plan, visit: Visit) -> None:
        for outcome in carry_out(plan.ready, visit):
            self._outcomes.note(outcome)

    def _in_force(self, observed: Observation) -> Observation:
        """Keep which version is in force, for the report."""
        if observed.current is not None:
            self._fingerprint = observed.current.certificate.fingerprint
        return observed
