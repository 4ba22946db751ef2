"""Remove what has had its time: copies of certificates, and challenge records of earlier runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.certificates.lineage import owner_of, owners
from certferry.core.observed.observation import Observation, ObservedTarget
from certferry.core.observed.records import NO_LINEAGE, RolloutRecord, Upload
from certferry.core.planning.plan import Action, Clean, Retire
from certferry.core.planning.removals import unclaimed
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.errors import CertferryError, TargetAccessDenied, TargetInUse, TargetRejected
from certferry.ports.state import Lease
from certferry.reconcile.issue import provider_of, sweep
from certferry.reconcile.run import Ports, StepContext
from certferry.text import Text

IN_USE_PAUSE = timedelta(days=1)
"""How long a certificate that the target says is still used is left alone."""


def retire(step: Retire, context: StepContext) -> StepOutcome:
    """Remove a superseded copy. One that the target says is used is kept, and that is fine."""
    context.renew_lease()
    result = StepOutcome(
        Action.RETIRE,
        Outcome.DONE,
        Text("removed"),
        step.target,
        label=step.label,
        remote_id=step.remote_id,
        unmanaged=step.unmanaged,
    )
    target = context.ports.targets[step.target]
    try:
        was_there = target.retire(step.remote_id, step.label, unmanaged=step.unmanaged)
    except TargetInUse as error:
        keep(step, context)
        return replace(result, outcome=Outcome.UNCHANGED, detail=error.message)
    except CertferryError as error:
        return result.with_error(error)
    context.ports.state.drop_upload(step.target, step.remote_id)
    if not was_there:  # another run may have removed it, and recorded that
        return replace(result, detail=Text("it was gone already"))
    context.record("retired", target=step.target, remote_id=step.remote_id, label=step.label)
    return result


def keep(step: Retire, context: StepContext) -> None:
    """Store that a copy is left alone for a while: the target says that something uses it."""
    found = (remote for target in context.observed.targets for remote in target.remotes)
    ours = next((r for r in found if r.remote_id == step.remote_id), None)
    context.ports.state.save_upload(
        Upload(
            lineage=NO_LINEAGE if ours is None else context.lineage,
            target=step.target,
            remote_id=step.remote_id,
            label=step.label,
            fingerprint="" if ours is None else ours.fingerprint,
            uploaded_at=context.now,
            in_use_until=context.now + IN_USE_PAUSE,
        )
    )


def retire_unmanaged(steps: Sequence[Retire], context: StepContext) -> Iterator[StepOutcome]:
    """Ask the target to remove each. An account that may not remove one may remove none."""
    for target in dict.fromkeys(step.target for step in steps):
        if target in context.keeping:
            continue
        kept: list[StepOutcome] = []
        for step in steps:
            if step.target != target or not context.removals.may_try(step, context.lineage):
                continue
            result = retire(step, context)
            if isinstance(result.error, TargetRejected):
                # This very one was not asked for; tried every time, it would fail every run.
                keep(step, context)
                result = replace(result, outcome=Outcome.UNCHANGED)
            if result.outcome is Outcome.UNCHANGED:
                kept.append(result)
                continue
            yield result
            if isinstance(result.error, TargetAccessDenied):
                context.keeping.add(target)
                break
        if kept:
            yield StepOutcome(Action.RETIRE, Outcome.UNCHANGED, _in_words(kept), target)


def _in_words(kept: Sequence[StepOutcome]) -> Text:
    """Count what an account keeps, with its last answer where that is not about use."""
    answers = [one.detail for one in kept if one.error is not None]
    used = len(kept) - len(answers)
    still_used = Text("others that are still in use are kept: {count}", count=used)
    if not answers:
        return still_used
    refused = Text("others that the target does not remove: {count} ({answer})").filled(
        count=len(answers), answer=answers[-1]
    )
    return Text("{counts}", counts=[still_used, refused]) if used else refused


SETTLING = timedelta(days=1)
"""How long a certificate that does not arrive holds up what another lineage removes."""


def without_claimed(
    found: ObservedTarget, lineage: str, target: str, ports: Ports
) -> ObservedTarget:
    """Drop what a declared certificate owns, and add what the state says of the rest."""
    declared = ports.claims.lineages - {lineage}
    found_owners = {owner_of(other.label) for other in found.others}
    known = [
        one for one in {lineage, *ports.state.lineages()} - declared if owners(one) & found_owners
    ]
    declared |= ports.state.declared_among(known).keys() - {lineage}
    remembered = ports.state.versions_of(one for one in known if one not in declared)
    others = unclaimed(found.others, declared, remembered, ports.now())
    in_use = {u.remote_id: u.in_use_until for u in ports.state.uploads(NO_LINEAGE, target)}
    return replace(
        found,
        others=tuple(replace(o, in_use_until=in_use.get(o.remote_id)) for o in others),
        unsettled_since=_unsettled_since(lineage, target, ports) if others else None,
    )


def _unsettled_since(lineage: str, target: str, ports: Ports) -> datetime | None:
    """Return since when another lineage's certificate is on its way, by when it was accepted."""
    now, found = ports.now(), ports.state.open_rollouts(target)
    elsewhere = ports.state.declared_among({record.lineage for record in found})

    def is_arriving(record: RolloutRecord) -> bool:
        is_declared = record.lineage in ports.claims.lineages or record.lineage in elsewhere
        time = SETTLING if is_declared else ports.verify_timeout
        # A beginning in the future was written by a clock that was ahead.
        return record.failed_at is None and now - time < record.asked_at <= now

    arriving = [
        record.asked_at for record in found if record.lineage != lineage and is_arriving(record)
    ]
    return max(arriving, default=None)


def clean(step: Clean, context: StepContext) -> StepOutcome:
    """Remove challenge records that an earlier run left."""
    result = StepOutcome(step.action, Outcome.DONE, Text("challenge records are removed"))
    context.renew_lease()
    try:
        provider = provider_of(context.desired, context.ports.dns)
        sweep(context.lineage, [provider], context.ports)
    except CertferryError as error:
        return result.with_error(error)
    return result


def without_order(
    observed: Observation, lineage: str, ports: Ports, lease: Lease | None
) -> Observation:
    """Forget an order for names no longer declared, as after a slip that was corrected. Raises
    `LeaseHeld` where no lease is given, and another run has it.
    """
    with ports.lease(lineage) if lease is None else nullcontext(lease) as held:
        ports.state.drop_order(held)
    return replace(observed, remembered=replace(observed.remembered, ordered=None))
