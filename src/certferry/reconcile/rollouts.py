"""Move every rollout of a lineage on: deploy, wait, verify, and retire what has had its time."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.lineage import Version
from certferry.core.observed import Observation
from certferry.core.ownership import served_by
from certferry.core.plan import (
    Action,
    Blocked,
    Change,
    Deploy,
    Obstacle,
    Plan,
    Refusal,
    Rollout,
    Verify,
)
from certferry.core.report import Outcome, StepOutcome
from certferry.core.settings import changes_unasked, in_sentences
from certferry.core.waiting import Waiting, wait_for
from certferry.errors import CertferryError
from certferry.ports.state import Lease
from certferry.reconcile import history
from certferry.reconcile.apply import Applier, failed
from certferry.reconcile.doors import Doors
from certferry.reconcile.outcomes import Outcomes
from certferry.reconcile.retirements import Retirements
from certferry.text import Text

_SEEN = Text("served by every address that answers")
_HELD = Text("delivered, and as it was delivered")


class Rollouts:
    """The rollouts of one lineage in one run. Remembers nothing but what was told."""

    def __init__(self, lineage: str, doors: Doors, applier: Applier, outcomes: Outcomes) -> None:
        self._lineage = lineage
        self._doors = doors
        self._applier = applier
        self._outcomes = outcomes
        self._retirements = Retirements(doors, applier, outcomes)

    def follow(self, plan: Plan, observed: Observation, *, lease: Lease | None) -> None:
        """Carry out every step that is due, and tell how the others stand.

        Without the lease nothing is written to any target.
        """
        self._tell_obstacles(plan, observed)
        for rollout in plan.rollouts:
            self._move_on(rollout, observed, lease=lease)
        self._settle(plan, observed)
        self._retirements.follow(plan, observed, lease=lease)

    def _move_on(self, rollout: Rollout, observed: Observation, *, lease: Lease | None) -> None:
        if observed.current is None:  # the issue failed, and there is nothing older
            return
        step = rollout.steps[0]
        if isinstance(step, Deploy):
            self._outcomes.forget((Action.VERIFY, rollout.target, rollout.domain))
        else:
            self._outcomes.finish(Action.DEPLOY, rollout.target, rollout.domain, Text("bound"))
        match step.due:
            case None:
                if isinstance(step, Deploy) and lease is not None:
                    self._deploy(step, observed, observed.current, lease)
            case Waiting() as waiting:
                self._begin(step, observed)
                self._outcomes.note(_waiting(step, waiting))
            case Blocked(error):
                if error is not None:  # else it was told when it was tried
                    self._outcomes.note(_blocked(step, error))

    def _begin(self, step: Deploy | Verify, observed: Observation) -> None:
        """Write down since when a certificate is needed at a domain."""
        self._applier.begin(step, _current_fingerprint(observed))

    def _deploy(self, step: Deploy, observed: Observation, version: Version, lease: Lease) -> None:
        _, domain = observed.locate(step.target, step.domain)
        if not domain.kind.is_receiver:
            self._outcomes.note(self._applier.deploy(step, observed, version, lease))
            return
        delivered = self._applier.deliver(step, version, lease)
        self._outcomes.note(delivered)
        if delivered.error is None:
            self._mark_verified(step.target, step.domain, version.certificate.fingerprint)

    def _settle(self, plan: Plan, observed: Observation) -> None:
        """Tell what is as declared, and write down when it was first seen so."""
        for target, domain in plan.unchanged:
            if observed.locate(target, domain)[1].kind.is_receiver:
                self._tell_held(target, domain)
                continue
            self._outcomes.finish(Action.DEPLOY, target, domain, Text("bound"))
            changes = self._unasked(target, domain, observed)
            is_news = self._mark_verified(target, domain, _current_fingerprint(observed), changes)
            if self._outcomes.finish(Action.VERIFY, target, domain, _SEEN):
                self._tell_unasked(target, domain, changes)
            elif self._outcomes.of((Action.VERIFY, target, domain)) is None:
                self._tell_seen(target, domain, is_news=is_news)
                self._tell_unasked(target, domain, changes)

    def _tell_seen(self, target: str, domain: str, *, is_news: bool) -> None:
        """Tell of a domain that was not waited for: done if this run, or one that was not waited
        for to its end, brought it there.
        """
        deployed = self._outcomes.of((Action.DEPLOY, target, domain)) is not None
        outcome = Outcome.DONE if deployed or is_news else Outcome.UNCHANGED
        self._outcomes.note(StepOutcome(Action.VERIFY, outcome, _SEEN, target, domain))

    def _unasked(self, target: str, domain: str, observed: Observation) -> tuple[Change, ...]:
        """Tell which settings changed without being asked to, when a certificate is first seen
        served.
        """
        record = self._applier.rollout(target, domain, _current_fingerprint(observed))
        if record is None or record.verified_at is not None or record.settings_before is None:
            return ()
        now = observed.locate(target, domain)[1].https
        return changes_unasked(record.settings_before, record.sent, now)

    def _tell_unasked(self, target: str, domain: str, changes: tuple[Change, ...]) -> None:
        told = self._outcomes.of((Action.VERIFY, target, domain))
        if told is None or not changes:
            return
        detail = Text(
            "{said}; the target changed other settings: {changes}",
            said=told.detail,
            changes=in_sentences(changes),
        )
        hint = Text(
            "set what it is to be in the deployment (`force_https`, `http2`, `tls_versions`), and"
            " the next run sets it back"
        )
        self._outcomes.note(replace(told, detail=detail, hint=hint))

    def _tell_held(self, target: str, domain: str) -> None:
        told = self._outcomes.of((Action.DEPLOY, target, domain))
        if told is None or told.outcome is not Outcome.DONE:
            outcome = StepOutcome(Action.DEPLOY, Outcome.UNCHANGED, _HELD, target, domain)
            self._outcomes.note(outcome)

    def _mark_verified(
        self, target: str, domain: str, fingerprint: str, changes: tuple[Change, ...] = ()
    ) -> bool:
        """Write down when a certificate was first seen served; tell whether that is now."""
        record = self._applier.rollout(target, domain, fingerprint)
        if record is None or record.verified_at is not None:
            return False
        self._doors.state.save_rollout(replace(record, verified_at=self._doors.now()))
        history.record(
            self._doors,
            self._lineage,
            "verified",
            target=target,
            domain=domain,
            fingerprint=fingerprint,
            **{change.what: f"{change.before} → {change.after}" for change in changes},
        )
        return True

    def _tell_obstacles(self, plan: Plan, observed: Observation) -> None:
        as_a_whole = {obstacle.target for obstacle in plan.obstacles if obstacle.domain is None}
        unreadable = {target.label for target in observed.targets if target.failure is not None}
        ceded = {target for target, _ in plan.ceded}
        for target in observed.targets:
            if target.label not in as_a_whole | ceded:
                self._outcomes.forget((Action.DEPLOY, target.label, None))
        if None not in as_a_whole:
            self._outcomes.forget((Action.LOOK, None, None))
        for place, lineages in plan.ceded:
            told = StepOutcome(Action.DEPLOY, Outcome.UNCHANGED, served_by(lineages), place)
            self._outcomes.note(told)
        self._tell_unread(plan, observed)
        for obstacle in plan.obstacles:
            if obstacle.domain is not None:
                self._outcomes.forget((Action.VERIFY, obstacle.target, obstacle.domain))
            elif obstacle.target in unreadable and self._tell_of_domains(obstacle):
                continue
            self._outcomes.note(_obstructed(obstacle))
        for refusal in plan.refusals:
            self._outcomes.note(_refused(refusal))

    def _tell_unread(self, plan: Plan, observed: Observation) -> None:
        for target in observed.targets:
            if not target.unread:
                self._outcomes.forget((Action.LOOK, target.label, None))
        for notice in plan.notices:
            self._outcomes.note(_unread(notice))

    def _tell_of_domains(self, obstacle: Obstacle) -> bool:
        """Tell of a target that cannot be read at those of its domains that the run has begun."""
        begun = self._outcomes.of_domains(obstacle.target)
        for step in begun:
            if step.waiting is not None:
                self._outcomes.note(self._still_waiting(step, step.waiting, obstacle.error))
        return bool(begun)

    def _still_waiting(
        self, step: StepOutcome, waiting: Waiting, error: CertferryError
    ) -> StepOutcome:
        """Look again later, while there is time: what is under way goes on without us."""
        now = self._doors.now()
        is_over = waiting.deadline is not None and now >= waiting.deadline
        if is_over or not error.retry.allowed:
            return failed(step, error)
        later = wait_for(error.message, waiting.since, now, waiting.deadline)
        return replace(step, detail=error.message, hint=error.hint, waiting=later)


def _current_fingerprint(observed: Observation) -> str:
    return "" if observed.current is None else observed.current.certificate.fingerprint


def _waiting(step: Deploy | Verify, waiting: Waiting) -> StepOutcome:
    return StepOutcome(
        step.action, Outcome.WAITING, waiting.why, step.target, step.domain, waiting=waiting
    )


def _blocked(step: Deploy | Verify, error: CertferryError) -> StepOutcome:
    pending = StepOutcome(step.action, Outcome.FAILED, error.message, step.target, step.domain)
    return failed(pending, error)


def _obstructed(obstacle: Obstacle) -> StepOutcome:
    action = Action.LOOK if obstacle.target is None else Action.DEPLOY
    said, place = obstacle.error.message, (obstacle.target, obstacle.domain)
    return failed(StepOutcome(action, Outcome.FAILED, said, *place), obstacle.error)


def _unread(notice: Obstacle) -> StepOutcome:
    told = StepOutcome(Action.LOOK, Outcome.SKIPPED, notice.error.message, notice.target)
    return replace(failed(told, notice.error), outcome=Outcome.SKIPPED)


def _refused(refusal: Refusal) -> StepOutcome:
    step = refusal.step
    return StepOutcome(
        Action.DEPLOY,
        Outcome.REFUSED,
        refusal.reason.message,
        step.target,
        step.domain,
        hint=refusal.hint,
    )
