"""Have a target serve a certificate under a domain: upload it where it is missing, then bind it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.certificates.lineage import Version, label_of
from certferry.core.desired.certificate import DesiredHttps, OnFailure
from certferry.core.observed.records import RolloutRecord, Upload
from certferry.core.planning.drift import in_one_line, in_sentences
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.planning.steps import Action, Deploy, Verify
from certferry.core.waiting import applying, wait_for
from certferry.errors import CertferryError, CopyGone, TargetBusy
from certferry.reconcile.rollback import with_handshakes
from certferry.reconcile.visit import Visit
from certferry.text import Text


def tell_failure(step: Deploy, error: CertferryError, visit: Visit) -> None:
    """Tell that a deployment failed, for the history."""
    problem = str(error.lasting)
    visit.tell("deploy failed", target=step.target, domain=step.domain, problem=problem)


def write_down_failure(
    step: Deploy, error: CertferryError, record: RolloutRecord, visit: Visit
) -> None:
    """Keep that a deployment failed, and tell the history."""
    repairs = record.repairs[1:] if step.repair else record.repairs
    failed = replace(record, failed_at=visit.now, repairs=repairs, tries=record.tries + 1)
    visit.doors.state.save_rollout(failed)
    tell_failure(step, error, visit)


def with_unasked(told: StepOutcome, step: Verify) -> StepOutcome:
    """Add which settings the target changed without being asked to."""
    detail = Text(
        "{said}; the target changed other settings: {changes}",
        said=told.detail,
        changes=in_sentences(step.changes),
    )
    hint = Text(
        "set the wanted values in the deployment (`force_https`, `http2`, `tls_versions`),"
        " and the next run restores them"
    )
    return replace(told, detail=detail, hint=hint)


LISTED_WITHIN = timedelta(minutes=10)
"""How long an upload of ours may be missing from a target's list, which lags behind writes
(docs/facts/qiniu.md §5.1), before it counts as gone and is made anew."""


def deploy(step: Deploy, visit: Visit) -> StepOutcome:
    """Ask the target to serve the version in force under a domain, uploading it first where needed.

    Raises `LeaseLost` before anything is written that another run may have overtaken.
    """
    target, _ = visit.observed.locate(step.target, step.domain)
    detail = applying(step.target, target.rules.usual_change)
    told = StepOutcome(Action.DEPLOY, Outcome.WAITING, detail, step.target, step.domain)
    record = visit.begin(step, repairing=step.repair)
    try:
        sent = with_handshakes(step, record, visit) if _may_roll_back(step, visit) else record
        remote_id, request_id = _bind(step, visit)
    except TargetBusy as error:
        if step.repair:  # nothing was written
            visit.doors.state.save_rollout(replace(record, repairs=record.repairs[1:]))
        return _busy(told, error, record.started_at, visit)
    except CertferryError as error:
        write_down_failure(step, error, record, visit)
        return told.with_error(error.about(visit.lineage))
    record = replace(sent, request_id=request_id)
    return _wait(told, detail, _write_down_acceptance(step, remote_id, record, visit), visit)


def _may_roll_back(step: Deploy, visit: Visit) -> bool:
    return any(
        deployment.target == step.target and deployment.on_failure is OnFailure.ROLLBACK
        for deployment in visit.desired.deployments
    )


def _bind(step: Deploy, visit: Visit) -> tuple[str, str | None]:
    """Return the remote id of what was bound, and the target's id of the request. A copy that is
    gone is looked for again, and uploaded, once.
    """
    target, domain = visit.observed.locate(step.target, step.domain)
    version = visit.version_of(step)
    remote = target.remote_of(version.certificate.fingerprint)
    visit.renew_lease()
    remote_id = remote.remote_id if remote else _uploaded(step.target, version, visit)
    visit.renew_lease()
    bind = visit.doors.targets[step.target].bind
    try:
        return remote_id, bind(step.domain, domain.kind, remote_id, step.https)
    except CopyGone:
        # Removed by other hands since it was listed or uploaded.
        visit.doors.state.drop_upload(step.target, remote_id)
        another = _upload(step.target, version, visit)
        if another == remote_id:  # the target lists it, and does not take it
            raise
    visit.renew_lease()
    return another, bind(step.domain, domain.kind, another, step.https)


def _write_down_acceptance(
    step: Deploy, remote_id: str, record: RolloutRecord, visit: Visit
) -> datetime:
    """Keep when the target took the change, and what it said of the domain before."""
    _, domain = visit.observed.locate(step.target, step.domain)
    now = visit.now
    visit.doors.state.save_rollout(
        replace(
            record,
            accepted_at=now,
            problem_before=str(domain.problem),
            failed_at=None,
            sent=_sent(step, record),
            settings_before=domain.https,
            refused_since=None,
            drift=in_one_line(step.left) if step.left else None,
            tries=record.tries + 1,
        )
    )
    visit.tell("deployed", target=step.target, domain=step.domain, remote_id=remote_id)
    return now


def _sent(step: Deploy, record: RolloutRecord) -> DesiredHttps:
    """Return what was sent, with what was sent before of the settings that are left: they stay
    known as drift, and no later run sets them.
    """
    if record.sent is None:
        return step.https
    left = {change.what: getattr(record.sent, change.what) for change in step.left}
    return replace(step.https, **left)


def _busy(told: StepOutcome, error: TargetBusy, since: datetime, visit: Visit) -> StepOutcome:
    if visit.now >= since + visit.doors.verify_timeout:
        return told.with_error(error)
    return _wait(told, error.message, since, visit)


def _wait(told: StepOutcome, why: Text, since: datetime, visit: Visit) -> StepOutcome:
    waiting = wait_for(why, since, visit.now, since + visit.doors.verify_timeout)
    return replace(told, detail=why, waiting=waiting)


def _uploaded(target: str, version: Version, visit: Visit) -> str:
    """Return the remote id of a version, uploaded where it is not known to be there."""
    fingerprint = version.certificate.fingerprint
    oldest = visit.now - LISTED_WITHIN
    for upload in visit.doors.state.uploads(visit.lineage, target):
        if upload.fingerprint == fingerprint and upload.uploaded_at >= oldest:
            return upload.remote_id
    return _upload(target, version, visit)


def _upload(target: str, version: Version, visit: Visit) -> str:
    lineage, fingerprint = visit.lineage, version.certificate.fingerprint
    bundle = visit.doors.state.bundle(lineage, version.number)
    remote_id = visit.doors.targets[target].upload(lineage, bundle)
    label, now = label_of(lineage, fingerprint), visit.now
    visit.doors.state.save_upload(Upload(lineage, target, remote_id, label, fingerprint, now))
    visit.tell("uploaded", target=target, remote_id=remote_id, fingerprint=fingerprint)
    return remote_id
