"""What was done: outcomes of steps, and reports of lineages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from certferry.core.certificates.certificate import Certificate
from certferry.core.planning.steps import Action
from certferry.core.reasons import ReasonCode
from certferry.core.waiting import Waiting
from certferry.errors import CertferryError, Reported
from certferry.problem import Problem, Severity
from certferry.text import Text

CODE = "undeclared"
"""The code of a certificate that the file declares no more."""


@dataclass(frozen=True, slots=True)
class Undeclared:
    """One of them: certferry does not renew it any more. `renamed_to` is a declared certificate of
    exactly its names that has never been issued.
    """

    lineage: str
    certificate: Certificate
    renamed_to: str | None = None

    @property
    def problem(self) -> Problem:
        """What that means, and how to end it."""
        if self.renamed_to is not None:
            message = Text(
                "{old} is not declared any more, and {new} has exactly its names",
                old=self.lineage,
                new=self.renamed_to,
            )
            hint = Text(
                "`certferry rename {old} {new}` keeps its certificate, and no new one is issued",
                old=self.lineage,
                new=self.renamed_to,
            )
            return Problem(CODE, message, hint, Severity.WARNING, self.lineage)
        message = Text(
            "{lineage} is not declared any more: certferry no longer renews or deploys it; its"
            " certificate is valid until {moment}",
            lineage=self.lineage,
            moment=self.certificate.not_after,
        )
        hint = Text(
            "declare it again, or, if it is meant to end, run `certferry forget {lineage}`",
            lineage=self.lineage,
        )
        return Problem(CODE, message, hint, Severity.WARNING, self.lineage)


UNEXPECTED = "unexpected"
"""The code of a mistake in certferry itself."""


class Outcome(StrEnum):
    """How a step ended, or that it has not."""

    DONE = "done"
    UNCHANGED = "unchanged"
    WAITING = "waiting"
    FAILED = "failed"
    REFUSED = "refused"
    SKIPPED = "skipped"


StepKey = tuple[Action, str | None, str | None]
"""An action, its target, and the domain, remote id or label it is about."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of one step. An issue has no target, a retirement a label, a remote id and no
    domain. The label of an `unmanaged` copy may be anything. Something that is `left` is not as the
    file alone says: another tool changed it, or it was rolled back.
    """

    action: Action
    outcome: Outcome
    detail: Text
    target: str | None = None
    domain: str | None = None
    label: str | None = None
    error: Reported | None = None
    hint: Text | None = None
    waiting: Waiting | None = None
    remote_id: str | None = None
    unmanaged: bool = False
    reason: ReasonCode | None = None  # why safety refused it
    left: bool = False

    @property
    def code(self) -> str | None:
        """What went wrong, for programs. A failure without an error of ours is our mistake."""
        if self.error is not None:
            return self.error.code
        if self.reason is not None:
            return self.reason.value
        return UNEXPECTED if self.outcome is Outcome.FAILED else None

    @property
    def is_notice(self) -> bool:
        """Whether something could not be read, and nothing was kept waiting by it."""
        at_a_target = self.action is Action.LOOK and self.target is not None
        return at_a_target and self.outcome is Outcome.SKIPPED

    @property
    def held_until(self) -> datetime | None:
        """Until when no CA is asked for the certificate, by its limits or its own words."""
        is_held = self.outcome is Outcome.WAITING and self.error is not None and self.error.is_early
        return self.error.retry.after if is_held and self.error is not None else None

    @property
    def is_left_alone(self) -> bool:
        """Whether it waits since it failed before, and was not tried again."""
        is_kept = self.outcome is Outcome.WAITING and self.held_until is None
        return is_kept and self.error is not None and self.error.retry.after is not None

    @property
    def key(self) -> StepKey:
        """What identifies the step within its lineage."""
        return (self.action, self.target, self.domain or self.remote_id or self.label)

    def failed(self, error: Reported) -> StepOutcome:
        """Return the step as it ends in failure."""
        return self.with_error(error, Outcome.FAILED)

    def with_error(self, error: Reported, outcome: Outcome) -> StepOutcome:
        """Return the step as an error has it end."""
        return replace(
            self,
            outcome=outcome,
            detail=error.message,
            hint=error.hint,
            error=error,
            waiting=None,
        )


@dataclass(frozen=True, slots=True)
class LineageReport:
    """What became of one lineage in one run. `fingerprint` is that of the version in force. A run
    that is stopped has `looked_at` no lineage of which it could not plan anything yet.
    """

    lineage: str
    fingerprint: str | None
    outcomes: tuple[StepOutcome, ...]
    looked_at: bool = True

    def having(self, outcome: Outcome) -> tuple[StepOutcome, ...]:
        """The steps that ended so."""
        return tuple(step for step in self.outcomes if step.outcome is outcome)

    @property
    def ok(self) -> bool:
        """Whether the lineage is as declared."""
        return self.looked_at and all(
            step.is_notice or step.outcome in {Outcome.DONE, Outcome.UNCHANGED}
            for step in self.outcomes
        )

    @property
    def is_unchanged(self) -> bool:
        """Whether there was nothing to do."""
        return self.looked_at and all(
            step.is_notice or step.outcome is Outcome.UNCHANGED for step in self.outcomes
        )


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What became of a run; `complete` unless it was stopped, `renewing` if it was to renew what
    is not due. `problem` is what kept it from writing down how it ended.
    """

    lineages: tuple[LineageReport, ...]
    complete: bool = True
    renewing: bool = False
    problem: CertferryError | None = None
    undeclared: tuple[Undeclared, ...] | None = None  # of a run for the whole file

    @property
    def ok(self) -> bool:
        """Whether every lineage is as declared, and that is written down."""
        return self.problem is None and all(lineage.ok for lineage in self.lineages)

    @property
    def has_succeeded(self) -> bool:
        """Whether it ran to its end and nothing failed or was refused; what waits may wait."""
        bad = self.any(Outcome.FAILED) or self.any(Outcome.REFUSED)
        return self.complete and self.problem is None and not bad

    @property
    def leaves_failures(self) -> bool:
        """Whether a step has failed before and was left alone: what is wrong still is."""
        return any(step.is_left_alone for each in self.lineages for step in each.outcomes)

    @property
    def left(self) -> int:
        """How many domains are left as they are, although the file alone says otherwise."""
        return sum(step.left for lineage in self.lineages for step in lineage.outcomes)

    def with_newer(self, newer: SyncReport) -> SyncReport:
        """Return it with what a later try of the same run made of some of its lineages."""
        known = {each.lineage: each for each in newer.lineages if each.looked_at}
        lineages = tuple(known.get(each.lineage, each) for each in self.lineages)
        return replace(self, lineages=lineages, complete=newer.complete, problem=newer.problem)

    def any(self, outcome: Outcome) -> bool:
        """Whether any step ended so."""
        return any(lineage.having(outcome) for lineage in self.lineages)


class Result(StrEnum):
    """Stable words; they appear in JSON. What is not done yet waits for a later run."""

    IN_ORDER = "in_order"
    WAITING = "waiting"
    FAILED = "failed"
    REFUSED = "refused"
    STOPPED = "stopped"


_WORST_FIRST = (Result.FAILED, Result.REFUSED, Result.WAITING)


def of_lineage(report: LineageReport) -> Result:
    """Judge one certificate, by its worst outcome; but first, whether the run was stopped before it
    looked at it.
    """
    if not report.looked_at:
        return Result.STOPPED
    if report.having(Outcome.FAILED):
        return Result.FAILED
    if report.having(Outcome.REFUSED):
        return Result.REFUSED
    return Result.IN_ORDER if report.ok else Result.WAITING


def of_run(report: SyncReport) -> Result:
    """Judge a run, by its worst certificate; but first, whether it was stopped."""
    if not report.complete:
        return Result.STOPPED
    if report.problem is not None:
        return Result.FAILED
    found = {of_lineage(lineage) for lineage in report.lineages}
    return next((result for result in _WORST_FIRST if result in found), Result.IN_ORDER)
