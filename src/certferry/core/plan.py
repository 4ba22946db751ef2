"""What must change for one lineage, as a value: at most one issue, then per served domain a
rollout, then what is retired once every domain has been seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificate import KeyType
from certferry.core.change import Change
from certferry.core.desired import HttpsWish, Kind
from certferry.core.drift import Drifted
from certferry.core.issuance import Authority
from certferry.core.reasons import Reason
from certferry.core.rollbacks import RolledBack
from certferry.core.waiting import Waiting
from certferry.errors import CertferryError
from certferry.text import Text


class Action(StrEnum):
    """The kinds of step. `LOOK` is never planned: it is a whole visit to a lineage, or the reading
    of a target.
    """

    ISSUE = "issue"
    ADOPT = "adopt"
    DEPLOY = "deploy"
    VERIFY = "verify"
    ROLLBACK = "rollback"
    RETIRE = "retire"
    CLEAN = "clean"
    LOOK = "look"


@dataclass(frozen=True, slots=True)
class Blocked:
    """Not to be carried out in this run: it was waited for in vain, for an `error`; or it failed
    when it was tried at `tried_at`, by this run or by another one since this one began; or it
    failed before, or the CA would refuse it (`error`), and is left alone `until` then. None of
    these: what it needs is not there.
    """

    error: CertferryError | None = None
    tried_at: datetime | None = None
    until: datetime | None = None


Due = Waiting | Blocked | None
"""When a step is to be carried out: `None` now, after the steps before it; after a moment; or not
in this run.
"""


@dataclass(frozen=True, slots=True)
class Issue:
    """Order a certificate, or adopt one that was made elsewhere (`action`). `authorities` are the
    CAs that may be asked, each when those before it have failed; `standing` names, without `*.`,
    are proven by a record that stays (`core.dns_persist`).
    """

    names: tuple[str, ...]
    key_type: KeyType
    reason: Reason
    action: Action = Action.ISSUE
    due: Due = None
    authorities: tuple[Authority, ...] = ()
    standing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deploy:
    """Bind a certificate to a domain, uploading it first where needed. `fingerprint` is that of the
    version, `None` before it is issued; a `repair` undoes what another tool changed. Before
    `upload_by` the certificate has to be at the target, where it is not there yet. `left` are
    settings that stay as another tool set them, and are not in `https`.
    """

    target: str
    domain: str
    https: HttpsWish
    reason: Reason
    changes: tuple[Change, ...] = ()
    kind: Kind = Kind.AUTO
    action: Action = Action.DEPLOY
    due: Due = None
    fingerprint: str | None = None
    repair: bool = False
    upload_by: datetime | None = None
    left: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Verify:
    """Look until every address of the domain presents the certificate, then write that down: it is
    due once that was seen. `changes` are other settings that the target changed along with the
    certificate without being asked to.
    """

    target: str
    domain: str
    reason: Reason
    changes: tuple[Change, ...] = ()
    kind: Kind = Kind.AUTO
    action: Action = Action.VERIFY
    due: Due = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """Withdraw the certificate with this `fingerprint` from a domain for good, so that the previous
    one, valid until `previous_until`, is bound again.
    """

    target: str
    domain: str
    reason: Reason
    fingerprint: str
    previous_until: datetime
    kind: Kind = Kind.AUTO
    action: Action = Action.ROLLBACK
    due: Due = None


@dataclass(frozen=True, slots=True)
class Retire:
    """Remove a remote certificate of ours that its successor has replaced, or `unmanaged` that
    nothing uses. `not_after` and `left` tell until when it is valid, where the target does.

    `again` marks one that the target has refused to let go of before: it is tried, and most likely
    nothing changes.
    """

    target: str
    remote_id: str
    label: str
    reason: Reason
    not_after: datetime | None = None
    left: timedelta | None = None
    unmanaged: bool = False
    again: bool = False
    action: Action = Action.RETIRE
    due: Due = None


@dataclass(frozen=True, slots=True)
class Clean:
    """Remove challenge records that an earlier run left in DNS."""

    reason: Reason
    action: Action = Action.CLEAN


Step = Issue | Deploy | Verify | Rollback | Retire | Clean


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
    how many more later runs would remove at each. `ceded` holds the targets at which other lineages
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
    ceded: tuple[tuple[str, tuple[str, ...]], ...] = ()
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
    def held_back(self) -> Issue | None:
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
        return self.is_empty and not (self.obstacles or self.refusals or self.held_back)
