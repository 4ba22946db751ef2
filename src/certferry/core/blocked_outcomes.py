"""The outcomes of a step that is needed and blocked: a run tried it in vain, or leaves it alone
until a moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from certferry.core.report import Outcome, StepOutcome
from certferry.core.steps import Blocked, Deploy, Issue, Rollback, Verify
from certferry.errors import CertferryError, CertificateError, DeployError, Retry
from certferry.text import Text

_Step = Issue | Deploy | Verify | Rollback


def left_alone(step: _Step, due: Blocked, lineage: str) -> Iterator[StepOutcome]:
    """Tell until when a step waits, since it failed before or the CA would refuse it; and what
    another run tried in vain since this one began.
    """
    place = (None, None) if isinstance(step, Issue) else (step.target, step.domain)
    if due.until is not None:
        error = due.error or _paused(step, due.until, lineage)
        told = StepOutcome(step.action, Outcome.WAITING, error.message, *place)
        yield replace(told, hint=error.hint, error=error)
    if due.tried_at is not None:
        failure = (DeployError if isinstance(step, Deploy) else CertificateError)(
            Text("another run tried it at {moment} and failed", moment=due.tried_at),
            hint=Text(
                "`certferry history {lineage}` tells why; the next run tries again", lineage=lineage
            ),
        )
        yield StepOutcome(step.action, Outcome.FAILED, failure.message, *place).failed(failure)


def _paused(step: _Step, until: datetime, lineage: str) -> CertferryError:
    return (CertificateError if isinstance(step, Issue) else DeployError)(
        Text("it has failed before, and is tried again at {moment}", moment=until),
        hint=Text(
            "`certferry history {lineage}` tells why; `certferry sync {lineage}` tries at once",
            lineage=lineage,
        ),
        retry=Retry.at(until),
    )
