"""Adds the failed and refused steps of a run to the history of each certificate.

Orders and deployments add their failures at once. At the end of the run, this module adds the
other failures: an account that refuses the key, a rule that forbids a step, a failed removal, or a
failed pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from certferry.core.assessment.causes import is_not_done
from certferry.core.events import Happened
from certferry.core.observed.records import FAILED, REFUSED, HistoryEntry
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.errors import StateError
from certferry.ports.progress import Progress
from certferry.ports.state import StateStore
from certferry.text import Text, own_words

_EVENTS = {Outcome.FAILED: FAILED, Outcome.REFUSED: REFUSED}
_NEWEST = 100
"""How many of a lineage's newest entries are searched for the newest entry about a place (a target
with a domain)."""


_AGAIN = timedelta(hours=23)
"""If the newest entry about a place is younger and has the same problem, the problem is not stored
again: runs that try again every few minutes would fill the history, which is kept for ever.
"""


def record_attempts(
    report: SyncReport, state: StateStore, now: datetime, progress: Progress
) -> None:
    """Report an event for each failed or refused step of a run; a listener stores the event in the
    history.

    A problem is left out if the newest entry about the target and the domain has the same problem
    (`_AGAIN`). A lineage is left out if every failure comes from an unusable state. If the state
    cannot be read, return without the remaining lineages.
    """
    for result in report.lineages:
        steps = [step for step in result.outcomes if step.outcome in _EVENTS]
        if not steps or all(map(is_not_done, steps)):
            continue
        try:
            entries = state.history(result.lineage, _NEWEST)
        except StateError:
            return  # the run reports the state's failure itself
        recent = [entry for entry in entries if entry.at > now - _AGAIN]
        for event in _attempts(result, steps, recent):
            progress(event)


def _attempts(
    result: LineageReport, steps: Sequence[StepOutcome], entries: Sequence[HistoryEntry]
) -> Iterator[Happened]:
    newest: dict[tuple[str, str], str] = {}
    for entry in entries:
        place = (str(entry.facts.get("target", "")), str(entry.facts.get("domain", "")))
        newest.setdefault(place, str(entry.facts.get("problem", "")))
    for step in steps:
        place, problem = (step.target or "", step.domain or ""), own_words(step.detail)
        if newest.get(place) != str(problem):
            newest[place] = str(problem)
            where = {"target": step.target, "domain": step.domain}
            facts: dict[str, str | Text] = {name: word for name, word in where.items() if word}
            yield Happened(result.lineage, _EVENTS[step.outcome], {**facts, "problem": problem})
