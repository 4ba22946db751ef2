"""One lineage in one run: visited again and again until nothing is left to do or to wait for.

Each visit looks at the world anew and plans anew, so no step remembers being half done. A run knows
when it began, and what it has told; everything that decides is in the state.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from certferry.core.desired import DesiredCertificate
from certferry.core.due import Times
from certferry.core.observed import Observation
from certferry.core.plan import Action, Plan
from certferry.core.planner import Issuing, make_plan
from certferry.core.report import LineageReport, Outcome, StepOutcome
from certferry.core.safety import without_refused
from certferry.core.waiting import Waiting, wait_for
from certferry.errors import CertferryError, Interrupted, LeaseHeld, LeaseLost, PlanRefused
from certferry.ports.state import Lease
from certferry.reconcile.apply import Applier, failed
from certferry.reconcile.doors import Doors
from certferry.reconcile.ferried import as_offered
from certferry.reconcile.observe import observe
from certferry.reconcile.outcomes import Outcomes
from certferry.reconcile.remembered import keep_programs, lacks_programs
from certferry.reconcile.retirements import may_retire
from certferry.reconcile.rollouts import Rollouts
from certferry.text import Text

_log = logging.getLogger(__name__)


def plan_lineage(
    desired: DesiredCertificate, observed: Observation, times: Times, issuing: Issuing
) -> Plan:
    """Plan one lineage and take out what safety refuses.

    A certificate that no place could take now is not issued: whoever corrects a key or a name
    finds everything as it was, and the CA counts no order.
    """
    plan = make_plan(desired, observed, times, issuing)
    plan = without_refused(plan, desired, observed, times.now)
    could_take_it = plan.rollouts or plan.unchanged
    if plan.issue is not None and desired.deployments and not could_take_it:
        return plan_lineage(desired, observed, times, Issuing.NEVER)
    return plan


class LineageRun:
    """Brings one lineage to its desired state, visit by visit."""

    def __init__(self, desired: DesiredCertificate, doors: Doors, *, renew: bool = False) -> None:
        self.desired = desired
        self._doors = doors
        self._begun = doors.now()
        self._issuing = Issuing.ALWAYS if renew else Issuing.IF_DUE
        self._outcomes = Outcomes(desired.lineage, doors.progress)
        self._applier = Applier(desired, doors)
        self._rollouts = Rollouts(desired.lineage, doors, self._applier, self._outcomes)
        self._fingerprint: str | None = None

    def report(self) -> LineageReport:
        """Tell what has become of the lineage so far."""
        return LineageReport(self.desired.lineage, self._fingerprint, self._outcomes.all())

    def visit(self) -> Waiting | None:
        """Look, plan, act; give the wait before the next visit, or `None` when this was the last.

        Raises `Interrupted` when the run is stopped; everything else becomes an outcome. What
        stops a visit as a whole is the end of the lineage's run, unless it is another run's lease.
        """
        self._outcomes.begin_visit()
        try:
            self._visit()
        except Interrupted as stopped:
            self._outcomes.trouble(_trouble(Outcome.SKIPPED, stopped))
            raise
        except (LeaseHeld, LeaseLost) as held:
            self._outcomes.trouble(self._held_up(held))
        except PlanRefused as refused:
            self._outcomes.trouble(_trouble(Outcome.REFUSED, refused))
        except CertferryError as error:
            self._outcomes.trouble(_trouble(Outcome.FAILED, error))
        except Exception:  # noqa: BLE001 - logged whole; see below
            # A mistake of ours in one lineage must not stop the others.
            _log.exception(Text("{lineage}: unexpected error", lineage=self.desired.lineage))
            detail = Text("a mistake in certferry; please report it with the traceback above")
            self._outcomes.trouble(StepOutcome(Action.LOOK, Outcome.FAILED, detail))
        return self._outcomes.next_look()

    def _held_up(self, error: LeaseHeld | LeaseLost) -> StepOutcome:
        """Wait for the other run, but not for ever: every later run would come to wait as well."""
        now, deadline = self._doors.now(), self._begun + self._doors.verify_timeout
        told = _trouble(Outcome.WAITING, error)
        if now >= deadline:
            return told
        return replace(told, waiting=wait_for(error.message, self._begun, now, deadline))

    def _visit(self) -> None:
        observed = self._observe()
        plan = self._plan(observed)
        if self._must_act(plan):
            with self._doors.lease(self.desired.lineage) as lease:
                self._act(lease)
        else:
            self._rollouts.follow(plan, observed, lease=None)

    def _act(self, lease: Lease) -> None:
        # Looked at again: until the lease was ours, another run may have changed the world.
        observed = self._observe()
        observed = self._issue(self._plan(observed), observed, lease)
        plan = self._plan(observed)
        keep_programs(self.desired, plan, self._doors)
        self._rollouts.follow(plan, observed, lease=lease)
        # Last: an order that went on has taken up its own records, and what is still in doubt
        # after that may take a while to be sure of.
        self._sweep()

    def _observe(self) -> Observation:
        self.desired = as_offered(self.desired, self._doors)
        observed = observe(self.desired, self._doors)
        if observed.current is not None:
            self._fingerprint = observed.current.certificate.fingerprint
        return observed

    def _plan(self, observed: Observation) -> Plan:
        times = Times(self._doors.now(), self._begun, self._doors.verify_timeout)
        return plan_lineage(self.desired, observed, times, self._issuing)

    def _must_act(self, plan: Plan) -> bool:
        return (
            plan.issue is not None
            or any(rollout.deploy and rollout.due is None for rollout in plan.rollouts)
            or any(may_retire(step, plan) for step in plan.retirements)
            or lacks_programs(self.desired, plan, self._doors)
            or self._has_leftovers()
        )

    def _has_leftovers(self) -> bool:
        # Those of a lineage that is ferried by now are ownerless: see `challenge_cleanup`.
        wish = self.desired
        return wish.files is None and bool(self._doors.state.challenge_records(wish.lineage))

    def _sweep(self) -> None:
        if self._has_leftovers():
            outcome = self._applier.sweep()
            if outcome is not None:
                self._outcomes.note(outcome)
                return
        self._outcomes.forget((Action.CLEAN, None, None))

    def _issue(self, plan: Plan, observed: Observation, lease: Lease) -> Observation:
        """Issue if it is planned, and give the observation with the new certificate in it."""
        if plan.issue is None:
            return observed
        outcome, version = self._applier.issue(plan.issue, lease)
        self._outcomes.note(outcome)
        observed = replace(
            observed, issue_tried_at=self._doors.state.issue_tried_at(self.desired.lineage)
        )
        if version is None:
            return observed
        self._fingerprint = version.certificate.fingerprint
        # Adopted with other issuers, it is the version that was there.
        others = (known for known in observed.versions if known.number != version.number)
        return replace(observed, versions=(version, *others))


def _trouble(outcome: Outcome, error: CertferryError) -> StepOutcome:
    """Tell what stopped a visit as a whole."""
    told = failed(StepOutcome(Action.LOOK, outcome, error.message), error)
    return replace(told, outcome=outcome)
