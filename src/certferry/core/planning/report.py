"""The reports of steps, lineages and runs, and the outcomes of the steps not carried out now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from certferry import errors
from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.desired.certificate import DriftPolicy
from certferry.core.observed.observation import Observation, ObservedDomain, Served, in_sentences
from certferry.core.planning import plan as plans
from certferry.core.planning.removals import OTHERS_FIRST, left_to_later_runs
from certferry.core.planning.rollbacks import in_words, previous_of
from certferry.core.reasons import Waiting
from certferry.text import Text
from certferry.values import replace

UNEXPECTED = "unexpected"
"""The code of a failure for which certferry has no other code: a bug."""


UNDECLARED = "undeclared"
"""The code of a certificate that the file no longer declares."""


class Undeclared(Struct, frozen=True):
    """A stored certificate that the file no longer declares, so certferry no longer renews it."""

    lineage: str  #: The lineage's name.
    certificate: Certificate  #: The newest certificate.
    renamed_to: str | None = None  #: A declared lineage with the same names.

    @property
    def problem(self) -> errors.Problem:
        """The problem with a hint."""
        message = Text(
            "{lineage} is no longer declared: certferry neither renews nor deploys the"
            " certificate, which is valid until {moment}",
            lineage=self.lineage,
            moment=self.certificate.not_after,
        )
        hint = Text(
            "declare the certificate again, or, if it should end, run `certferry forget {lineage}`",
            lineage=self.lineage,
        )
        if self.renamed_to is not None:
            renamed = {"old": self.lineage, "new": self.renamed_to}
            message = Text(
                "{old} is no longer declared, and {new} has exactly its names", **renamed
            )
            hint = Text(
                "`certferry rename {old} {new}` keeps the certificate, without a new order",
                **renamed,
            )
        return errors.Problem(UNDECLARED, message, hint, errors.Severity.WARNING, self.lineage)


class Outcome(StrEnum):
    """How a step ended or stands."""

    DONE = "done"  #: Carried out.
    UNCHANGED = "unchanged"  #: Not needed.
    WAITING = "waiting"  #: Left to a later pass or run.
    FAILED = "failed"  #: Ended by an error.
    REFUSED = "refused"  #: Not carried out, for safety or without a confirmation.
    SKIPPED = "skipped"  #: Left out on purpose, or unread.
    ELSEWHERE = "elsewhere"  #: Left to another host.


StepKey = tuple[plans.Action | None, str | None, str | None]
"""The action of a step, the target, and the domain, remote id or label."""


class StepOutcome(Struct, frozen=True):
    """The outcome of a step, or of the whole pass."""

    action: plans.Action | None  #: The kind of step; `None` for the pass over the lineage.
    outcome: Outcome  #: How the step ended or stands.
    detail: Text  #: The outcome in words.
    target: str | None = None  #: The account's name; `None` without a target.
    domain: str | None = None  #: The domain's name; `None` without a domain.
    label: str | None = None  #: For a removal, the copy's name at the target.
    error: errors.Reported | None = None  #: The error that ended or postponed the step.
    hint: Text | None = None  #: The advice for the operator.
    waiting: Waiting | None = None  #: The wait for a later pass.
    remote_id: str | None = None  #: For a removal, the target's id of the copy.
    unmanaged: bool = False  #: For a removal, see `Retire.unmanaged`.
    reason: str | None = None  #: The code of a refusal, or of a fact for information.
    #: Whether the domain stays unlike the file: after drift, after a rollback, or switched off.
    left: bool = False
    notice: bool = False  #: Whether the outcome is information and delays nothing.
    host: str | None = None  #: The host at work on an `ELSEWHERE` step.
    since: datetime | None = None  #: Since when `host` is at work.

    @classmethod
    def of(
        cls,
        action: plans.Action | None,
        error: errors.Reported,
        outcome: Outcome = Outcome.FAILED,
        target: str | None = None,
        domain: str | None = None,
    ) -> StepOutcome:
        """Return the outcome of a step that an error ended or postponed."""
        return cls(action, outcome, error.message, target, domain, error=error, hint=error.hint)

    @property
    def word(self) -> str:
        """The action in JSON and in words; `look` for the pass."""
        return "look" if self.action is None else self.action.value

    @property
    def code(self) -> str | None:
        """The code of the error for programs, or else `reason`. Without both, the code of a failure
        is `UNEXPECTED`, and any other outcome has `None`.
        """
        if self.error is not None:
            return self.error.code
        return self.reason or (UNEXPECTED if self.outcome is Outcome.FAILED else None)

    @property
    def held_until(self) -> datetime | None:
        """The moment before which CAs take no order, if the step waits for that moment; else
        `None`.
        """
        is_held = self.outcome is Outcome.WAITING and self.error is not None and self.error.is_early
        return self.error.retry.after if is_held and self.error is not None else None

    @property
    def is_left_alone(self) -> bool:
        """Whether the step is paused after an earlier failure."""
        is_kept = self.outcome is Outcome.WAITING and self.held_until is None
        return is_kept and self.error is not None and self.error.retry.after is not None

    @property
    def key(self) -> StepKey:
        """The identity of the step within the lineage."""
        return (self.action, self.target, self.domain or self.remote_id or self.label)

    def with_error(self, error: errors.Reported, outcome: Outcome = Outcome.FAILED) -> StepOutcome:
        """Return this step with the words of an error, and the outcome after the error."""
        detail, hint = error.message, error.hint
        return replace(self, outcome=outcome, detail=detail, hint=hint, error=error, waiting=None)


class LineageReport(Struct, frozen=True):
    """The result of one lineage in a run."""

    lineage: str  #: The lineage's name.
    fingerprint: str | None  #: The version in force.
    outcomes: tuple[StepOutcome, ...]  #: The outcomes of the steps.
    was_observed: bool = True  #: False if the run was stopped before the first observation.
    ends: tuple[datetime, ...] = ()  #: The ends of the stored certificates, the newest first.

    def having(self, outcome: Outcome) -> tuple[StepOutcome, ...]:
        """Return the steps with this outcome."""
        return tuple(step for step in self.outcomes if step.outcome is outcome)

    @property
    def ok(self) -> bool:
        """Whether the lineage was observed, and every step is done, not needed, left to another
        host, or only information.
        """
        return self.was_observed and all(
            step.notice or step.outcome in {Outcome.DONE, Outcome.UNCHANGED, Outcome.ELSEWHERE}
            for step in self.outcomes
        )

    @property
    def is_elsewhere(self) -> bool:
        """Whether this run left the lineage to another host."""
        return bool(self.having(Outcome.ELSEWHERE))

    @property
    def is_unchanged(self) -> bool:
        """Whether the lineage was observed, and every step was not needed or is only
        information.
        """
        return self.was_observed and all(
            step.notice or step.outcome is Outcome.UNCHANGED for step in self.outcomes
        )


class SyncReport(Struct, frozen=True):
    """The result of a run."""

    lineages: tuple[LineageReport, ...]  #: The results of the run's lineages.
    complete: bool = True  #: False if the run was stopped.
    renewing: bool = False  #: Whether an operator asked for new certificates (`--renew`).
    problem: errors.CertferryError | None = None  #: Why the run's end could not be stored.
    #: Stored certificates that the file lacks; `None` in a run for part of the file.
    undeclared: tuple[Undeclared, ...] | None = None

    @property
    def ok(self) -> bool:
        """Whether every lineage is `LineageReport.ok`, and the run's end is stored."""
        return self.problem is None and all(lineage.ok for lineage in self.lineages)

    @property
    def has_succeeded(self) -> bool:
        """Whether the run was completed and the run's end stored, without a failed or refused step;
        steps may still wait.
        """
        bad = self.any(Outcome.FAILED) or self.any(Outcome.REFUSED)
        return self.complete and self.problem is None and not bad

    @property
    def leaves_failures(self) -> bool:
        """Whether a step is paused after an earlier failure, so the failure still stands."""
        return any(step.is_left_alone for lineage in self.lineages for step in lineage.outcomes)

    @property
    def left(self) -> int:
        """The number of domains left unlike the file, see `StepOutcome.left`."""
        return sum(step.left for lineage in self.lineages for step in lineage.outcomes)

    @property
    def outdated(self) -> int:
        """The number of certificates left to hosts with a newer declaration."""
        code = errors.DeclarationOutdated.code
        return sum(any(step.code == code for step in row.outcomes) for row in self.lineages)

    def with_newer(self, newer: SyncReport) -> SyncReport:
        """Return this report, with newer results for the lineages that the run has tried again."""
        later = {result.lineage: result for result in newer.lineages if result.was_observed}
        lineages = tuple(later.get(result.lineage, result) for result in self.lineages)
        return replace(self, lineages=lineages, complete=newer.complete, problem=newer.problem)

    def any(self, outcome: Outcome) -> bool:
        """Return whether any step has this outcome."""
        return any(lineage.having(outcome) for lineage in self.lineages)


