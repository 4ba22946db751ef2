"""Tell of settings that a target changed along with a certificate."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.https_changes import in_sentences
from certferry.core.report import StepOutcome
from certferry.core.steps import Verify
from certferry.text import Text


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
