"""What must change for one lineage, as a value: at most one issue, then per served domain a
rollout, then what is retired once every domain has been seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from certferry.core.planning.drift import Drifted
from certferry.core.planning.rollbacks import RolledBack
from certferry.core.planning.steps import (
    Blocked,
    Clean,
    Deploy,
    Due,
    Issue,
    Retire,
    Rollback,
    Step,
    Verify,
)
from certferry.core.reasons import Reason
from certferry.errors import CertferryError
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Rollout:
    """The way of the certificate to one domain. A failure stops this rollout only. `unread`: its
    target cannot be read now, and what was begun there is looked for again.
    """

    target: str
    domain: str
    steps: tuple[Deploy | Verify | Rollback, ...]
    unread: bool = False

    @property
    def due(self) -> Due:
        """When its first step is due."""
        return self.steps[0].due if self.steps else None

    @property
    def is_seen(self) -> bool:
        """Whether the certificate was seen served, which is only to be written down."""
        return self.due is None and all(isinstance(step, Verify) for step in self.steps)

    @property
    def deploy(self) -> Deploy | None:
        """Its deployment, where one is needed."""
        return next((step for step in self.steps if isinstance(step, Deploy)), None)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something found that keeps a wish from coming true: a target that cannot be read, a domain
    that is frozen or unknown. `domain=None` concerns the whole deployment, `target=None` the
    certificate itself, wherever it is to be served.
    """

    target: str | None
    domain: str | None
    error: CertferryError


@dataclass(frozen=True, slots=True)
class Refusal:
    """A deployment that safety refuses, why, and what to do instead."""

    step: Deploy
    reason: Reason
    hint: Text


@dataclass(frozen=True, slots=True)
class Plan:
    """What must change for one lineage.

    `unchanged` holds (target, domain) of what is as declared; `obstacles` and `refusals` what is
    not and cannot be made so. Retirements of a target wait for all its rollouts; `retire_later` is
    how many more later runs would remove at each. `owned_elsewhere` holds the targets at which other lineages
    serve everything that this one covers, and those lineages. `notices` tell of what could not be
    read and stands in nothing's way, `remarks` of what stands in the file in vain, `left_out` of
    domains that are switched off at their target and that the file does not name. `issue_not_now`
    is one that would be needed and was tried since the run began, or is left alone for a while.
    `drifts` are left as they were found, and where one was `rolled_back` that is said.
    """

    lineage: str
    names: tuple[str, ...]
    issue: Issue | None = None
    rollouts: tuple[Rollout, ...] = ()
    retirements: tuple[Retire, ...] = ()
    unchanged: tuple[tuple[str, str], ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    owned_elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notices: tuple[Obstacle, ...] = ()
    clean: Clean | None = None
    issue_not_now: Issue | None = None
    drifts: tuple[Drifted, ...] = ()
    rolled_back: tuple[RolledBack, ...] = ()
    remarks: tuple[Obstacle, ...] = ()
    left_out: tuple[Obstacle, ...] = ()
    retire_later: tuple[tuple[str, int], ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step, in the order it is carried out."""
        rolled_out = (step for rollout in self.rollouts for step in rollout.steps)
        found = (self.issue, *rolled_out, *self.retirements, self.clean)
        return tuple(step for step in found if step is not None)

    @property
    def ready(self) -> tuple[Step, ...]:
        """The steps to carry out now, in their order. An issue comes alone, since all that follows
        depends on what it brings; a retirement waits until its successor was seen wherever its
        target is to serve it.
        """
        if self.issue is not None:
            return (self.issue,)
        unseen = {rollout.target for rollout in self.rollouts if not rollout.is_seen}
        found = (
            *(rollout.steps[0] for rollout in self.rollouts if rollout.due is None),
            *(r for r in self.retirements if r.due is None and r.target not in unseen),
            self.clean,
        )
        return tuple(step for step in found if step is not None)

    @property
    def pending(self) -> tuple[Step, ...]:
        """The steps that change something: not those that are only tried again, and not what is
        only written down.
        """
        seen = {rollout.steps[0] for rollout in self.rollouts if rollout.is_seen}
        again = {step for step in self.retirements if step.again}
        return tuple(step for step in self.steps if step not in seen | again)

    @property
    def in_vain(self) -> tuple[Rollout, ...]:
        """The rollouts that a run would not go on with: what they wait for takes too long."""
        return tuple(
            one
            for one in self.rollouts
            if isinstance(one.due, Blocked) and one.due.error is not None and one.due.until is None
        )

    @property
    def rate_limit_hold(self) -> Issue | None:
        """An order that is needed, and not made before a moment."""
        step = self.issue_not_now
        return step if step and isinstance(step.due, Blocked) and step.due.until else None

    @property
    def is_empty(self) -> bool:
        """Whether no change is pending; obstacles, refusals and notices may still stand."""
        return not self.pending

    @property
    def is_settled(self) -> bool:
        """Whether the world is as declared."""
        return self.is_empty and not (self.obstacles or self.refusals or self.rate_limit_hold)