# how the other steps of a plan stand, beside the steps carried out now

BOUND, DELIVERED = Text("bound"), Text("delivered")
SEEN = Text("served by every address that answers")


def seen_at(served: Iterable[Served]) -> Text:
    """Return the sentence that all answering addresses serve the certificate. Silent addresses are
    listed, except IPv6 addresses if this host lacks IPv6.
    """
    lacks = EdgeProblemCode.NO_IPV6
    silent = [o.place for o in served if o.silent and (not o.problem or o.problem.code != lacks)]
    return Text("{said}; no answer from {silent}", said=SEEN, silent=silent) if silent else SEEN


_HELD = Text("delivered, and unchanged since")
_FIND_OUT = Text(
    'find out who made the change; set drift = "repair" in the deployment to have certferry'
    " repair it"
)


def standings(plan: plans.Plan, observed: Observation) -> Iterator[StepOutcome]:
    """Yield the outcomes of the parts of a plan that the run does not carry out now: targets served
    by other lineages, findings (except `UNMATCHED`), waiting and timed-out rollouts, domains as
    declared, drift, and postponed removals.
    """
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
        match step.when:
            case Waiting() as when:
                place = (step.target, step.domain)
                yield StepOutcome(step.action, Outcome.WAITING, when.why, *place, waiting=when)
            case plans.TimedOut(error):
                yield StepOutcome.of(step.action, error, Outcome.FAILED, step.target, step.domain)
    for target, domain in plan.unchanged:
        yield _as_declared(target, domain, observed)
    rolled_out = {(rollout.target, rollout.domain) for rollout in plan.rollouts}
    for drifted in plan.drifts:
        # The rollout reports a domain to which a certificate is on the way.
        if (drifted.target, drifted.domain) not in rolled_out:
            yield _as_found(drifted)
    yield from _not_removed(plan)


