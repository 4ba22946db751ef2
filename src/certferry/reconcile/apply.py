"""Carry out the steps of a plan that are ready, one function for each kind, and write down since
when the others wait. Every failure becomes an outcome, so that one domain's failure stops neither
the others nor the other certificates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from certferry.core.planning.plan import Plan, Rollout
from certferry.core.planning.report import SEEN, Outcome, StepOutcome
from certferry.core.planning.steps import (
    Action,
    Clean,
    Deploy,
    Issue,
    Retire,
    Rollback,
    Step,
    Verify,
)
from certferry.core.waiting import Waiting
from certferry.errors import Interrupted
from certferry.reconcile.challenge_cleanup import clean
from certferry.reconcile.deploy import deploy, with_unasked
from certferry.reconcile.drift import note_drift, note_end_of_drift
from certferry.reconcile.issue import issue
from certferry.reconcile.receivers import deliver
from certferry.reconcile.retire import may_remove, retire, retire_unmanaged
from certferry.reconcile.rollback import note_refusal, roll_back
from certferry.reconcile.stopping import during
from certferry.reconcile.visit import Visit


def carry_out(steps: Sequence[Step], visit: Visit) -> Iterator[StepOutcome]:
    """Carry out steps that are ready, in their order, and tell what becomes of each.

    Raises `LeaseLost` before anything is written that another run may have overtaken, and
    `Interrupted`.
    """
    others = [step for step in steps if isinstance(step, Retire) and step.unmanaged]
    for step in steps:
        if isinstance(step, Rollback):
            yield from roll_back(step, visit)
        elif step not in others and (not isinstance(step, Retire) or may_remove(step, visit)):
            try:
                yield _executed(step, visit)
            except Interrupted as stopped:
                raise during(step.action, stopped) from stopped
    if others:
        yield from retire_unmanaged(others, visit)


def _executed(step: Issue | Deploy | Verify | Retire | Clean, visit: Visit) -> StepOutcome:
    match step:
        case Issue():
            return issue(step, visit)
        case Deploy() if step.kind.is_receiver:
            return deliver(step, visit)
        case Deploy():
            return deploy(step, visit)
        case Verify():
            return verify(step, visit)
        case Retire():
            return retire(step, visit)
        case Clean():
            return clean(step, visit)


def write_down(plan: Plan, visit: Visit) -> None:
    """Write down what the plan waits for, since when, and what it leaves as it was found."""
    for rollout in plan.rollouts:
        if isinstance(rollout.due, Waiting) and not rollout.unread:
            _begin(rollout, visit)
    for drifted in plan.drifts:
        note_drift(drifted, visit)
    for target, domain in plan.unchanged:
        last = visit.observed.locate(target, domain)[1].last
        if last is not None and last.drift is not None:
            note_end_of_drift(last, visit)


def _begin(rollout: Rollout, visit: Visit) -> None:
    if rollout.deploy is not None:
        visit.begin(rollout.deploy)
        return
    (verify,) = (step for step in rollout.steps if isinstance(step, Verify))
    _, domain = visit.observed.locate(verify.target, verify.domain)
    if domain.seen_at(verify.fingerprint) is not None:
        return  # stays known as seen: what another tool binds next is drift
    record = visit.begin(verify)
    if record.worked_before:  # otherwise there is nothing that a rollback would mend
        note_refusal(verify, record, visit)


def verify(step: Verify, visit: Visit) -> StepOutcome:
    """Write down that every address was seen to serve the certificate."""
    _, domain = visit.observed.locate(step.target, step.domain)
    last = domain.last
    # Without a lease another run may have gone on meanwhile: then it is for that one to tell.
    if last is not None and visit.doors.state.replace_rollout(
        last, replace(last, verified_at=visit.now)
    ):
        visit.tell(
            "verified",
            target=step.target,
            domain=step.domain,
            fingerprint=last.fingerprint,
            **{change.what: f"{change.was} → {change.becomes}" for change in step.changes},
        )
    told = StepOutcome(Action.VERIFY, Outcome.DONE, SEEN, step.target, step.domain)
    return with_unasked(told, step) if step.changes else told
