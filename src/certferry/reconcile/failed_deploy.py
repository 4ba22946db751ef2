"""A deployment that failed: what is kept of it, and what is told."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.rollout_record import RolloutRecord
from certferry.core.steps import Deploy
from certferry.errors import CertferryError
from certferry.reconcile.visit import Visit


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
