"""What has become of each step of a lineage in this run, told as it becomes known."""

from __future__ import annotations

from certferry.core.events import StepEnded
from certferry.core.observed.observation import Observation
from certferry.core.planning.outcomes import outcomes_under
from certferry.core.planning.plan import Plan
from certferry.core.planning.report import StepKey, StepOutcome
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
        after = outcomes_under(plan, observed, self._latest)
        self._latest = {key: known for key, known in self._latest.items() if key in after}
        for key, outcome in after.items():
            if outcome is not self._latest.get(key):
                self.note(outcome)

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
