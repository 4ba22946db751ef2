"""Remove what has had its time, once every domain of the target has been seen."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from certferry.core.observed import Observation, ObservedTarget
from certferry.core.plan import Action, Plan, Retire
from certferry.core.report import Outcome, StepOutcome
from certferry.core.waiting import wait_for
from certferry.errors import TargetAccessDenied
from certferry.ports.state import Lease
from certferry.reconcile.apply import Applier
from certferry.reconcile.doors import Doors
from certferry.reconcile.outcomes import Outcomes
from certferry.text import Text

_OTHERS_FIRST = Text("another certificate is still on its way to this account")


def may_retire(step: Retire, plan: Plan) -> bool:
    """Tell whether its successor has been seen wherever the step's target is to serve it."""
    return all(rollout.target != step.target for rollout in plan.rollouts)


@dataclass(slots=True)
class _Kept:
    """How many of everybody else's certificates an account keeps."""

    used: int = 0
    refused: int = 0
    answer: Text | None = None

    def in_words(self) -> Text:
        """Count them, with the last answer that says something else than that they are used."""
        used = Text("others that something still uses are kept: {count}", count=self.used)
        if self.answer is None:
            return used
        refused = Text(
            "others that the target does not remove: {count} ({answer})",
            count=self.refused,
            answer=self.answer,
        )
        return Text("{counts}", counts=[used, refused]) if self.used else refused


class Retirements:
    """The retirements of one lineage in one run. Of everybody else's certificates, those that are
    kept are only counted: there may be hundreds.
    """

    def __init__(self, doors: Doors, applier: Applier, outcomes: Outcomes) -> None:
        self._doors = doors
        self._applier = applier
        self._outcomes = outcomes
        self._kept: defaultdict[str, _Kept] = defaultdict(_Kept)
        self._given_up: set[str] = set()

    def follow(self, plan: Plan, observed: Observation, *, lease: Lease | None) -> None:
        """Take every step that may be taken now."""
        for target in observed.targets:
            self._let_go(target.label)
        for step in plan.retirements:
            if lease is not None and may_retire(step, plan):
                self._retire(step, _target_of(step, observed), lease)
        for label, kept in self._kept.items():
            held = self._outcomes.of((Action.RETIRE, label, None))
            if held is None or held.waiting is None:
                told = StepOutcome(Action.RETIRE, Outcome.UNCHANGED, kept.in_words(), label)
                self._outcomes.note(told)

    def _retire(self, step: Retire, target: ObservedTarget, lease: Lease) -> None:
        if not step.anybodys:
            self._outcomes.note(self._applier.retire(step, target, lease))
        elif target.unsettled_since is not None:
            self._hold_back(step.target, target.unsettled_since)
        elif step.target not in self._given_up:
            self._retire_anybodys(step, target, lease)

    def _retire_anybodys(self, step: Retire, target: ObservedTarget, lease: Lease) -> None:
        told = self._applier.retire(step, target, lease)
        kept = self._kept[step.target] if told.outcome is Outcome.UNCHANGED else None
        if kept is None:
            self._outcomes.note(told)
            if isinstance(told.error, TargetAccessDenied):
                self._given_up.add(step.target)  # it would say the same of every other
        elif told.error is None:
            kept.used += 1
        else:
            kept.refused, kept.answer = kept.refused + 1, told.detail

    def _hold_back(self, target: str, since: datetime) -> None:
        """What another lineage's certificate replaces may be served until that one has arrived."""
        now, deadline = self._doors.now(), since + self._doors.verify_timeout
        if now < deadline:
            waiting = wait_for(_OTHERS_FIRST, since, now, deadline)
            told = StepOutcome(
                Action.RETIRE, Outcome.WAITING, _OTHERS_FIRST, target, waiting=waiting
            )
        else:
            told = StepOutcome(Action.RETIRE, Outcome.UNCHANGED, _OTHERS_FIRST, target)
        self._outcomes.note(told)

    def _let_go(self, target: str) -> None:
        """What was waited for is found anew, or it is over: another lineage may have removed it."""
        told = self._outcomes.of((Action.RETIRE, target, None))
        if told is not None and told.waiting is not None:
            self._outcomes.forget((Action.RETIRE, target, None))


def _target_of(step: Retire, observed: Observation) -> ObservedTarget:
    return next(
        target
        for target in observed.targets
        if target.label == step.target and step.remote_id in _remote_ids(target)
    )


def _remote_ids(target: ObservedTarget) -> set[str]:
    return {r.remote_id for r in target.remotes} | {o.remote_id for o in target.others}
