"""The plan of one lineage: the steps, and when each step is carried out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from certferry.core.certificates.certificate import KeyType
from certferry.core.desired.certificate import Authority, DesiredHttps, DriftPolicy, Kind
from certferry.core.observed.observation import Changes, Observation, in_one_line
from certferry.core.reasons import Reason, Waiting
from certferry.errors import CertferryError, DeclarationOutdated, Problem, Severity
from certferry.text import Text


class Action(StrEnum):
    """The kind of a step."""

    ISSUE = "issue"  #: An `Issue` from a CA.
    ADOPT = "adopt"  #: An `Issue` from another client's files.
    DEPLOY = "deploy"  #: A `Deploy`.
    VERIFY = "verify"  #: A `Verify`.
    ROLLBACK = "rollback"  #: A `Rollback`.
    RETIRE = "retire"  #: A `Retire`.
    CLEAN = "clean"  #: A `Clean`.


class TimedOut(Struct, frozen=True):
    """The step has waited too long, or its change has failed, so the run no longer waits."""

    error: CertferryError  #: Why the change failed or takes too long.


class TriedInThisRun(Struct, frozen=True):
    """This run or another run has tried the step since this run began, so this run does not."""

    at: datetime  #: The moment of the last try.


class HeldUntil(Struct, frozen=True):
    """The step waits until a moment, because of a CA's limits or in the pause after a failure."""

    until: datetime  #: The end of the wait.
    error: CertferryError | None = None  #: Why the CA would refuse the order; `None` in a pause.


class NotReady(Struct, frozen=True):
    """The step is not possible yet: the certificate is still to be issued, or the copy to remove
    may still be in use.
    """


NotInThisRun = TimedOut | TriedInThisRun | HeldUntil | NotReady

When = Waiting | NotInThisRun | None
"""When a step is carried out: right after the earlier steps (`None`), later, or not in this run."""


class Issue(Struct, frozen=True):
    """Order a certificate from a CA, or adopt the certificate in another client's files."""

    names: tuple[str, ...]  #: The declared names.
    key_type: KeyType  #: The declared kind of key.
    reason: Reason  #: Why the certificate is needed.
    action: Action = Action.ISSUE  #: `ISSUE` or `ADOPT`.
    when: When = None  #: See `When`.
    authorities: tuple[Authority, ...] = ()  #: The CAs to ask, in order.
    standing: tuple[str, ...] = ()  #: Names proven by permanent records (`core.dns_persist`).


class Deploy(Struct, frozen=True):
    """Bind a certificate to a domain; upload the certificate first if the target lacks a copy."""

    target: str  #: The account's name; for a receiver, the kind.
    domain: str  #: The domain's name; for a receiver, the directory or label.
    https: DesiredHttps  #: The settings to send.
    reason: Reason  #: Why the domain needs the step.
    changes: Changes = ()  #: The present values and the values after the step.
    kind: Kind = Kind.AUTO  #: The domain's kind.
    action: Action = Action.DEPLOY  #: Always `DEPLOY`.
    when: When = None  #: See `When`.
    fingerprint: str | None = None  #: The certificate; `None` while still to be issued.
    repair: bool = False  #: Whether the step undoes changes of another tool.
    upload_by: datetime | None = None  #: The target's deadline, if an upload is needed.
    left: Changes = ()  #: Changes of another tool that stay.


class Verify(Struct, frozen=True):
    """Store that every answering address presents the certificate, once this is so."""

    target: str  #: The account's name.
    domain: str  #: The domain's name.
    reason: Reason  #: Why the certificate still has to be seen.
    #: Settings that the target changed although certferry did not ask for the change.
    changes: Changes = ()
    kind: Kind = Kind.AUTO  #: The domain's kind.
    action: Action = Action.VERIFY  #: Always `VERIFY`.
    when: When = None  #: See `When`.
    #: The certificate; `None` while still to be issued, and if the target cannot be read.
    fingerprint: str | None = None


class Rollback(Struct, frozen=True):
    """Withdraw a certificate from a domain for good. A later step binds the previous
    certificate.
    """

    target: str  #: The account's name.
    domain: str  #: The domain's name.
    reason: Reason  #: Why the domain goes back.
    fingerprint: str  #: The certificate to withdraw.
    previous_until: datetime  #: When the previous certificate expires.
    kind: Kind = Kind.AUTO  #: The domain's kind.
    action: Action = Action.ROLLBACK  #: Always `ROLLBACK`.
    when: When = None  #: See `When`.


