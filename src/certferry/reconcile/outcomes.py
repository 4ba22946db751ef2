"""What has become of each step of a lineage in this run, told as it becomes known."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.events import StepEnded
from certferry.core.observed.observation import Observation
from certferry.core.planning.plan import Plan
from certferry.core.planning.report import (
    Outcome,
    StepKey,
    StepOutcome,
    standings,
    standings_left_alone,
    what_was_bound,
)
from certferry.core.planning.steps import Action
from certferry.core.waiting import Waiting
from certferry.ports.progress import Progress


class Outcomes:
    """The latest outcome of each step, in the order the steps were first heard of. It decides
    nothing: what the next visit does is in the plan. `has_looked`: a visit came so far as to tell
    of something.
    """

    def __init__(self, lineage: str, progress: Progress) -> None:
        self._lineage = lineage
        self._progress = progress
        self._latest: dict[StepKey, StepOutcome] = {}
        self._trouble: StepOutcome | None = None
        self._waits: dict[StepKey, Waiting] = {}
        self.has_looked = False

    def begin_visit(self) -> None:
        """Forget what was waited for: it has to be found again."""
        self._trouble = None
        self._waits.clear()

    def note(self, outcome: StepOutcome) -> None:
        """Keep an outcome, and tell it if it is news."""
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
        for outcome in standings(plan, observed):
            if (outcome.target, outcome.domain) in unread:
                outcome = self._in_progress(outcome)  # noqa: PLW2901 - the same, by another name
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

    def _in_progress(self, outcome: StepOutcome) -> StepOutcome:
        """Return what is in progress at a target that cannot be read, as the run reported it."""
        deployment = replace(outcome, action=Action.DEPLOY)
        last = self._latest.get(deployment.key)
        return deployment if last is not None and last.outcome is Outcome.WAITING else outcome

    def trouble(self, outcome: StepOutcome) -> None:
        """Keep what stopped the visit as a whole."""
        self._progress(StepEnded(self._lineage, outcome))
        self._trouble, self.has_looked = outcome, True

    def all(self) -> tuple[StepOutcome, ...]:
        """Return every step's latest outcome, and what stopped the last visit."""
        trouble = () if self._trouble is None else (self._trouble,)
        return (*self._latest.values(), *trouble)

    def next_look(self) -> Waiting | None:
        """Return the wait that ends first, of those that this visit found."""
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
