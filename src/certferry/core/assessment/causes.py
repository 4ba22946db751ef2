"""Causes of failures in a run: an error shared by many certificates is one cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, StepOutcome, SyncReport
from certferry.errors import StateUnavailable
from certferry.text import Text


class Cause(Struct, frozen=True):
    """An error without its certificate, so that the same error of two certificates is one cause."""

    action: Action | None
    outcome: Outcome
    code: str
    message: Text
    hint: Text | None


Steps = Sequence[tuple[str, StepOutcome]]
"""Steps with a common cause, each with the name of the certificate."""


def cause_of(step: StepOutcome) -> Cause | None:
    """Return why a step failed or was refused; `None` for a step that ended otherwise."""
    if step.outcome not in {Outcome.FAILED, Outcome.REFUSED} or step.code is None:
        return None
    return Cause(step.action, step.outcome, step.code, step.detail, step.hint)


def shared_causes(report: SyncReport) -> Mapping[Cause, Steps]:
    """Return the causes shared by several certificates, with the steps of each cause."""
    steps_of: dict[Cause, list[tuple[str, StepOutcome]]] = {}
    for certificate in report.lineages:
        for step in certificate.outcomes:
            cause = cause_of(step)
            if cause is not None:
                steps_of.setdefault(cause, []).append((certificate.lineage, step))
    return {
        cause: steps
        for cause, steps in steps_of.items()
        if len({lineage for lineage, _ in steps}) > 1
    }


def is_not_done(step: StepOutcome) -> bool:
    """Return whether a step failed only because the state was unavailable. A later run carries out
    the step.
    """
    return step.outcome is Outcome.FAILED and isinstance(step.error, StateUnavailable)