class Retire(Struct, frozen=True):
    """Remove a copy at a target."""

    target: str  #: The account's name.
    remote_id: str  #: The target's id of the copy.
    label: str  #: The copy's name at the target.
    reason: Reason  #: Why the copy is removed.
    not_after: datetime | None = None  #: The end of the copy's validity, if reported.
    left: timedelta | None = None  #: The time until `not_after`.
    #: Whether the copy is an unused copy of any origin; if not, a superseded copy.
    unmanaged: bool = False
    again: bool = False  #: Whether the target refused the removal before.
    action: Action = Action.RETIRE  #: Always `RETIRE`.
    when: When = None  #: See `When`.


class Clean(Struct, frozen=True):
    """Remove challenge records that an earlier run left in DNS."""

    reason: Reason  #: Why records are left.
    action: Action = Action.CLEAN  #: Always `CLEAN`.


Step = Issue | Deploy | Verify | Rollback | Retire | Clean


class Rollout(Struct, frozen=True):
    """The steps that bring the certificate to one domain."""

    target: str  #: The account's name.
    domain: str  #: The domain's name.
    #: The steps in order; none for a domain as declared.
    steps: tuple[Deploy | Verify | Rollback, ...]
    unread: bool = False  #: Whether the target cannot be read now.

    @property
    def when(self) -> When:
        """When the first step is carried out."""
        return self.steps[0].when if self.steps else None

    @property
    def is_seen(self) -> bool:
        """Whether the only step is a `Verify`, and the certificate was seen served."""
        return self.when is None and all(isinstance(step, Verify) for step in self.steps)

    @property
    def deploy(self) -> Deploy | None:
        """The rollout's deployment, if needed."""
        return next((step for step in self.steps if isinstance(step, Deploy)), None)


class Weight(StrEnum):
    """The kind of a finding, which gives the severity."""

    BLOCKED = "blocked"  #: A certificate, a target or a domain cannot become as declared.
    REFUSED = "refused"  #: A step was refused, by safety or for lack of a confirmation.
    UNREAD = "unread"  #: A part of a target could not be read.
    UNMATCHED = "in_vain"  #: A pattern or a name of the file may match no domain.
    SKIPPED = "skipped"  #: A domain is switched off, or another matter for information.

    @property
    def severity(self) -> Severity:
        """The weight on the scale of all problems."""
        if self is Weight.SKIPPED:
            return Severity.NOTICE
        return Severity.ERROR if self in {Weight.BLOCKED, Weight.REFUSED} else Severity.WARNING


class PlanFinding(Struct, frozen=True):
    """A problem that the plan reports and leaves, such as a frozen domain or a refused step."""

    weight: Weight  #: The kind of the finding.
    problem: Problem  #: The problem in words.
    target: str | None = None  #: The account's name; `None` for a finding about the certificate.
    domain: str | None = None  #: The domain's name; `None` for a finding about the deployment.
    error: CertferryError | None = None  #: The error behind the problem; `None` for a refused step.
    step: Deploy | None = None  #: The refused step.

    @classmethod
    def of(
        cls,
        weight: Weight,
        error: CertferryError,
        target: str | None = None,
        domain: str | None = None,
    ) -> PlanFinding:
        """Return an error as a finding."""
        problem = Problem(error.code, error.message, error.hint, weight.severity)
        return cls(weight, problem, target, domain, error)

    @classmethod
    def refused(cls, step: Deploy, reason: Reason, hint: Text) -> PlanFinding:
        """Return the finding for a deployment that safety refuses, with the reason and advice."""
        problem = Problem(reason.code.value, reason.message, hint)
        return cls(Weight.REFUSED, problem, step.target, step.domain, step=step)


class Drifted(Struct, frozen=True):
    """A domain changed by another tool, with changes that certferry does not undo."""

    target: str  #: The account's name.
    domain: str  #: The domain's name.
    policy: DriftPolicy  #: The setting `drift`, by which the changes stay.
    changes: Changes  #: The changes that stay.


class RolledBack(Struct, frozen=True):
    """A domain serving the previous certificate on purpose."""

    target: str  #: The account's name.
    domain: str  #: The domain's name.
    words: Text  #: The sentence for people.


