"""Removals: of certificate copies at targets, of challenge records, and of orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta

from certferry.core.certificates.lineage import owner_of, owners
from certferry.core.observed.observation import Observation, ObservedTarget
from certferry.core.observed.records import NO_LINEAGE, OtherCertificate, RolloutRecord, Upload
from certferry.core.planning.plan import Action, Clean, Retire
from certferry.core.planning.removals import unclaimed
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.errors import CertferryError, TargetAccessDenied, TargetInUse, TargetRejected
from certferry.ports.state import Lease
from certferry.reconcile.issue import provider_of, sweep
from certferry.reconcile.run import Ports, StepContext
from certferry.text import Text
from certferry.values import replace

IN_USE_PAUSE = timedelta(days=1)
"""How long certferry leaves a copy alone after the target refused a removal because something uses
the copy.
"""


def retire(step: Retire, context: StepContext) -> StepOutcome:
    """Remove a copy, and return the outcome: done, failed, or unchanged for a copy that the
    target's account still uses. Raises `LeaseLost`, `Interrupted` and `StateError`.
    """
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
    if not was_there:  # another run may have removed the copy, and recorded the removal
        return replace(result, detail=Text("the certificate was already gone"))
    context.record("retired", target=step.target, remote_id=step.remote_id, label=step.label)
    return result


def keep(step: Retire, context: StepContext) -> None:
    """Store that a copy stays for `IN_USE_PAUSE`."""
    remotes = (remote for target in context.observed.targets for remote in target.remotes)
    ours = next((r for r in remotes if r.remote_id == step.remote_id), None)
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
    """Remove copies of unknown origin, and yield an outcome for each copy removed or failed, and a
    single outcome for all copies that stay at a target. Raises as `retire`.

    Copies beyond the run's limit are left alone. If an account refuses access, the account's
    remaining copies are left alone in this run.
    """
    for target in dict.fromkeys(step.target for step in steps):
        if target in context.keeping:
            continue
        kept: list[StepOutcome] = []
        for step in steps:
            if step.target != target or not context.removals.may_try(step, context.lineage):
                continue
            result = retire(step, context)
            if isinstance(result.error, TargetRejected):
                # The refusal is not a failure, because no operator named this copy. The stored
                # pause keeps every run from trying the removal again.
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
    """Return the sentence on the copies that stay: the number of copies still in use, the number of
    copies refused for another reason, and the last of these refusals.
    """
    answers = [outcome.detail for outcome in kept if outcome.error is not None]
    used = len(kept) - len(answers)
    still_used = Text("others still in use and kept: {count}", count=used)
    if not answers:
        return still_used
    refused = Text("others that the target did not remove: {count} ({answer})").filled(
        count=len(answers), answer=answers[-1]
    )
    return Text("{counts}", counts=[still_used, refused]) if used else refused


SETTLING = timedelta(days=1)
"""How long at most an open rollout of another declared lineage delays removals. For an undeclared
lineage, the time is the time-out of the verification.
"""


def without_claimed(
    observed: ObservedTarget, lineage: str, target: str, ports: Ports
) -> ObservedTarget:
    """Return the target with only those copies in `others` that a run may remove.

    Two kinds of copies are dropped: the copies of other declared lineages, and valid copies of the
    two newest versions of the remaining stored lineages. Two facts are added: until when each copy
    counts as in use, and since when another lineage's change is open at the target.
    """
    declared = ports.claims.lineages - {lineage}
    found_owners = {owner_of(other.label) for other in observed.others}
    relevant = [
        name
        for name in {lineage, *ports.state.lineages()} - declared
        if owners(name) & found_owners
    ]
    declared |= ports.state.declared_among(relevant).keys() - {lineage}
    remembered = ports.state.versions_of(name for name in relevant if name not in declared)
    others = unclaimed(observed.others, declared, remembered, ports.now())
    in_use = {u.remote_id: u.in_use_until for u in ports.state.uploads(NO_LINEAGE, target)}
    return replace(
        observed,
        others=tuple(_in_use_longest(other, in_use.get(other.remote_id)) for other in others),
        unsettled_since=_unsettled_since(lineage, target, ports) if others else None,
    )


def _in_use_longest(other: OtherCertificate, until: datetime | None) -> OtherCertificate:
    """Return the copy with the later of two ends: `until` from the state, and the target's own end,
    such as the certificate's end at a target that does not name the users of a copy.
    """
    ends = [end for end in (until, other.in_use_until) if end is not None]
    return replace(other, in_use_until=max(ends, default=None))


def _unsettled_since(lineage: str, target: str, ports: Ports) -> datetime | None:
    """Return when the target accepted the newest open change of another lineage, or else when that
    change began; `None` without an open change. A failed change is not open, nor is a change older
    than `SETTLING` (for a lineage that no file declares: than the time limit of verification).
    """
    now, rollouts = ports.now(), ports.state.open_rollouts(target)
    elsewhere = ports.state.declared_among({record.lineage for record in rollouts})

    def is_arriving(record: RolloutRecord) -> bool:
        is_declared = record.lineage in ports.claims.lineages or record.lineage in elsewhere
        time = SETTLING if is_declared else ports.verify_timeout
        # A moment in the future comes from a clock that was ahead, and does not count.
        return record.failed_at is None and now - time < record.asked_at <= now

    arriving = [
        record.asked_at for record in rollouts if record.lineage != lineage and is_arriving(record)
    ]
    return max(arriving, default=None)


def clean(step: Clean, context: StepContext) -> StepOutcome:
    """Remove challenge records left by an earlier run, and return the outcome: done or failed.
    Raises `LeaseLost`, `Interrupted` and `StateError`.
    """
    result = StepOutcome(step.action, Outcome.DONE, Text("challenge records have been removed"))
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
    """Delete an order that no longer fits the declaration, for example because a mistyped name was
    corrected. Return the observation without the order.

    If `lease` is `None`, take the lease for the call. Raises `LeaseHeld` if another run has the
    lease, `LeaseLost` and `StateError`.
    """
    with ports.lease(lineage) if lease is None else nullcontext(lease) as held:
        ports.state.drop_order(held)
    return replace(observed, remembered=replace(observed.remembered, ordered=None))