def standings_left_alone(plan: plans.Plan) -> Iterator[StepOutcome]:
    """Yield the outcomes of the steps held until a moment, and of the steps already tried since
    this run began. The caller drops the steps that this run tried.
    """
    for step in (plan.issue, *(rollout.steps[0] for rollout in plan.rollouts)):
        if step is None:
            continue
        place = (None, None) if isinstance(step, plans.Issue) else (step.target, step.domain)
        match step.when:
            case plans.HeldUntil(until, error):
                error = error or _paused(step, until, plan.lineage)
                yield StepOutcome.of(step.action, error, Outcome.WAITING, *place)
            case plans.TriedInThisRun(at):
                failure = (
                    errors.DeployError
                    if isinstance(step, plans.Deploy)
                    else errors.CertificateError
                )(
                    Text("another run tried at {moment} and failed", moment=at),
                    hint=Text(
                        "`certferry history {lineage}` shows the reason; the next run tries again",
                        lineage=plan.lineage,
                    ),
                )
                yield StepOutcome.of(step.action, failure, Outcome.FAILED, *place)


def _paused(step: plans.Step, until: datetime, lineage: str) -> errors.CertferryError:
    return (errors.CertificateError if isinstance(step, plans.Issue) else errors.DeployError)(
        Text("failed before; the next try is at {moment}", moment=until),
        hint=Text(
            "`certferry history {lineage}` shows the reason; `certferry sync {lineage}` tries"
            " at once",
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
            information = StepOutcome.of(None, finding.error, Outcome.UNCHANGED)
            return replace(information, error=None, reason=problem.code)
        case plans.Weight.SKIPPED:
            skipped = StepOutcome(plans.Action.DEPLOY, Outcome.SKIPPED, problem.message, *place)
            return replace(skipped, left=True, notice=True)
        case plans.Weight.UNREAD:
            unread = StepOutcome.of(None, finding.error, Outcome.SKIPPED, finding.target)
            return replace(unread, notice=True)
        case _:
            action = None if finding.target is None else plans.Action.DEPLOY
            is_refused = finding.weight is plans.Weight.REFUSED
            outcome = Outcome.REFUSED if is_refused else Outcome.FAILED
            return StepOutcome.of(action, finding.error, outcome, *place)


def _as_declared(target: str, domain: str, observed: Observation) -> StepOutcome:
    place, observed_domain = observed.locate(target, domain)
    if not place.proves(observed_domain):
        return StepOutcome(plans.Action.DEPLOY, Outcome.UNCHANGED, _HELD, target, domain)
    back = previous_of(observed_domain, observed) if observed_domain.withdrawn else None
    detail = seen_at(place.served.get(domain, ()))
    seen = StepOutcome(plans.Action.VERIFY, Outcome.UNCHANGED, detail, target, domain)
    return seen if back is None else replace(seen, detail=in_words(back), left=True)


def _as_found(drifted: plans.Drifted) -> StepOutcome:
    detail = Text(
        'changed outside certferry, and left unchanged (drift = "{policy}"): {changes}'
    ).filled(policy=drifted.policy.value, changes=in_sentences(drifted.changes))
    place = (drifted.target, drifted.domain)
    hint = _FIND_OUT if drifted.policy is DriftPolicy.WARN else None
    return StepOutcome(plans.Action.DEPLOY, Outcome.UNCHANGED, detail, *place, hint=hint, left=True)


def _not_removed(plan: plans.Plan) -> Iterator[StepOutcome]:
    """Yield an outcome for each target with removals that wait, or that are left to later runs."""
    waiting = {step.target: step.when for step in plan.retirements if step.when is not None}
    for target, when in waiting.items():
        outcome = StepOutcome(plans.Action.RETIRE, Outcome.UNCHANGED, OTHERS_FIRST, target)
        if isinstance(when, Waiting):
            outcome = replace(outcome, outcome=Outcome.WAITING, waiting=when)
        yield outcome
    for target, count in plan.retire_later:
        if target not in waiting:
            yield StepOutcome(
                plans.Action.RETIRE, Outcome.UNCHANGED, left_to_later_runs(count), target
            )


def served_by(lineages: Iterable[str]) -> Text:
    """Return the sentence that other lineages serve every covered domain of a target."""
    return Text("every domain of the certificate is served by {lineages}", lineages=list(lineages))


def what_was_bound(domain: ObservedDomain, observed: Observation) -> Text:
    """Return the sentence on a finished deployment: the previous certificate is bound, a drift is
    repaired, or the new certificate is bound.
    """
    last = domain.last
    if domain.kind.is_receiver:
        return DELIVERED
    previous = previous_of(domain, observed) if domain.withdrawn else None
    if previous is not None:
        until = previous.certificate.not_after
        return Text("bound: the previous certificate, valid until {moment}", moment=until)
    # The record also keeps repairs from before this rollout.
    if last is not None and last.repairs and last.repairs[0] >= last.started_at:
        return Text("bound: another tool's change is undone")
    return BOUND


class Result(StrEnum):
    """The result of a certificate or of a run, as programs read it in JSON. `WAITING`: a later run
    goes on.
    """

    IN_ORDER = "in_order"
    WAITING = "waiting"
    FAILED = "failed"
    REFUSED = "refused"
    STOPPED = "stopped"
    ELSEWHERE = "elsewhere"


_WORST_FIRST = (Result.FAILED, Result.REFUSED, Result.WAITING)


def of_lineage(report: LineageReport) -> Result:
    """Return the result of a certificate, by the worst outcome. Return `STOPPED` if the lineage was
    not observed. A failure of only the state's server counts as `WAITING`.
    """
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
    """Return whether the state's server was unavailable: the next run goes on."""
    return isinstance(error, errors.DatabaseUnavailable)


def of_run(report: SyncReport) -> Result:
    """Return the result of a run, by the worst certificate. A certificate left to another host
    counts as `IN_ORDER`.

    A stopped run is `STOPPED`. Any other run whose end could not be stored is `FAILED`, or at least
    `WAITING` if only the state's server was unavailable.
    """
    if not report.complete:
        return Result.STOPPED
    if report.problem is not None and not _is_of_the_database(report.problem):
        return Result.FAILED
    results = {of_lineage(lineage) for lineage in report.lineages}
    if report.problem is not None:
        results.add(Result.WAITING)
    return next((result for result in _WORST_FIRST if result in results), Result.IN_ORDER)
