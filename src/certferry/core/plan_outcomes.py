"""What a plan says by itself: how each step stands that is not carried out now, what is as
declared, and what stands in the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from certferry.core.observed import Observation
from certferry.core.ownership import served_by
from certferry.core.plan import (
    Action,
    Blocked,
    Deploy,
    Obstacle,
    Plan,
    Refusal,
    Retire,
    Verify,
)
from certferry.core.report import Outcome, StepOutcome
from certferry.core.unmanaged import OTHERS_FIRST
from certferry.core.waiting import Waiting
from certferry.text import Text

SEEN = Text("served by every address that answers")
_HELD = Text("delivered, and as it was delivered")
_BOUND = Text("bound")

_ONCE = {Action.ISSUE, Action.ADOPT, Action.RETIRE}
"""Steps that are not told again by a later plan: what became of them stays."""


def outcomes_of(plan: Plan, observed: Observation) -> Iterator[StepOutcome]:
    """Tell how everything stands that this plan does not carry out now."""
    for target, lineages in plan.ceded:
        yield StepOutcome(Action.DEPLOY, Outcome.UNCHANGED, served_by(lineages), target)
    for notice in plan.notices:
        yield _unread(notice)
    for obstacle in plan.obstacles:
        yield _obstructed(obstacle)
    for refusal in plan.refusals:
        yield _refused(refusal)
    for rollout in plan.rollouts:
        yield from _not_due(rollout.steps[0])
    for target, domain in plan.unchanged:
        yield _as_declared(target, domain, observed)
    held_back = {step.target: step for step in plan.retirements if step.due is not None}
    for step in held_back.values():
        yield from _held_back(step)


def outlived(before: StepOutcome, plan: Plan) -> StepOutcome | None:
    """Return what is left of an outcome of which a later plan does not speak, `None` when it is
    over: what was waited for has to be found again.
    """
    place = (before.target, before.domain)
    steps: dict[tuple[str | None, str | None], Deploy | Verify] = {
        (rollout.target, rollout.domain): rollout.steps[0] for rollout in plan.rollouts
    }
    step = steps.get(place)
    if before.action is Action.VERIFY and isinstance(step, Deploy):
        return None
    if before.outcome is Outcome.DONE:
        return before
    if before.action is Action.DEPLOY and before.domain is not None:
        if isinstance(step, Deploy):  # carried out now, or it was tried and told in this run
            return before
        if step is not None or place in plan.unchanged:
            return replace(
                before, outcome=Outcome.DONE, detail=_BOUND, hint=None, error=None, waiting=None
            )
        return None
    return before if before.action in _ONCE and before.waiting is None else None


def _not_due(step: Deploy | Verify) -> Iterator[StepOutcome]:
    place = (step.target, step.domain)
    match step.due:
        case Waiting() as waiting:
            yield StepOutcome(step.action, Outcome.WAITING, waiting.why, *place, waiting=waiting)
        case Blocked(error) if error is not None:
            yield StepOutcome(step.action, Outcome.FAILED, error.message, *place).failed(error)


def _as_declared(target: str, domain: str, observed: Observation) -> StepOutcome:
    if observed.locate(target, domain)[1].kind.is_receiver:
        return StepOutcome(Action.DEPLOY, Outcome.UNCHANGED, _HELD, target, domain)
    return StepOutcome(Action.VERIFY, Outcome.UNCHANGED, SEEN, target, domain)


def _held_back(step: Retire) -> Iterator[StepOutcome]:
    told = StepOutcome(Action.RETIRE, Outcome.UNCHANGED, OTHERS_FIRST, step.target)
    match step.due:
        case Waiting() as waiting:
            yield replace(told, outcome=Outcome.WAITING, waiting=waiting)
        case Blocked():
            yield told


def _obstructed(obstacle: Obstacle) -> StepOutcome:
    action = Action.LOOK if obstacle.target is None else Action.DEPLOY
    place = (obstacle.target, obstacle.domain)
    told = StepOutcome(action, Outcome.FAILED, obstacle.error.message, *place)
    return told.failed(obstacle.error)


def _unread(notice: Obstacle) -> StepOutcome:
    told = StepOutcome(Action.LOOK, Outcome.SKIPPED, notice.error.message, notice.target)
    return replace(told.failed(notice.error), outcome=Outcome.SKIPPED)


def _refused(refusal: Refusal) -> StepOutcome:
    step = refusal.step
    return StepOutcome(
        Action.DEPLOY,
        Outcome.REFUSED,
        refusal.reason.message,
        step.target,
        step.domain,
        hint=refusal.hint,
    )
