"""Remove copies of certificates that have had their time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certferry.core.certificates.lineage import owner_of, owners
from certferry.core.observed.observation import ObservedTarget
from certferry.core.observed.records import NO_LINEAGE, OtherCertificate, RolloutRecord, Upload
from certferry.core.planning.removals import allowance, unclaimed
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.planning.steps import Action, Retire
from certferry.errors import (
    CertferryError,
    TargetAccessDenied,
    TargetInUse,
    TargetRejected,
)
from certferry.reconcile.doors import Doors
from certferry.reconcile.visit import Visit
from certferry.text import Text

_lock = threading.Lock()
"""Lineages are visited side by side."""


def may_remove(step: Retire, visit: Visit) -> bool:
    """Count a removal that is about to be tried; tell whether the run may."""
    whose, most = allowance(step)
    key = ("", whose) if step.unmanaged else (visit.lineage, whose)
    with _lock:
        visit.removed[key] += 1
        return visit.removed[key] <= most


IN_USE_PAUSE = timedelta(days=1)
"""How long a certificate that the target says is still used is left alone."""


def retire(step: Retire, visit: Visit) -> StepOutcome:
    """Remove a superseded copy. One that the target says is used is kept, and that is fine."""
    visit.renew_lease()
    told = StepOutcome(
        Action.RETIRE,
        Outcome.DONE,
        Text("removed"),
        step.target,
        label=step.label,
        remote_id=step.remote_id,
        unmanaged=step.unmanaged,
    )
    target = visit.doors.targets[step.target]
    try:
        was_there = target.retire(step.remote_id, step.label, unmanaged=step.unmanaged)
    except TargetInUse as error:
        keep(step, visit)
        return replace(told, outcome=Outcome.UNCHANGED, detail=error.message)
    except CertferryError as error:
        return told.with_error(error)
    visit.doors.state.drop_upload(step.target, step.remote_id)
    if not was_there:  # another run may have removed it, and told the history
        return replace(told, detail=Text("it was gone already"))
    visit.tell("retired", target=step.target, remote_id=step.remote_id, label=step.label)
    return told


def keep(step: Retire, visit: Visit) -> None:
    """Leave a copy alone for a while: the target says that something uses it."""
    found = (remote for target in visit.observed.targets for remote in target.remotes)
    ours = next((r for r in found if r.remote_id == step.remote_id), None)
    visit.doors.state.save_upload(
        Upload(
            lineage=NO_LINEAGE if ours is None else visit.lineage,
            target=step.target,
            remote_id=step.remote_id,
            label=step.label,
            fingerprint="" if ours is None else ours.fingerprint,
            uploaded_at=visit.now,
            in_use_until=visit.now + IN_USE_PAUSE,
        )
    )


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
