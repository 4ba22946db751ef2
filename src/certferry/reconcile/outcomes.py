"""What has become of each step of a lineage in this run, and telling it to whoever follows."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.plan import Action
from certferry.core.report import Outcome, Place, StepEnded, StepOutcome
from certferry.core.waiting import Waiting
from certferry.ports.progress import Progress
from certferry.text import Text


class Outcomes:
    """The latest outcome of each step, in the order the steps were first heard of."""

    def __init__(self, lineage: str, progress: Progress) -> None:
        self._lineage = lineage
        self._progress = progress
        self._latest: dict[Place, StepOutcome] = {}
        self._trouble: StepOutcome | None = None

    def note(self, outcome: StepOutcome) -> None:
        """Keep an outcome, and tell it if it is news."""
        if self._latest.get(outcome.place) != outcome:
            self._latest[outcome.place] = outcome
            self._progress(StepEnded(self._lineage, outcome))

    def trouble(self, outcome: StepOutcome | None) -> None:
        """Keep what stopped the last visit as a whole, or nothing."""
        if outcome is not None and outcome != self._trouble:
            self._progress(StepEnded(self._lineage, outcome))
        self._trouble = outcome

    def finish(self, action: Action, target: str, domain: str, detail: Text) -> bool:
        """End a step that was waited for; tell whether it was."""
        outcome = self._latest.get((action, target, domain))
        if outcome is None or outcome.outcome is not Outcome.WAITING:
            return False
        self.note(replace(outcome, outcome=Outcome.DONE, detail=detail, waiting=None))
        return True

    def forget(self, action: Action, target: str, domain: str) -> None:
        """Drop a step that no longer makes sense, such as looking at a domain that is gone."""
        self._latest.pop((action, target, domain), None)

    def of(self, place: Place) -> StepOutcome | None:
        """The latest outcome of a step."""
        return self._latest.get(place)

    def all(self) -> tuple[StepOutcome, ...]:
        """Every step's latest outcome, and what stopped the last visit."""
        trouble = () if self._trouble is None else (self._trouble,)
        return (*self._latest.values(), *trouble)

    def next_look(self) -> Waiting | None:
        """The wait that ends first."""
        waits = [step.waiting for step in self.all() if step.waiting is not None]
        return min(waits, key=lambda waiting: waiting.until, default=None)
