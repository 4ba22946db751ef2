"""What a plan says by itself: how each step stands that is not carried out now, what is as
declared, and what stands in the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from certferry.core.desired.certificate import DriftPolicy
from certferry.core.observed.observation import Observation, ObservedDomain
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.drift import Drifted, in_sentences
from certferry.core.planning.plan import Obstacle, Plan, Refusal, Rollout
from certferry.core.planning.removals import OTHERS_FIRST, left_to_later_runs
from certferry.core.planning.report import Outcome, StepKey, StepOutcome
from certferry.core.planning.rollbacks import previous_of, where_withdrawn
from certferry.core.planning.steps import Action, Blocked, Deploy, Issue, Retire, Rollback, Verify
from certferry.core.waiting import Waiting
from certferry.errors import CertferryError, CertificateError, DeployError, Retry
from certferry.text import Text

_Step = Issue | Deploy | Verify | Rollback


def left_alone(step: _Step, due: Blocked, lineage: str) -> Iterator[StepOutcome]:
    """Tell until when a step waits, since it failed before or the CA would refuse it; and what
    another run tried in vain since this one began.
    """
    place = (None, None) if isinstance(step, Issue) else (step.target, step.domain)
    if due.until is not None:
        error = due.error or _paused(step, due.until, lineage)
        told = StepOutcome(step.action, Outcome.WAITING, error.message, *place)
        yield told.with_error(error, Outcome.WAITING)
    if due.tried_at is not None:
        failure = (DeployError if isinstance(step, Deploy) else CertificateError)(
            Text("another run tried it at {moment} and failed", moment=due.tried_at),
            hint=Text(
                "`certferry history {lineage}` tells why; the next run tries again", lineage=lineage
            ),
        )
        yield StepOutcome(step.action, Outcome.FAILED, failure.message, *place).failed(failure)


def _paused(step: _Step, until: datetime, lineage: str) -> CertferryError:
    return (CertificateError if isinstance(step, Issue) else DeployError)(
        Text("it has failed before, and is tried again at {moment}", moment=until),
        hint=Text(
            "`certferry history {lineage}` tells why; `certferry sync {lineage}` tries at once",
            lineage=lineage,
        ),
        retry=Retry.at(until),
    )


BOUND = Text("bound")


def what_was_bound(domain: ObservedDomain, observed: Observation) -> Text:
    """Say whether it was the previous certificate, and until when that is valid; or whether the
    change of another tool was undone.
    """
    previous = previous_of(domain, observed)
    if previous is not None:
        until = previous.certificate.not_after
        return Text("bound: the previous certificate, valid until {moment}", moment=until)
    if domain.last is not None and _is_repair(domain.last):
        return Text("bound: what another tool had changed is undone")
    return BOUND


def _is_repair(record: RolloutRecord) -> bool:
    """Tell whether this rollout is a repair; those before it stay in the record."""
    return bool(record.repairs) and record.repairs[0] >= record.started_at


_PUT_RIGHT = Text(
    'find out who changed it; drift = "repair" in the deployment has certferry set it right'
)


def in_the_way(plan: Plan) -> Iterator[StepOutcome]:
    """Tell what others serve, what is switched off, what cannot be read, and what cannot or must
    not be done.
    """
    for target, lineages in plan.owned_elsewhere:
        yield StepOutcome(Action.DEPLOY, Outcome.UNCHANGED, served_by(lineages), target)
    for one in plan.left_out:
        place = (one.target, one.domain)
        said = one.error.message
        yield StepOutcome(Action.DEPLOY, Outcome.UNCHANGED, said, *place, left=True)
    for notice in plan.notices:
        yield _unread(notice)
    for obstacle in plan.obstacles:
        yield _obstructed(obstacle)
    for refusal in plan.refusals:
        yield _refused(refusal)


def left_as_found(plan: Plan) -> Iterator[StepOutcome]:
    """Tell of each drift, but where a certificate is on its way: then it is for that to be told."""
    rolled_out = {(rollout.target, rollout.domain) for rollout in plan.rollouts}
    for drifted in plan.drifts:
        if (drifted.target, drifted.domain) not in rolled_out:
            yield _as_found(drifted)


def _as_found(drifted: Drifted) -> StepOutcome:
    return StepOutcome(
        Action.DEPLOY,
        Outcome.UNCHANGED,
        Text(
            'changed outside certferry, and left like that (drift = "{policy}"): {changes}',
            policy=drifted.policy.value,
            changes=in_sentences(drifted.changes),
        ),
        drifted.target,
        drifted.domain,
        hint=_PUT_RIGHT if drifted.policy is DriftPolicy.WARN else None,
        left=True,
    )


def _obstructed(obstacle: Obstacle) -> StepOutcome:
    action = Action.LOOK if obstacle.target is None else Action.DEPLOY
    place = (obstacle.target, obstacle.domain)
    told = StepOutcome(action, Outcome.FAILED, obstacle.error.message, *place)
    return told.failed(obstacle.error)


def _unread(notice: Obstacle) -> StepOutcome:
    told = StepOutcome(Action.LOOK, Outcome.SKIPPED, notice.error.message, notice.target)
    return told.with_error(notice.error, Outcome.SKIPPED)


def _refused(refusal: Refusal) -> StepOutcome:
    step = refusal.step
    return StepOutcome(
        Action.DEPLOY,
        Outcome.REFUSED,
        refusal.reason.message,
        step.target,
        step.domain,
        hint=refusal.hint,
        reason=refusal.reason.code,
    )


def served_by(lineages: Iterable[str]) -> Text:
    """Say why a certificate has nothing to serve at a target."""
    return Text("every domain that it covers is served by {lineages}", lineages=list(lineages))


def not_removed(plan: Plan) -> Iterator[StepOutcome]:
    """Tell what waits at each target, and what is left to later runs."""
    rate_limit_hold = {step.target: step for step in plan.retirements if step.due is not None}
    for step in rate_limit_hold.values():
        yield from _held_back(step)
    for target, count in plan.retire_later:
        if target not in rate_limit_hold:
            yield StepOutcome(Action.RETIRE, Outcome.UNCHANGED, left_to_later_runs(count), target)


def _held_back(step: Retire) -> Iterator[StepOutcome]:
    told = StepOutcome(Action.RETIRE, Outcome.UNCHANGED, OTHERS_FIRST, step.target)
    match step.due:
        case Waiting() as waiting:
            yield replace(told, outcome=Outcome.WAITING, waiting=waiting)
        case Blocked():
            yield told


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
    if plan.owned_elsewhere or plan.notices or plan.obstacles or plan.refusals or plan.left_out:
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
