"""What a plan says by itself: how each step stands that is not carried out now, what is as
declared, and what stands in the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from certferry.core.blocked_outcomes import left_alone
from certferry.core.bound_outcomes import BOUND, what_was_bound
from certferry.core.observed import Observation
from certferry.core.obstacle_outcomes import in_the_way, left_as_found
from certferry.core.plan import Plan, Rollout
from certferry.core.report import Outcome, StepKey, StepOutcome
from certferry.core.retirement_outcomes import not_removed
from certferry.core.rollbacks import where_withdrawn
from certferry.core.steps import Action, Blocked, Deploy, Rollback, Verify
from certferry.core.waiting import Waiting
from certferry.text import Text

SEEN = Text("served by every address that answers")
_HELD = Text("delivered, and as it was delivered")

_ONCE = {Action.ISSUE, Action.ADOPT, Action.ROLLBACK, Action.RETIRE}
"""Steps that are not told again by a later plan: what became of them stays."""


def outcomes_under(
    plan: Plan, observed: Observation, before: Mapping[StepKey, StepOutcome]
) -> dict[StepKey, StepOutcome]:
    """Return how every step stands under this plan, after what was told `before` in the run. What
    is carried out now is told when it ends.
    """
    left = {key: _outlived(outcome, plan, observed) for key, outcome in before.items()}
    after = {key: outcome for key, outcome in left.items() if outcome is not None}
    for outcome in _told(plan, observed):
        known = after.get(outcome.key)
        is_done = known is not None and known.outcome is Outcome.DONE
        if not (is_done and outcome.outcome is Outcome.UNCHANGED):
            after[outcome.key] = outcome
    for outcome in _looked_for(plan):
        as_deployment = replace(outcome, action=Action.DEPLOY)
        known = before.get(as_deployment.key)
        is_deployment = known is not None and known.outcome is Outcome.WAITING
        told = as_deployment if is_deployment else outcome
        after[told.key] = told
    for outcome in _tried(plan):
        known = after.get(outcome.key)
        if known is None or known.waiting is not None:
            after[outcome.key] = outcome
    return after


def _told(plan: Plan, observed: Observation) -> Iterator[StepOutcome]:
    """Tell how everything stands that this plan does not carry out now."""
    if plan.ceded or plan.notices or plan.obstacles or plan.refusals or plan.left_out:
        yield from in_the_way(plan)
    for rollout in plan.rollouts:
        if not rollout.unread:
            yield from _not_due(rollout.steps[0])
    for target, domain in plan.unchanged:
        yield _as_declared(target, domain, observed)
    if plan.drifts:
        yield from left_as_found(plan)
    if plan.retirements or plan.retire_later:
        yield from not_removed(plan)


def _outlived(before: StepOutcome, plan: Plan, observed: Observation) -> StepOutcome | None:
    """Return an earlier outcome as it stands under a later plan, `None` when it is over: what was
    waited for has to be found again.
    """
    place = (before.target, before.domain)
    rollouts: dict[tuple[str | None, str | None], Rollout] = {
        (rollout.target, rollout.domain): rollout for rollout in plan.rollouts
    }
    rollout = rollouts.get(place)
    if rollout is not None and rollout.unread:
        return before
    if before.action is Action.VERIFY and rollout is not None and rollout.deploy is not None:
        return None
    if before.outcome is Outcome.DONE:
        return before
    if before.domain is not None and rollout is None and _is_out_of_sight(before, observed):
        return before
    if before.action is Action.DEPLOY and before.domain is not None:
        if rollout is not None and rollout.deploy is not None:
            return before  # carried out now, or it was tried and told in this run
        if rollout is not None or place in plan.unchanged:
            _, domain = observed.locate(before.target or "", before.domain)
            is_special = domain.withdrawn or (domain.last is not None and domain.last.repairs)
            said = what_was_bound(domain, observed) if is_special else BOUND
            return replace(
                before, outcome=Outcome.DONE, detail=said, hint=None, error=None, waiting=None
            )
        return None
    return before if before.action in _ONCE and before.waiting is None else None


def _is_out_of_sight(before: StepOutcome, observed: Observation) -> bool:
    """Tell whether a domain's target cannot be read now: what was told of it stays."""
    unread = any(t.label == before.target and t.failure is not None for t in observed.targets)
    return unread and observed.find(before.target or "", before.domain or "") is None


def _not_due(step: Deploy | Verify | Rollback) -> Iterator[StepOutcome]:
    place = (step.target, step.domain)
    match step.due:
        case Waiting() as waiting:
            yield StepOutcome(step.action, Outcome.WAITING, waiting.why, *place, waiting=waiting)
        case Blocked(error) if error is not None:
            yield StepOutcome(step.action, Outcome.FAILED, error.message, *place).failed(error)


def _looked_for(plan: Plan) -> Iterator[StepOutcome]:
    """Tell of what is under way at targets that cannot be read."""
    for rollout in plan.rollouts:
        if rollout.unread:
            yield from _not_due(rollout.steps[0])


def _tried(plan: Plan) -> Iterator[StepOutcome]:
    steps = (plan.issue_not_now, *(rollout.steps[0] for rollout in plan.rollouts))
    for step in steps:
        if step is not None and isinstance(step.due, Blocked):
            yield from left_alone(step, step.due, plan.lineage)


def _as_declared(target: str, domain: str, observed: Observation) -> StepOutcome:
    _, found = observed.locate(target, domain)
    if found.kind.is_receiver:
        return StepOutcome(Action.DEPLOY, Outcome.UNCHANGED, _HELD, target, domain)
    back = where_withdrawn(found, observed) if found.withdrawn else None
    left = back is not None
    return StepOutcome(Action.VERIFY, Outcome.UNCHANGED, back or SEEN, target, domain, left=left)
