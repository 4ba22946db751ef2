"""What a plan tells of what stays as it is: obstacles, refusals, drift that is left, domains that
other lineages serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from certferry.core.drift import Drifted
from certferry.core.https_changes import in_sentences
from certferry.core.plan import Obstacle, Plan, Refusal
from certferry.core.policies import DriftPolicy
from certferry.core.report import Outcome, StepOutcome
from certferry.core.steps import Action
from certferry.text import Text

_PUT_RIGHT = Text(
    'find out who changed it; drift = "repair" in the deployment has certferry set it right'
)


def in_the_way(plan: Plan) -> Iterator[StepOutcome]:
    """Tell what others serve, what is switched off, what cannot be read, and what cannot or must
    not be done.
    """
    for target, lineages in plan.ceded:
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
        reason=refusal.reason.code,
    )


def served_by(lineages: Iterable[str]) -> Text:
    """Say why a certificate has nothing to serve at a target."""
    return Text("every domain that it covers is served by {lineages}", lineages=list(lineages))
