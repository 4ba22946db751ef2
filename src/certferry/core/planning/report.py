"""How steps ended, or stand; and how a lineage and a run ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from certferry import errors
from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.desired.certificate import DriftPolicy
from certferry.core.observed.observation import Observation, ObservedDomain, Served, in_sentences
from certferry.core.planning import plan as plans
from certferry.core.planning.removals import OTHERS_FIRST, left_to_later_runs
from certferry.core.planning.rollbacks import in_words, previous_of
from certferry.core.reasons import Waiting
from certferry.errors import Problem, Severity
from certferry.text import Text

CODE = "undeclared"
"""The code of a certificate that the file declares no more."""


@dataclass(frozen=True, slots=True)
class Undeclared:
    """A certificate that is not renewed any more; a declared one may be its new name."""

    lineage: str
    certificate: Certificate
    renamed_to: str | None = None

    @property
    def problem(self) -> Problem:
        """What that means, and how to end it."""
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
        if self.renamed_to is not None:
            renamed = {"old": self.lineage, "new": self.renamed_to}
            message = Text(
                "{old} is not declared any more, and {new} has exactly its names", **renamed
            )
            hint = Text(
                "`certferry rename {old} {new}` keeps its certificate, and no new one is issued",
                **renamed,
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
    ELSEWHERE = "elsewhere"


StepKey = tuple[plans.Action | None, str | None, str | None]
"""An action, its target, and the domain, remote id or label it is about."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of one step, or, without an `action`, of the pass itself. A domain that is `left`
    is not as the file alone says: it drifted, or was rolled back. A `notice` kept nothing waiting.
    What is done elsewhere is done by another `host`, `since` a moment.
    """

    action: plans.Action | None
    outcome: Outcome
    detail: Text
    target: str | None = None
    domain: str | None = None
    label: str | None = None
    error: errors.Reported | None = None
    hint: Text | None = None
    waiting: Waiting | None = None
    remote_id: str | None = None
    unmanaged: bool = False
    reason: str | None = None  # why safety refused it
    left: bool = False
    notice: bool = False
    host: str | None = None
    since: datetime | None = None

    @classmethod
    def of(
        cls,
        action: plans.Action | None,
        error: errors.Reported,
        outcome: Outcome = Outcome.FAILED,
        target: str | None = None,
        domain: str | None = None,
    ) -> StepOutcome:
        """Return a step that an error ended so."""
        return cls(action, outcome, error.message, target, domain, error=error, hint=error.hint)

    @property
    def word(self) -> str:
        """The action in JSON and in words."""
        return "look" if self.action is None else self.action.value

    @property
    def code(self) -> str | None:
        """What went wrong, for programs. A failure without an error of ours is our mistake."""
        if self.error is not None:
            return self.error.code
        return self.reason or (UNEXPECTED if self.outcome is Outcome.FAILED else None)

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

    def with_error(self, error: errors.Reported, outcome: Outcome = Outcome.FAILED) -> StepOutcome:
        """Return the step as an error ends it."""
        detail, hint = error.message, error.hint
        return replace(self, outcome=outcome, detail=detail, hint=hint, error=error, waiting=None)


@dataclass(frozen=True, slots=True)
class LineageReport:
    """The result of one lineage in one run, with the `fingerprint` of the version in force."""

    lineage: str
    fingerprint: str | None
    outcomes: tuple[StepOutcome, ...]
    was_observed: bool = True

    def having(self, outcome: Outcome) -> tuple[StepOutcome, ...]:
        """The steps that ended so."""
        return tuple(step for step in self.outcomes if step.outcome is outcome)

    @property
    def ok(self) -> bool:
        """Whether the lineage is as declared, or another host is at work on it."""
        return self.was_observed and all(
            step.notice or step.outcome in {Outcome.DONE, Outcome.UNCHANGED, Outcome.ELSEWHERE}
            for step in self.outcomes
        )

    @property
    def is_elsewhere(self) -> bool:
        """Whether this run left it to another host."""
        return bool(self.having(Outcome.ELSEWHERE))

    @property
    def is_unchanged(self) -> bool:
        """Whether there was nothing to do."""
        return self.was_observed and all(
            step.notice or step.outcome is Outcome.UNCHANGED for step in self.outcomes
        )


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The result of a run: `complete` unless stopped; `problem` kept it from storing its end."""

    lineages: tuple[LineageReport, ...]
    complete: bool = True
    renewing: bool = False
    problem: errors.CertferryError | None = None
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

    @property
    def outdated(self) -> int:
        """How many certificates are left to hosts whose declaration is newer."""
        code = errors.DeclarationOutdated.code
        return sum(any(step.code == code for step in one.outcomes) for one in self.lineages)

    def with_newer(self, newer: SyncReport) -> SyncReport:
        """Return it with what a later try of the same run made of some of its lineages."""
        known = {each.lineage: each for each in newer.lineages if each.was_observed}
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
    ELSEWHERE = "elsewhere"


