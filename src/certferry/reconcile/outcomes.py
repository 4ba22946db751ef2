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
        self._found: set[Place] = set()

    def begin_visit(self) -> None:
        """Whatever was waited for has to be found again, or nothing is waited for any more."""
        self._trouble = None
        self._found.clear()

    def note(self, outcome: StepOutcome) -> None:
        """Keep an outcome, and tell it if it is news."""
        self._found.add(outcome.place)
        if self._latest.get(outcome.place) != outcome:
            self._latest[outcome.place] = outcome
            self._progress(StepEnded(self._lineage, outcome))

    def trouble(self, outcome: StepOutcome) -> None:
        """Keep what stopped the visit as a whole."""
        self._progress(StepEnded(self._lineage, outcome))
        self._trouble = outcome

    def finish(self, action: Action, target: str, domain: str, detail: Text) -> bool:
        """End a step that was waited for; tell whether it was."""
        outcome = self._latest.get((action, target, domain))
        if outcome is None or outcome.outcome is not Outcome.WAITING:
            return False
        self.note(replace(outcome, outcome=Outcome.DONE, detail=detail, hint=None, waiting=None))
        return True

    def forget(self, place: Place) -> None:
        """Drop a step that no longer makes sense, such as looking at a domain that is gone."""
        self._latest.pop(place, None)

    def of(self, place: Place) -> StepOutcome | None:
        """The latest outcome of a step."""
        return self._latest.get(place)

    def of_domains(self, target: str | None) -> tuple[StepOutcome, ...]:
        """The latest outcomes of the steps for a target's domains."""
        steps = self._latest.values()
        return tuple(step for step in steps if step.target == target and step.domain is not None)

    def all(self) -> tuple[StepOutcome, ...]:
        """Every step's latest outcome, and what stopped the last visit."""
        trouble = () if self._trouble is None else (self._trouble,)
        return (*self._latest.values(), *trouble)

    def next_look(self) -> Waiting | None:
        """The wait that ends first, of those that this visit found.

        An older one has ended: to come back for it would be to come back at once, again and again.
        """
        if self._trouble is not None:
            return self._trouble.waiting
        found = [step for place, step in self._latest.items() if place in self._found]
        waits = [step.waiting for step in found if step.waiting is not None]
        return min(waits, key=lambda waiting: waiting.until, default=None)
