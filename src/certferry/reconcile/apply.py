"""Carry out the ready steps of a plan, and store since when the other steps wait.

An error of a CA, a DNS service, a target or a receiver becomes the step's outcome, and the other
steps go on. An error of the state usually ends the pass.

`carry_out` carries out every kind of step. This module has the steps of a rollout at a target, and
other modules have the other steps:

- `deploy` uploads a missing certificate to a target, and binds the certificate to a domain;
- `verify` stores that every answering address serves the certificate;
- `roll_back` withdraws a certificate refused by edges that worked before, so the next pass binds
  the previous certificate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from certferry.core.certificates.lineage import Withdrawal, label_of
from certferry.core.desired.certificate import OnFailure
from certferry.core.observed.observation import in_one_line, in_sentences
from certferry.core.observed.records import RolloutRecord, Upload
from certferry.core.planning import plan as plans
from certferry.core.planning.report import Outcome, StepOutcome, seen_at
from certferry.core.planning.rollbacks import all_work, with_refusal
from certferry.core.reasons import Waiting, applying, wait_for
from certferry.errors import CertferryError, CopyGone, Interrupted, TargetBusy, VerificationError
from certferry.reconcile.handing_over import without_key
from certferry.reconcile.issue import issue
from certferry.reconcile.receivers import deliver
from certferry.reconcile.removals import clean, retire, retire_unmanaged
from certferry.reconcile.run import StepContext, StepPlace
from certferry.text import Text
from certferry.values import replace

_STOPPED_DURING = {
    plans.Action.ISSUE: Text("stopped during: issue"),
    plans.Action.ADOPT: Text("stopped during: import"),
    plans.Action.DEPLOY: Text("stopped during: deploy"),
    plans.Action.VERIFY: Text("stopped during: verify"),
    plans.Action.ROLLBACK: Text("stopped during: rollback"),
    plans.Action.RETIRE: Text("stopped during: retire"),
    plans.Action.CLEAN: Text("stopped during: clean"),
}


def carry_out(  # noqa: C901 - a case for each kind of step
    steps: Sequence[plans.Step], context: StepContext
) -> Iterator[StepOutcome]:
    """Carry out ready steps, the removals of unmanaged copies last, and yield the outcomes. Raises
    `LeaseLost`, `Interrupted` and `StateError`.
    """
    unmanaged: list[plans.Retire] = []
    for step in steps:
        try:
            match step:
                case plans.Issue():
                    yield issue(step, context)
                case plans.Deploy() if step.kind.is_receiver:
                    yield deliver(step, context)
                case plans.Deploy():
                    yield deploy(step, context)
                case plans.Verify():
                    yield verify(step, context)
                case plans.Rollback():
                    yield from roll_back(step, context)
                case plans.Retire(unmanaged=True):
                    unmanaged.append(step)
                case plans.Retire():
                    if context.removals.may_try(step, context.lineage):
                        yield retire(step, context)
                case plans.Clean():
                    yield clean(step, context)
        except Interrupted as end:
            raise Interrupted(_STOPPED_DURING[step.action], hint=end.hint) from end
    if unmanaged:
        yield from retire_unmanaged(unmanaged, context)


def store_waits(plan: plans.Plan, context: StepContext) -> None:
    """Store since when each rollout waits, and add each rollout that timed out to the history.
    Rollouts at unread targets are left out. Store each change of another tool that stays, and
    delete the stored change once the change is undone. Raises `StateError`.
    """
    for rollout in plan.rollouts:
        if rollout.unread:
            continue
        if isinstance(rollout.when, Waiting):
            _begin(rollout, context)
        elif isinstance(rollout.when, plans.TimedOut):
            context.record_failure(rollout.steps[0], rollout.when.error)
    for drifted in plan.drifts:
        _note_drift(drifted, context)
    for target, domain in plan.unchanged:
        last = context.last_of(target, domain)
        if last is None or last.drift is None:
            continue
        if context.ports.state.replace_rollout(last, replace(last, drift=None)):
            context.record("drift over", target=target, domain=domain)


def _begin(rollout: plans.Rollout, context: StepContext) -> None:
    if rollout.deploy is not None:
        context.begin(rollout.deploy, context.at(rollout.deploy))
        return
    (verify,) = (step for step in rollout.steps if isinstance(step, plans.Verify))
    place = context.at(verify)
    if place.domain.seen_at(verify.fingerprint) is not None:
        return  # keep the record as verified, so a later binding by another tool counts as drift
    record = context.begin(verify, place)
    if record.worked_before:  # a rollback mends only edges that worked before
        after = with_refusal(record, place.domain, place.served, context.now)
        if after != record:
            context.ports.state.replace_rollout(record, after)


def _note_drift(drifted: plans.Drifted, context: StepContext) -> None:
    """Store another tool's change in the domain's record, and add the change to the history. Do
    nothing if the record has the change already, or if the domain has no record.
    """
    last = context.last_of(drifted.target, drifted.domain)
    changes = in_one_line(drifted.changes)
    if last is None or last.drift == changes:
        return
    if context.ports.state.replace_rollout(last, replace(last, drift=changes)):
        context.record("drift found", target=drifted.target, domain=drifted.domain, found=changes)


def verify(step: plans.Verify, context: StepContext) -> StepOutcome:
    """Store in the domain's record, if any, that every answering address serves the certificate.
    Return the outcome, always done. Raises `StateError`.
    """
    place = context.at(step)
    addresses, last = seen_at(place.served), place.domain.last
    # Without a lease, another run may have changed the record first; then that run adds the event.
    if last is not None and context.ports.state.replace_rollout(
        last, replace(last, verified_at=context.now)
    ):
        context.record(
            "verified",
            target=step.target,
            domain=step.domain,
            fingerprint=last.fingerprint,
            **{change.setting: f"{change.was} → {change.becomes}" for change in step.changes},
        )
    result = StepOutcome(plans.Action.VERIFY, Outcome.DONE, addresses, step.target, step.domain)
    if not step.changes:
        return result
    detail = Text("{said}; the target changed other settings: {changes}").filled(
        said=addresses, changes=in_sentences(step.changes)
    )
    hint = Text(
        "write these values into the deployment (`force_https`, `http2`, `tls_versions`), and the"
        " next run restores them"
    )
    return replace(result, detail=detail, hint=hint)


LISTED_WITHIN = timedelta(minutes=10)
"""How long our upload may be missing from a target's list before the upload is repeated: lists lag
behind writes (docs/facts/qiniu.md §5.1)."""

_RETURNING = Text("the previous certificate is bound again")


def deploy(step: plans.Deploy, context: StepContext) -> StepOutcome:
    """Upload the step's version if the target lacks a copy, and bind the version to the domain.

    Return the outcome: waiting for the accepted change, waiting for a busy target, or failed.
    Raises `LeaseLost`, `Interrupted` and `StateError`.
    """
    place = context.at(step)
    detail = applying(step.target, place.target.rules.usual_change)
    result = StepOutcome(plans.Action.DEPLOY, Outcome.WAITING, detail, step.target, step.domain)
    context.renew_lease()
    record = context.begin(step, place, repairing=step.repair)
    before = record.repairs[1:] if step.repair else record.repairs
    try:
        sent = _with_edges(step, record, context)
        remote_id, request_id = _bind(step, place, context)
    except TargetBusy as error:
        if step.repair:  # the target refused before any change, so no repair counts
            context.ports.state.save_rollout(replace(record, repairs=before))
        if context.now >= record.started_at + context.ports.verify_timeout:
            return result.with_error(error)
        return _wait(result, error.message, record.started_at, context)
    except CertferryError as error:
        context.ports.state.save_rollout(
            replace(record, failed_at=context.now, repairs=before, tries=record.tries + 1)
        )
        context.record_failure(step, error)
        return result.with_error(error.about(context.lineage))
    sent = replace(sent, request_id=request_id)
    accepted_at = _store_acceptance(step, place, remote_id, sent, context)
    return _wait(result, detail, accepted_at, context)


def _with_edges(step: plans.Deploy, record: RolloutRecord, context: StepContext) -> RolloutRecord:
    """Return the record, after asking the edges if the deployment declares a rollback.

    If every answering address presents a certificate, set `worked_before` and store the record. A
    refusal by these addresses after the change is then a reason for the rollback.
    """
    may_roll_back = any(
        deployment.target == step.target and deployment.on_failure is OnFailure.ROLLBACK
        for deployment in context.desired.deployments
    )
    if record.worked_before or not may_roll_back:
        return record
    named = {step.domain: context.at(step).domain.edges}
    served = context.ports.probe.served([step.domain], named).get(step.domain, ())
    if all_work(served):
        record = replace(record, worked_before=True)
        context.ports.state.save_rollout(record)
    return record


def _bind(step: plans.Deploy, place: StepPlace, context: StepContext) -> tuple[str, str | None]:
    """Bind the version, after an upload if the target lacks a copy. Return the remote id of the
    copy, and the target's id of the request, or `None`.

    If the target says that the copy has gone, upload the version again. Raises `DeployError`; for
    example `CopyGone`, if the second upload returns the refused copy.
    """
    target, kind, https = context.ports.targets[step.target], place.domain.kind, step.https
    context.renew_lease()
    remote_id = _stored_copy(place, context) or _upload(place, context)
    context.renew_lease()
    try:
        return remote_id, target.bind(step.domain, kind, remote_id, https)
    except CopyGone:
        # Another tool removed the copy since the listing or the upload.
        context.ports.state.drop_upload(step.target, remote_id)
        another = _upload(place, context)
        if another == remote_id:  # the target lists the copy, and still refuses the binding
            raise
    context.renew_lease()
    return another, target.bind(step.domain, kind, another, https)


def _stored_copy(place: StepPlace, context: StepContext) -> str | None:
    """Return the remote id of the version's copy in the target's list, or else of an upload within
    the last `LISTED_WITHIN`. Return `None` without a copy.
    """
    label, fingerprint = place.target.label, place.version.fingerprint
    listed = place.target.remote_of(fingerprint)
    if listed is not None:
        return listed.remote_id
    oldest = context.now - LISTED_WITHIN
    for upload in context.ports.state.uploads(context.lineage, label):
        if upload.fingerprint == fingerprint and upload.uploaded_at >= oldest:
            return upload.remote_id
    return None


def _upload(place: StepPlace, context: StepContext) -> str:
    """Upload the version to the target, and store the upload; return the remote id."""
    lineage, target, version = context.lineage, place.target.label, place.version
    bundle = context.ports.state.bundle(lineage, version.number)
    try:
        remote_id = context.ports.targets[target].upload(lineage, bundle)
    except CertferryError as error:
        raise without_key(error, bundle.privkey_pem, withholds_words=True) from None
    fingerprint = version.fingerprint
    label, now = label_of(lineage, fingerprint), context.now
    context.ports.state.save_upload(Upload(lineage, target, remote_id, label, fingerprint, now))
    context.record("uploaded", target=target, remote_id=remote_id, fingerprint=fingerprint)
    return remote_id


def _store_acceptance(
    step: plans.Deploy,
    place: StepPlace,
    remote_id: str,
    record: RolloutRecord,
    context: StepContext,
) -> datetime:
    """Store that the target accepted the change, with the domain's problem and settings before the
    change. Return the moment stored.
    """
    now, sent = context.now, step.https
    if record.sent is not None:
        # If another tool's change to a setting stays, store the value that certferry sent before.
        # A later run then sees the difference, and leaves the setting alone.
        left = {change.setting: getattr(record.sent, change.setting) for change in step.left}
        sent = replace(sent, **left)
    context.ports.state.save_rollout(
        replace(
            record,
            accepted_at=now,
            problem_before=str(place.domain.problem),
            failed_at=None,
            sent=sent,
            settings_before=place.domain.https,
            refused_since=None,
            drift=in_one_line(step.left) if step.left else None,
            tries=record.tries + 1,
        )
    )
    context.record("deployed", target=step.target, domain=step.domain, remote_id=remote_id)
    return now


def _wait(result: StepOutcome, why: Text, since: datetime, context: StepContext) -> StepOutcome:
    waiting = wait_for(why, since, context.now, since + context.ports.verify_timeout)
    return replace(result, detail=why, waiting=waiting)


def roll_back(step: plans.Rollback, context: StepContext) -> Iterator[StepOutcome]:
    """Withdraw a certificate refused by edges. Yield two outcomes: the failed rollout, and a
    waiting deployment. The next pass follows at once and binds the previous certificate. Raises
    `LeaseLost` and `StateError`.
    """
    context.renew_lease()
    withdraw(step, context)
    error = VerificationError(
        Text("rolled back: {why}", why=step.reason.message),
        hint=Text(
            "the previous certificate is bound again, valid until {moment}; the new certificate"
            " is not tried here again. `certferry sync --renew {lineage}` issues another"
            " certificate",
            moment=step.previous_until,
            lineage=context.lineage,
        ),
    )
    place = (step.target, step.domain)
    yield StepOutcome.of(plans.Action.ROLLBACK, error, Outcome.FAILED, *place)
    waiting = wait_for(_RETURNING, context.now, context.now)
    yield StepOutcome(plans.Action.DEPLOY, Outcome.WAITING, _RETURNING, *place, waiting=waiting)


def withdraw(step: plans.Rollback, context: StepContext, *, by_hand: bool = False) -> None:
    """Store that the step's certificate must not be bound to the domain again, and add the
    withdrawal to the history. `by_hand`: an operator asked for the withdrawal.
    """
    place = (step.target, step.domain, step.fingerprint)
    context.ports.state.save_withdrawal(
        Withdrawal(context.lineage, *place, context.now, by_hand=by_hand)
    )
    facts = {"target": step.target, "domain": step.domain, "fingerprint": step.fingerprint}
    context.record("rolled back", **facts)
