"""Remove copies of certificates that have had their time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from certferry.core.report import Outcome, StepOutcome
from certferry.core.steps import Action, Retire
from certferry.core.upload import NO_LINEAGE, Upload
from certferry.errors import CertferryError, Interrupted, TargetInUse
from certferry.reconcile.visit import Visit
from certferry.text import Text

IN_USE_PAUSE = timedelta(days=1)
"""How long a certificate that the target says is still used is left alone."""


def retire(step: Retire, visit: Visit) -> StepOutcome:
    """Remove a superseded copy. One that the target says is used is kept, and that is fine."""
    visit.must_hold_lease()
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
    except Interrupted:
        raise
    except CertferryError as error:
        return told.failed(error)
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
