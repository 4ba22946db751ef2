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

    ISSUE = "issue"
    ADOPT = "adopt"
    DEPLOY = "deploy"
    VERIFY = "verify"
    ROLLBACK = "rollback"
    RETIRE = "retire"
    CLEAN = "clean"


class TimedOut(Struct, frozen=True):
    """The run stops waiting."""

    error: CertferryError  #: The failure of the change, or why the change takes too long.


class TriedInThisRun(Struct, frozen=True):
    """The step failed since this run began, in this run or in another run."""

    at: datetime  #: The moment of the failure.


class HeldUntil(Struct, frozen=True):
    """The step waits for a moment: after an earlier failure, or because of a CA's limits."""

    until: datetime
    error: CertferryError | None = None  #: Why the CA would refuse the order.


class NotReady(Struct, frozen=True):
    """The step needs a certificate to be issued or delivered first."""


NotInThisRun = TimedOut | TriedInThisRun | HeldUntil | NotReady

When = Waiting | NotInThisRun | None
"""When a step is carried out: right after the earlier steps (`None`), later, or not in this run."""


class Issue(Struct, frozen=True):
    """Order a certificate from a CA, or adopt the certificate in another client's files."""

    names: tuple[str, ...]
    key_type: KeyType
    reason: Reason
    action: Action = Action.ISSUE  #: `ISSUE` or `ADOPT`.
    when: When = None
    authorities: tuple[Authority, ...] = ()  #: The CAs to ask, in order.
    standing: tuple[str, ...] = ()  #: Names proven by permanent records (`core.dns_persist`).


class Deploy(Struct, frozen=True):
    """Bind a certificate to a domain; upload the certificate first if the target lacks a copy."""

    target: str
    domain: str
    https: DesiredHttps
    reason: Reason
    changes: Changes = ()
    kind: Kind = Kind.AUTO
    action: Action = Action.DEPLOY
    when: When = None
    fingerprint: str | None = None  #: `None` before the certificate is issued.
    repair: bool = False  #: Whether the step undoes changes of another tool.
    upload_by: datetime | None = None  #: The target's deadline, if an upload is needed.
    left: Changes = ()  #: Changes of another tool that stay.


class Verify(Struct, frozen=True):
    """Store that every address presents the certificate."""

    target: str
    domain: str
    reason: Reason
    changes: Changes = ()  #: Settings that the target changed on the way without being asked.
    kind: Kind = Kind.AUTO
    action: Action = Action.VERIFY
    when: When = None
    fingerprint: str | None = None


class Rollback(Struct, frozen=True):
    """Withdraw a certificate from a domain for good; the domain gets the previous certificate."""

    target: str
    domain: str
    reason: Reason
    fingerprint: str  #: The certificate to withdraw.
    previous_until: datetime  #: When the previous certificate expires.
    kind: Kind = Kind.AUTO
    action: Action = Action.ROLLBACK
    when: When = None


class Retire(Struct, frozen=True):
    """Remove a copy at a target."""

    target: str
    remote_id: str
    label: str
    reason: Reason
    not_after: datetime | None = None
    left: timedelta | None = None  #: The time until `not_after`.
    unmanaged: bool = False  #: An unused copy of unknown origin, instead of a superseded copy.
    again: bool = False  #: Whether the target refused the removal before.
    action: Action = Action.RETIRE
    when: When = None


class Clean(Struct, frozen=True):
    """Remove challenge records that an earlier run left in DNS."""

    reason: Reason
    action: Action = Action.CLEAN


Step = Issue | Deploy | Verify | Rollback | Retire | Clean


class Rollout(Struct, frozen=True):
    """The steps bringing the certificate to one domain."""

    target: str
    domain: str
    steps: tuple[Deploy | Verify | Rollback, ...]
    unread: bool = False  #: Whether the target cannot be read now.

    @property
    def when(self) -> When:
        """When the first step is carried out."""
        return self.steps[0].when if self.steps else None

    @property
    def is_seen(self) -> bool:
        """Whether the certificate was seen served, so the sighting only has to be stored."""
        return self.when is None and all(isinstance(step, Verify) for step in self.steps)

    @property
    def deploy(self) -> Deploy | None:
        """The rollout's deployment, if needed."""
        return next((step for step in self.steps if isinstance(step, Deploy)), None)


class Weight(StrEnum):
    """How serious a finding is, from a blocked domain to a domain skipped as switched off."""

    BLOCKED = "blocked"
    REFUSED = "refused"
    UNREAD = "unread"
    UNMATCHED = "in_vain"
    SKIPPED = "skipped"

    @property
    def severity(self) -> Severity:
        """The weight on the scale of all problems."""
        if self is Weight.SKIPPED:
            return Severity.NOTICE
        return Severity.ERROR if self in {Weight.BLOCKED, Weight.REFUSED} else Severity.WARNING


class PlanFinding(Struct, frozen=True):
    """A problem that the plan reports and leaves, such as a frozen domain or a refused step."""

    weight: Weight
    problem: Problem
    target: str | None = None  #: `None` for a finding about the whole certificate.
    domain: str | None = None  #: `None` for a finding about the whole deployment.
    error: CertferryError | None = None
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
    """A domain changed by another tool and left as found."""

    target: str
    domain: str
    policy: DriftPolicy  #: The setting `drift`, by which the domain is left.
    changes: Changes


class RolledBack(Struct, frozen=True):
    """A domain serving the previous certificate on purpose."""

    target: str
    domain: str
    words: Text


class Plan(Struct, frozen=True):
    """The steps that bring one lineage from the observed to the declared state."""

    lineage: str
    names: tuple[str, ...]
    issue: Issue | None = None
    rollouts: tuple[Rollout, ...] = ()
    retirements: tuple[Retire, ...] = ()  #: Each waits for the rollouts at the same target.
    unchanged: tuple[tuple[str, str], ...] = ()  #: (target, domain) of domains as declared.
    findings: tuple[PlanFinding, ...] = ()  #: Problems that the plan cannot solve.
    #: Targets where other lineages serve every covered domain, with the lineages.
    owned_elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()
    clean: Clean | None = None
    drifts: tuple[Drifted, ...] = ()
    rolled_back: tuple[RolledBack, ...] = ()
    retire_later: tuple[tuple[str, int], ...] = ()  #: Removals left to later runs, by target.

    @property
    def issue_now(self) -> Issue | None:
        """The order or adoption to carry out now."""
        return self.issue if self.issue is not None and self.issue.when is None else None

    @property
    def issue_later(self) -> Issue | None:
        """A needed order that waits for a moment."""
        is_held = self.issue is not None and isinstance(self.issue.when, HeldUntil)
        return self.issue if is_held else None

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step, in the order of execution."""
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
        """The steps that change something: all steps except rollouts that only have a sighting to
        store, and removals that the target refused before (`Retire.again`).
        """
        seen = {rollout.steps[0] for rollout in self.rollouts if rollout.is_seen}
        again = {step for step in self.retirements if step.again}
        return tuple(step for step in self.steps if step not in seen | again)

    @property
    def timed_out(self) -> tuple[Rollout, ...]:
        """The rollouts that waited too long and end in this run."""
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
        """Whether the world is as declared."""
        bad = self.having(Weight.BLOCKED, Weight.REFUSED)
        return self.is_empty and not bad and self.issue_later is None


Doubt = tuple[str, str, str]
"""A target, a domain or `""`, and the doubtful value there."""


def doubts_in(plan: Plan, observed: Observation) -> frozenset[Doubt]:
    """Return the findings that another run may explain: new drift, timed-out waits, unknown
    copies. A plan with doubts is made again under the lease, from a new observation.
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