class Plan(Struct, frozen=True):
    """The steps that bring one lineage from the observed to the declared state."""

    lineage: str  #: The lineage's name.
    names: tuple[str, ...]  #: The declared names.
    issue: Issue | None = None  #: The order or adoption, now or later.
    rollouts: tuple[Rollout, ...] = ()  #: The domains with steps.
    #: The removals, which wait for the rollouts at their target.
    retirements: tuple[Retire, ...] = ()
    unchanged: tuple[tuple[str, str], ...] = ()  #: (target, domain) of domains as declared.
    findings: tuple[PlanFinding, ...] = ()  #: Problems that the plan cannot solve.
    #: Targets where other lineages serve every covered domain, with the lineages.
    owned_elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()
    clean: Clean | None = None  #: The removal of challenge records, if needed.
    drifts: tuple[Drifted, ...] = ()  #: Changes of other tools that stay.
    rolled_back: tuple[RolledBack, ...] = ()  #: Domains that serve the previous certificate.
    retire_later: tuple[tuple[str, int], ...] = ()  #: Removals left to later runs, by target.

    @property
    def issue_now(self) -> Issue | None:
        """The order or adoption to carry out now."""
        return self.issue if self.issue is not None and self.issue.when is None else None

    @property
    def issue_later(self) -> Issue | None:
        """The needed order, if the order waits until a moment (`HeldUntil`)."""
        is_held = self.issue is not None and isinstance(self.issue.when, HeldUntil)
        return self.issue if is_held else None

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step, in the order of execution, except an order that does not come now."""
        rolled_out = (step for rollout in self.rollouts for step in rollout.steps)
        steps = (self.issue_now, *rolled_out, *self.retirements, self.clean)
        return tuple(step for step in steps if step is not None)

    @property
    def ready(self) -> tuple[Step, ...]:
        """The steps to carry out now, in order."""
        if self.issue_now is not None:
            return (self.issue_now,)  # every later step depends on the new certificate
        # A copy is removed after every domain of the target was seen to serve the successor.
        unseen = {rollout.target for rollout in self.rollouts if not rollout.is_seen}
        steps = (
            *(rollout.steps[0] for rollout in self.rollouts if rollout.when is None),
            *(r for r in self.retirements if r.when is None and r.target not in unseen),
            self.clean,
        )
        return tuple(step for step in steps if step is not None)

    @property
    def pending(self) -> tuple[Step, ...]:
        """The steps of unfinished changes: all steps except the removals that the target refused
        before (`Retire.again`), and except the first steps of rollouts whose certificate was
        already seen served (`Rollout.is_seen`).
        """
        seen = {rollout.steps[0] for rollout in self.rollouts if rollout.is_seen}
        again = {step for step in self.retirements if step.again}
        return tuple(step for step in self.steps if step not in seen | again)

    @property
    def timed_out(self) -> tuple[Rollout, ...]:
        """The rollouts that end in this run, because they waited too long or failed."""
        return tuple(rollout for rollout in self.rollouts if isinstance(rollout.when, TimedOut))

    def having(self, *weights: Weight) -> tuple[PlanFinding, ...]:
        """Return the findings of these weights."""
        return tuple(finding for finding in self.findings if finding.weight in weights)

    @property
    def is_outdated(self) -> bool:
        """Whether the certificate is left to hosts with a newer declaration."""
        return any(finding.problem.code == DeclarationOutdated.code for finding in self.findings)

    @property
    def is_empty(self) -> bool:
        """Whether every change has been carried out; findings may still stand."""
        return not self.pending

    @property
    def is_settled(self) -> bool:
        """Whether no change is left: no `pending` step, no held order, and no blocked or refused
        change.
        """
        bad = self.having(Weight.BLOCKED, Weight.REFUSED)
        return self.is_empty and not bad and self.issue_later is None


Doubt = tuple[str, str, str]
"""A target, a domain (`""` for the whole target), and the doubtful value there."""


def doubts_in(plan: Plan, observed: Observation) -> frozenset[Doubt]:
    """Return the parts of a plan that a concurrent run may have caused: new drift, timed-out waits,
    and removals of copies that stand at a target and not in the state. If there are doubts, a run
    observes and plans again under the lease.
    """
    if not (plan.rollouts or plan.retirements or plan.findings or plan.drifts):
        return frozenset()  # as in nearly every pass
    timed_out = (
        (rollout.target, rollout.domain, rollout.steps[0].fingerprint or "")
        for rollout in plan.timed_out
        if not rollout.unread
    )
    stored = {(upload.target, upload.remote_id) for upload in observed.remembered.uploads}
    removed = (step for step in plan.ready if isinstance(step, Retire) and not step.unmanaged)
    unknown = (
        (step.target, "", step.remote_id)
        for step in removed
        if (step.target, step.remote_id) not in stored
    )
    return frozenset((*_changed(plan, observed), *timed_out, *unknown))


def _changed(plan: Plan, observed: Observation) -> Iterator[Doubt]:
    deploys = (rollout.deploy for rollout in plan.rollouts)
    refused = (finding.step for finding in plan.findings)
    repairs = (step for step in (*deploys, *refused) if step is not None and step.repair)
    changed = [(step.target, step.domain, step.changes) for step in repairs]
    changed += ((drift.target, drift.domain, drift.changes) for drift in plan.drifts)
    for target, domain, changes in changed:
        last, drift_text = observed.locate(target, domain)[1].last, in_one_line(changes)
        if last is None or last.drift != drift_text:
            yield target, domain, drift_text
