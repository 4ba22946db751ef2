"""A deployment that failed: what is kept of it, and what is told."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.rollout_record import RolloutRecord
from certferry.core.steps import Deploy
from certferry.errors import CertferryError, CopyGone
from certferry.reconcile.visit import Visit


def tell_failure(step: Deploy, error: CertferryError, visit: Visit) -> None:
    """Tell that a deployment failed, for the history."""
    problem = str(error.lasting)
    visit.tell("deploy failed", target=step.target, domain=step.domain, problem=problem)


def write_down_failure(
    step: Deploy, error: CertferryError, record: RolloutRecord, visit: Visit
) -> None:
    """Keep that a deployment failed, and tell the history."""
    if isinstance(error, CopyGone):  # uploaded anew, at the next look
        _forget(step, visit)
    else:
        repairs = record.repairs[1:] if step.repair else record.repairs
        failed = replace(record, failed_at=visit.now, repairs=repairs, tries=record.tries + 1)
        visit.doors.state.save_rollout(failed)
    tell_failure(step, error, visit)


def _forget(step: Deploy, visit: Visit) -> None:
    """Remember no longer that a version is there: it is uploaded anew."""
    state, fingerprint = visit.doors.state, visit.version_of(step).certificate.fingerprint
    for upload in state.uploads(visit.lineage, step.target):
        if upload.fingerprint == fingerprint:
            state.drop_upload(step.target, upload.remote_id)