_WORST_FIRST = (Result.FAILED, Result.REFUSED, Result.WAITING)


def of_lineage(report: LineageReport) -> Result:
    """Judge one certificate by its worst outcome, unless the run was stopped before it."""
    if not report.was_observed:
        return Result.STOPPED
    if not all(_is_of_the_database(step.error) for step in report.having(Outcome.FAILED)):
        return Result.FAILED
    if report.having(Outcome.REFUSED):
        return Result.REFUSED
    if report.ok and report.is_elsewhere:
        return Result.ELSEWHERE
    return Result.IN_ORDER if report.ok else Result.WAITING


def _is_of_the_database(error: errors.Reported | None) -> bool:
    """Return whether the state's server is all that was missing: the next run goes on."""
    return isinstance(error, errors.DatabaseUnavailable)


def of_run(report: SyncReport) -> Result:
    """Judge a run, by its worst certificate; but first, whether it was stopped. What is done
    elsewhere is in order.
    """
    if not report.complete:
        return Result.STOPPED
    if report.problem is not None and not _is_of_the_database(report.problem):
        return Result.FAILED
    found = {of_lineage(lineage) for lineage in report.lineages}
    if report.problem is not None:
        found.add(Result.WAITING)
    return next((result for result in _WORST_FIRST if result in found), Result.IN_ORDER)


# how the steps of a plan stand that it does not carry out now

BOUND = Text("bound")
SEEN = Text("served by every address that answers")


def seen_at(served: Iterable[Served]) -> Text:
    """Return that it is served, and which of the addresses that this host can ask are silent."""
    lacks = EdgeProblemCode.NO_IPV6
    silent = [o.address for o in served if o.silent and (not o.problem or o.problem.code != lacks)]
    return Text("{said}; no answer from {silent}", said=SEEN, silent=silent) if silent else SEEN


_HELD = Text("delivered, and as it was delivered")
_FIND_OUT = Text(
    'find out who changed it; drift = "repair" in the deployment has certferry repair it'
)


def standings(plan: plans.Plan, observed: Observation) -> Iterator[StepOutcome]:
    """Return how everything stands that this plan does not carry out now."""
    for target, lineages in plan.owned_elsewhere:
        yield StepOutcome(plans.Action.DEPLOY, Outcome.UNCHANGED, served_by(lineages), target)
    for weight in (
        plans.Weight.SKIPPED,
        plans.Weight.UNREAD,
        plans.Weight.BLOCKED,
        plans.Weight.REFUSED,
    ):
        yield from map(_of_finding, plan.having(weight))
    for rollout in plan.rollouts:
        step = rollout.steps[0]
        match step.due:
            case Waiting() as due:
                place = (step.target, step.domain)
                yield StepOutcome(step.action, Outcome.WAITING, due.why, *place, waiting=due)
            case plans.TimedOut(error):
                yield StepOutcome.of(step.action, error, Outcome.FAILED, step.target, step.domain)
    for target, domain in plan.unchanged:
        yield _as_declared(target, domain, observed)
    rolled_out = {(rollout.target, rollout.domain) for rollout in plan.rollouts}
    for drifted in plan.drifts:
        # Where a certificate is on its way, the rollout reports the domain.
        if (drifted.target, drifted.domain) not in rolled_out:
            yield _as_found(drifted)
    yield from _not_removed(plan)


def standings_left_alone(plan: plans.Plan) -> Iterator[StepOutcome]:
    """Return which steps wait for a moment, and which another run has tried meanwhile."""
    for step in (plan.issue, *(rollout.steps[0] for rollout in plan.rollouts)):
        if step is None:
            continue
        place = (None, None) if isinstance(step, plans.Issue) else (step.target, step.domain)
        match step.due:
            case plans.HeldUntil(until, error):
                error = error or _paused(step, until, plan.lineage)
                yield StepOutcome.of(step.action, error, Outcome.WAITING, *place)
            case plans.TriedInThisRun(at):
                failure = (
                    errors.DeployError
                    if isinstance(step, plans.Deploy)
                    else errors.CertificateError
                )(
                    Text("another run tried it at {moment} and failed", moment=at),
                    hint=Text(
                        "`certferry history {lineage}` tells why; the next run tries again",
                        lineage=plan.lineage,
                    ),
                )
                yield StepOutcome.of(step.action, failure, Outcome.FAILED, *place)


