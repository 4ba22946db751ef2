"""Move every rollout of a lineage on: deploy, wait, verify, and retire what has had its time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from certferry.core.lineage import Version
from certferry.core.moves import Accepted, Move, next_move
from certferry.core.observed import Observation
from certferry.core.ownership import served_by
from certferry.core.plan import Action, Change, Deploy, Obstacle, Plan, Refusal, Rollout
from certferry.core.report import Outcome, Place, StepOutcome
from certferry.core.settings import changes_unasked, in_sentences
from certferry.core.waiting import Waiting, wait_for
from certferry.errors import CertferryError
from certferry.ports.state import Lease, RolloutRecord
from certferry.reconcile import history
from certferry.reconcile.apply import Applier, failed
from certferry.reconcile.doors import Doors
from certferry.reconcile.outcomes import Outcomes
from certferry.reconcile.retirements import Retirements
from certferry.text import Text

_SEEN = Text("served by every address that answers")
_HELD = Text("delivered, and as it was delivered")


class Rollouts:
    """The rollouts of one lineage in one run."""

    def __init__(self, lineage: str, doors: Doors, applier: Applier, outcomes: Outcomes) -> None:
        self._lineage = lineage
        self._doors = doors
        self._applier = applier
        self._outcomes = outcomes
        self._retirements = Retirements(doors, applier, outcomes)
        self._accepted: dict[tuple[Place, str], Accepted] = {}
        self._undelivered: dict[Place, CertferryError] = {}
        self._first_seen: dict[Place, datetime] = {}

    def follow(self, plan: Plan, observed: Observation, *, lease: Lease | None) -> None:
        """Take each rollout as far as it goes now, and tell how everything stands.

        Without the lease nothing is written to any target.
        """
        self._tell_obstacles(plan, observed)
        for rollout in plan.rollouts:
            self._move_on(rollout, observed, lease=lease)
        self._settle(plan, observed)
        self._retirements.follow(plan, observed, lease=lease)

    def move(self, rollout: Rollout, observed: Observation) -> Move:
        """Choose what to do about a rollout now; changes nothing."""
        target, domain = observed.locate(rollout.target, rollout.domain)
        place = _place(rollout)
        if place in self._undelivered:  # once in a run: whatever it does may cost something
            return self._undelivered[place]
        fingerprint = _current_fingerprint(observed)
        return next_move(
            rollout,
            domain,
            target.served.get(rollout.domain, ()),
            fingerprint=fingerprint,
            accepted=self._accepted.get((place, fingerprint)),
            since=self._since(rollout, fingerprint),
            now=self._doors.now(),
            timeout=self._doors.verify_timeout,
        )

    def _since(self, rollout: Rollout, fingerprint: str) -> datetime:
        record = self._applier.rollout(rollout.target, rollout.domain, fingerprint)
        first_seen = self._seen_since(rollout)
        if record is None or record.verified_at is not None:
            return first_seen
        # A start in the future was written by a clock that was ahead.
        return record.started_at if record.started_at <= self._doors.now() else first_seen

    def _seen_since(self, rollout: Rollout) -> datetime:
        """Since when this run has known that the rollout is needed."""
        return self._first_seen.setdefault(_place(rollout), self._doors.now())

    def _move_on(self, rollout: Rollout, observed: Observation, *, lease: Lease | None) -> None:
        if observed.current is None:  # the issue failed, and there is nothing older
            return
        move = self.move(rollout, observed)
        if isinstance(move, Deploy):
            if lease is not None:
                self._deploy(rollout, move, observed, observed.current, lease)
            return
        if rollout.deploy is None:
            self._outcomes.finish(Action.DEPLOY, rollout.target, rollout.domain, Text("bound"))
            self._begin_looking(rollout, _current_fingerprint(observed))
        else:
            self._outcomes.forget((Action.VERIFY, rollout.target, rollout.domain))
        self._outcomes.note(_as_outcome(rollout, move))

    def _deploy(
        self,
        rollout: Rollout,
        step: Deploy,
        observed: Observation,
        version: Version,
        lease: Lease,
    ) -> None:
        _, domain = observed.locate(rollout.target, rollout.domain)
        self._outcomes.forget((Action.VERIFY, rollout.target, rollout.domain))
        if domain.kind.is_receiver:
            self._deliver(rollout, step, version, lease)
            return
        deployed = self._applier.deploy(step, observed, version, self._seen_since(rollout), lease)
        if deployed.accepted:
            place = (_place(rollout), version.certificate.fingerprint)
            self._accepted[place] = Accepted(domain.problem)
        self._outcomes.note(deployed.told)

    def _deliver(self, rollout: Rollout, step: Deploy, version: Version, lease: Lease) -> None:
        delivered = self._applier.deliver(step, version, lease)
        self._outcomes.note(delivered)
        if delivered.error is not None:
            self._undelivered[_place(rollout)] = delivered.error
            return
        self._mark_verified(step.target, step.domain, version.certificate.fingerprint)

    def _begin_looking(self, rollout: Rollout, fingerprint: str) -> None:
        """Write down since when a certificate that is bound is not served."""
        record = self._applier.rollout(rollout.target, rollout.domain, fingerprint)
        if record is not None and record.verified_at is None:
            return
        last = self._applier.last_rollout(rollout.target, rollout.domain)
        self._doors.state.save_rollout(
            RolloutRecord(
                lineage=self._lineage,
                target=rollout.target,
                domain=rollout.domain,
                fingerprint=fingerprint,
                started_at=self._doors.now(),
                sent=None if last is None else last.sent,
                settings_before=None if last is None else last.settings_before,
            )
        )

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


def _place(rollout: Rollout) -> Place:
    return (Action.DEPLOY, rollout.target, rollout.domain)


def _current_fingerprint(observed: Observation) -> str:
    return "" if observed.current is None else observed.current.certificate.fingerprint


def _as_outcome(rollout: Rollout, move: Waiting | CertferryError) -> StepOutcome:
    action = Action.VERIFY if rollout.deploy is None else Action.DEPLOY
    if isinstance(move, CertferryError):
        pending = StepOutcome(action, Outcome.FAILED, move.message, rollout.target, rollout.domain)
        return failed(pending, move)
    return StepOutcome(
        action, Outcome.WAITING, move.why, rollout.target, rollout.domain, waiting=move
    )


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
