"""The failures of a run: an error shared by several certificates is one failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, StepOutcome, SyncReport
from certferry.errors import StateUnavailable
from certferry.text import Text


class Failure(Struct, frozen=True):
    """An error without its certificate, so that the same error of two certificates is one
    failure.
    """

    action: Action | None
    outcome: Outcome
    code: str
    message: Text
    hint: Text | None


Steps = Sequence[tuple[str, StepOutcome]]
"""The steps with the same failure, each with the name of the certificate."""


def failure_of(step: StepOutcome) -> Failure | None:
    """Return why a step failed or was refused; `None` for a step that ended otherwise."""
    if step.outcome not in {Outcome.FAILED, Outcome.REFUSED} or step.code is None:
        return None
    return Failure(step.action, step.outcome, step.code, step.detail, step.hint)


def shared_failures(report: SyncReport) -> Mapping[Failure, Steps]:
    """Return the failures shared by several certificates, with the steps of each failure."""
    steps_of: dict[Failure, list[tuple[str, StepOutcome]]] = {}
    for certificate in report.lineages:
        for step in certificate.outcomes:
            failure = failure_of(step)
            if failure is not None:
                steps_of.setdefault(failure, []).append((certificate.lineage, step))
    return {
        failure: steps
        for failure, steps in steps_of.items()
        if len({lineage for lineage, _ in steps}) > 1
    }


def is_not_done(step: StepOutcome) -> bool:
    """Return whether a step failed only because the state was unavailable. A later run carries out
    the step.
    """
    return step.outcome is Outcome.FAILED and isinstance(step.error, StateUnavailable)
