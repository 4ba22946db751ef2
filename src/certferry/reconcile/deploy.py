"""Have a target serve a certificate under a domain: upload it where it is missing, then bind it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.lineage import Version, mark
from certferry.core.plan import Action, Deploy
from certferry.core.report import Outcome, StepOutcome
from certferry.core.rollout import RolloutRecord
from certferry.core.upload import Upload
from certferry.core.waiting import wait_for
from certferry.errors import CertferryError, CopyGone, Interrupted, LeaseLost, TargetBusy
from certferry.reconcile.visit import Visit
from certferry.text import Text

LISTED_WITHIN = timedelta(minutes=10)
"""How long an upload of ours may be missing from a target's list (Qiniu fact sheet §5.1: lists lag
behind writes), before it counts as gone and is made anew."""

_CARRYING_OUT = Text("the target is carrying out a change")


def deploy(step: Deploy, visit: Visit) -> StepOutcome:
    """Ask the target to serve the version in force under a domain, uploading it first where needed.

    Raises `LeaseLost` before anything is written that another run may have overtaken.
    """
    told = StepOutcome(Action.DEPLOY, Outcome.WAITING, _CARRYING_OUT, step.target, step.domain)
    record = visit.begin(step.target, step.domain)
    try:
        remote_id = _bind(step, visit)
    except TargetBusy as error:
        return _busy(told, error, record.started_at, visit)
    except (Interrupted, LeaseLost):
        raise
    except CertferryError as error:
        _write_down_failure(step, error, record, visit)
        return told.failed(error)
    return _wait(told, _CARRYING_OUT, _write_down_acceptance(step, remote_id, record, visit), visit)


def tell_failure(step: Deploy, error: CertferryError, visit: Visit) -> None:
    """Tell that a deployment failed, for the history."""
    problem = str(error.lasting)
    visit.tell("deploy failed", target=step.target, domain=step.domain, problem=problem)


def _bind(step: Deploy, visit: Visit) -> str:
    target, domain = visit.observed.locate(step.target, step.domain)
    remote = target.remote_of(visit.version.certificate.fingerprint)
    visit.held()
    remote_id = remote.remote_id if remote else _uploaded(step.target, visit)
    visit.held()
    visit.doors.targets[step.target].bind(step.domain, domain.kind, remote_id, step.https)
    return remote_id


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
            sent=step.https,
            settings_before=domain.https,
        )
    )
    visit.tell("deployed", target=step.target, domain=step.domain, remote_id=remote_id)
    return now


def _write_down_failure(
    step: Deploy, error: CertferryError, record: RolloutRecord, visit: Visit
) -> None:
    if isinstance(error, CopyGone):  # uploaded anew, at the next look
        _forget(step.target, visit)
    else:
        visit.doors.state.save_rollout(replace(record, failed_at=visit.now))
    tell_failure(step, error, visit)


def _busy(told: StepOutcome, error: TargetBusy, since: datetime, visit: Visit) -> StepOutcome:
    if visit.now >= since + visit.doors.verify_timeout:
        return told.failed(error)
    return _wait(told, error.message, since, visit)


def _wait(told: StepOutcome, why: Text, since: datetime, visit: Visit) -> StepOutcome:
    waiting = wait_for(why, since, visit.now, since + visit.doors.verify_timeout)
    return replace(told, detail=why, waiting=waiting)


def _uploaded(target: str, visit: Visit) -> str:
    """Return the remote id of the version in force, uploaded where it is not known to be there."""
    fingerprint = visit.version.certificate.fingerprint
    oldest = visit.now - LISTED_WITHIN
    for upload in visit.doors.state.uploads(visit.lineage, target):
        if upload.fingerprint == fingerprint and upload.uploaded_at >= oldest:
            return upload.remote_id
    return _upload(target, visit.version, visit)


def _upload(target: str, version: Version, visit: Visit) -> str:
    lineage, fingerprint = visit.lineage, version.certificate.fingerprint
    bundle = visit.doors.state.bundle(lineage, version.number)
    remote_id = visit.doors.targets[target].upload(lineage, bundle)
    label, now = mark(lineage, fingerprint), visit.now
    visit.doors.state.save_upload(Upload(lineage, target, remote_id, label, fingerprint, now))
    visit.tell("uploaded", target=target, remote_id=remote_id, fingerprint=fingerprint)
    return remote_id


def _forget(target: str, visit: Visit) -> None:
    """Remember no longer that the version in force is there: it is uploaded anew."""
    state = visit.doors.state
    for upload in state.uploads(visit.lineage, target):
        if upload.fingerprint == visit.version.certificate.fingerprint:
            state.drop_upload(target, upload.remote_id)