def _paused(step: plans.Step, until: datetime, lineage: str) -> errors.CertferryError:
    return (errors.CertificateError if isinstance(step, plans.Issue) else errors.DeployError)(
        Text("it has failed before, and is tried again at {moment}", moment=until),
        hint=Text(
            "`certferry history {lineage}` tells why; `certferry sync {lineage}` tries at once",
            lineage=lineage,
        ),
        retry=errors.Retry.at(until),
    )


def _of_finding(finding: plans.PlanFinding) -> StepOutcome:
    problem, place = finding.problem, (finding.target, finding.domain)
    if finding.error is None:
        refused = StepOutcome(plans.Action.DEPLOY, Outcome.REFUSED, problem.message, *place)
        return replace(refused, hint=problem.hint, reason=problem.code)
    match finding.weight:
        case plans.Weight.SKIPPED if finding.target is None:
            passed = StepOutcome.of(None, finding.error, Outcome.UNCHANGED)
            return replace(passed, error=None, reason=problem.code)
        case plans.Weight.SKIPPED:
            passed = StepOutcome(plans.Action.DEPLOY, Outcome.SKIPPED, problem.message, *place)
            return replace(passed, left=True, notice=True)
        case plans.Weight.UNREAD:
            unread = StepOutcome.of(None, finding.error, Outcome.SKIPPED, finding.target)
            return replace(unread, notice=True)
        case _:
            action = None if finding.target is None else plans.Action.DEPLOY
            is_refused = finding.weight is plans.Weight.REFUSED
            outcome = Outcome.REFUSED if is_refused else Outcome.FAILED
            return StepOutcome.of(action, finding.error, outcome, *place)


def _as_declared(target: str, domain: str, observed: Observation) -> StepOutcome:
    at, found = observed.locate(target, domain)
    if found.kind.is_receiver:
        return StepOutcome(plans.Action.DEPLOY, Outcome.UNCHANGED, _HELD, target, domain)
    back = previous_of(found, observed) if found.withdrawn else None
    said = seen_at(at.served.get(domain, ()))
    seen = StepOutcome(plans.Action.VERIFY, Outcome.UNCHANGED, said, target, domain)
    return seen if back is None else replace(seen, detail=in_words(back), left=True)


def _as_found(drifted: plans.Drifted) -> StepOutcome:
    said = Text(
        'changed outside certferry, and left like that (drift = "{policy}"): {changes}'
    ).filled(policy=drifted.policy.value, changes=in_sentences(drifted.changes))
    place = (drifted.target, drifted.domain)
    hint = _FIND_OUT if drifted.policy is DriftPolicy.WARN else None
    return StepOutcome(plans.Action.DEPLOY, Outcome.UNCHANGED, said, *place, hint=hint, left=True)


def _not_removed(plan: plans.Plan) -> Iterator[StepOutcome]:
    """Return what waits at each target, and what is left to later runs."""
    waiting = {step.target: step.due for step in plan.retirements if step.due is not None}
    for target, due in waiting.items():
        outcome = StepOutcome(plans.Action.RETIRE, Outcome.UNCHANGED, OTHERS_FIRST, target)
        if isinstance(due, Waiting):
            outcome = replace(outcome, outcome=Outcome.WAITING, waiting=due)
        yield outcome
    for target, count in plan.retire_later:
        if target not in waiting:
            yield StepOutcome(
                plans.Action.RETIRE, Outcome.UNCHANGED, left_to_later_runs(count), target
            )


def served_by(lineages: Iterable[str]) -> Text:
    """Return why a certificate has nothing to serve at a target."""
    return Text("every domain that it covers is served by {lineages}", lineages=list(lineages))


def what_was_bound(domain: ObservedDomain, observed: Observation) -> Text:
    """Return whether the previous certificate was bound again, or a drift was repaired."""
    last = domain.last
    previous = previous_of(domain, observed) if domain.withdrawn else None
    if previous is not None:
        until = previous.certificate.not_after
        return Text("bound: the previous certificate, valid until {moment}", moment=until)
    # Repairs before this rollout stay in the record.
    if last is not None and last.repairs and last.repairs[0] >= last.started_at:
        return Text("bound: what another tool had changed is undone")
    return BOUND
