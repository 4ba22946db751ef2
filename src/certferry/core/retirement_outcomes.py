"""How those retirements stand that a plan does not carry out now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from certferry.core.plan import Plan
from certferry.core.removal_limits import left_to_later_runs
from certferry.core.report import Outcome, StepOutcome
from certferry.core.steps import Action, Blocked, Retire
from certferry.core.unmanaged import OTHERS_FIRST
from certferry.core.waiting import Waiting


def not_removed(plan: Plan) -> Iterator[StepOutcome]:
    """Tell what waits at each target, and what is left to later runs."""
    held_back = {step.target: step for step in plan.retirements if step.due is not None}
    for step in held_back.values():
        yield from _held_back(step)
    for target, count in plan.retire_later:
        if target not in held_back:
            yield StepOutcome(Action.RETIRE, Outcome.UNCHANGED, left_to_later_runs(count), target)


def _held_back(step: Retire) -> Iterator[StepOutcome]:
    told = StepOutcome(Action.RETIRE, Outcome.UNCHANGED, OTHERS_FIRST, step.target)
    match step.due:
        case Waiting() as waiting:
            yield replace(told, outcome=Outcome.WAITING, waiting=waiting)
        case Blocked():
            yield told
