"""`retire = "all-unused"`: the certificates of an account that no declared certificate owns, and
their removal. Of those that are kept only the count is told: there may be hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certferry.core.lineage import owner_of, owners
from certferry.core.observed import ObservedTarget
from certferry.core.other_certificate import OtherCertificate
from certferry.core.report import Outcome, StepOutcome
from certferry.core.rollout_record import RolloutRecord
from certferry.core.steps import Action, Retire
from certferry.core.unmanaged import unclaimed
from certferry.core.upload import NO_LINEAGE
from certferry.errors import TargetAccessDenied, TargetRejected
from certferry.reconcile.doors import Doors
from certferry.reconcile.removals import may_remove
from certferry.reconcile.retire import keep, retire
from certferry.reconcile.visit import Visit
from certferry.text import Text

SETTLING = timedelta(days=1)
"""How long a certificate that does not arrive holds up what another lineage removes."""


def without_claimed(
    found: ObservedTarget, lineage: str, target: str, doors: Doors
) -> ObservedTarget:
    """Leave what no declared certificate owns, with what the store remembers of it.

    The store is asked after the target: what was uploaded by then has its version there.
    """
    declared = doors.claims.lineages - {lineage}
    found_owners = {owner_of(other.label) for other in found.others}
    remembered = {
        one: doors.state.versions(one)
        for one in {lineage, *doors.state.lineages()} - declared
        if owners(one) & found_owners
    }
    others = unclaimed(found.others, declared, remembered, doors.now())
    return replace(
        found,
        others=_with_marks_of_use(others, target, doors),
        unsettled_since=_unsettled_since(lineage, target, doors) if others else None,
    )


def retire_unmanaged(steps: Sequence[Retire], visit: Visit) -> Iterator[StepOutcome]:
    """Ask the target to remove each. An account that may not remove one may remove none."""
    for target in dict.fromkeys(step.target for step in steps):
        if target in visit.keeping:
            continue
        kept = _Kept()
        for step in steps:
            if step.target != target or not may_remove(step, visit):
                continue
            told = _retire(step, visit)
            if told.outcome is Outcome.UNCHANGED:
                kept.count(told)
                continue
            yield told
            if isinstance(told.error, TargetAccessDenied):
                visit.keeping.add(target)
                break
        if kept.used or kept.refused:
            yield StepOutcome(Action.RETIRE, Outcome.UNCHANGED, kept.in_words(), target)


def _retire(step: Retire, visit: Visit) -> StepOutcome:
    told = retire(step, visit)
    if not isinstance(told.error, TargetRejected):
        return told
    # This very one was not asked for; tried every time, it would fail every run.
    keep(step, visit)
    return replace(told, outcome=Outcome.UNCHANGED)


@dataclass(slots=True)
class _Kept:
    """How many certificates an account keeps."""

    used: int = 0
    refused: int = 0
    answer: Text | None = None

    def count(self, told: StepOutcome) -> None:
        """Add one, as it was told."""
        if told.error is None:
            self.used += 1
        else:
            self.refused, self.answer = self.refused + 1, told.detail

    def in_words(self) -> Text:
        """Count them, with the last answer that says something else than that they are used."""
        used = Text("others that are still in use are kept: {count}", count=self.used)
        if self.answer is None:
            return used
        refused = Text(
            "others that the target does not remove: {count} ({answer})",
            count=self.refused,
            answer=self.answer,
        )
        return Text("{counts}", counts=[used, refused]) if self.used else refused


def _with_marks_of_use(
    others: tuple[OtherCertificate, ...], target: str, doors: Doors
) -> tuple[OtherCertificate, ...]:
    in_use = {u.remote_id: u.in_use_until for u in doors.state.uploads(NO_LINEAGE, target)}
    return tuple(replace(other, in_use_until=in_use.get(other.remote_id)) for other in others)


def _unsettled_since(lineage: str, target: str, doors: Doors) -> datetime | None:
    """Return since when the last of other lineages' certificates is on its way to the target.
    Counted from when the target took it, as its own time is: else this lineage gives up waiting
    before that one has arrived. Of a lineage that is declared no more, no run will tell that it
    has: its time is that of a change.
    """
    now = doors.now()

    def is_arriving(record: RolloutRecord) -> bool:
        is_declared = record.lineage in doors.claims.lineages
        time = SETTLING if is_declared else doors.verify_timeout
        # A beginning in the future was written by a clock that was ahead.
        return record.failed_at is None and now - time < record.asked_at <= now

    arriving = [
        record.asked_at
        for record in doors.state.open_rollouts(target)
        if record.lineage != lineage and is_arriving(record)
    ]
    return max(arriving, default=None)
