"""How often a domain is set right after another tool changed it, and when two tools fight over
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.observed.observation import Observation
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.drift import in_one_line
from certferry.core.planning.plan import Plan, Refusal
from certferry.core.planning.steps import Blocked, Deploy, Retire
from certferry.core.reasons import Reason, ReasonCode
from certferry.text import Text

PER_DAY = 2
"""Repairs of one domain within a day; what is changed a third time is changed by another tool."""


DAY = timedelta(days=1)


def recent(repairs: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the repairs of the last day, newest first. One in the future was written by a clock
    that was ahead.
    """
    return tuple(moment for moment in repairs if now - DAY < moment <= now)


def next_repair(repairs: Sequence[datetime], now: datetime) -> datetime | None:
    """Return the moment before which a domain is not repaired again, `None` when it may be now."""
    made = recent(repairs, now)
    return None if len(made) < PER_DAY else made[PER_DAY - 1] + DAY


def as_repair(
    record: RolloutRecord, step: Deploy, now: datetime, *, is_made: bool
) -> RolloutRecord:
    """Return the record of a rollout that undoes what another tool changed, with what that is. A
    repair is counted before it is made: killed in between, it may have been made.
    """
    if is_made:
        record = replace(record, repairs=(now, *recent(record.repairs, now)))
    if is_made or record.accepted_at is None:
        record = replace(record, drift=in_one_line(step.changes))
    return record


def refuse_fought_over(step: Deploy, observed: Observation, now: datetime) -> Refusal | None:
    """Refuse a repair where enough were made within a day."""
    _, domain = observed.locate(step.target, step.domain)
    repairs = () if domain.last is None else domain.last.repairs
    after = next_repair(repairs, now)
    if after is None:
        return None
    sentence = Text(
        "{domain} was set right at {moments} and is changed again: another tool sets it",
        domain=step.domain,
        moments=list(recent(repairs, now)),
    )
    hint = Text(
        'stop the other tool, or write drift = "warn" into the deployment; certferry sets it right'
        " again after {moment}",
        moment=after,
    )
    return Refusal(step, Reason(ReasonCode.FOUGHT_OVER, sentence), hint)


Doubt = tuple[str, str, str]
"""A target, a domain or `""`, and what is said of it."""


def doubts_in(plan: Plan, observed: Observation) -> frozenset[Doubt]:
    """Give what another tool seems to have changed, unless an earlier run has told it, what was
    waited for in vain, and copies to be removed that the state does not know, or knows no more.
    """
    return frozenset((*_changed(plan, observed), *_in_vain(plan), *_unknown(plan, observed)))


def _changed(plan: Plan, observed: Observation) -> Iterator[Doubt]:
    deploys = (rollout.deploy for rollout in plan.rollouts)
    refused = (refusal.step for refusal in plan.refusals)
    repairs = (step for step in (*deploys, *refused) if step is not None and step.repair)
    found = [(step.target, step.domain, step.changes) for step in repairs]
    found += ((drift.target, drift.domain, drift.changes) for drift in plan.drifts)
    for target, domain, changes in found:
        last, said = observed.locate(target, domain)[1].last, in_one_line(changes)
        if last is None or last.drift != said:
            yield target, domain, said


def _in_vain(plan: Plan) -> Iterator[Doubt]:
    for rollout in plan.rollouts:
        due = rollout.due
        if not rollout.unread and isinstance(due, Blocked) and due.error is not None:
            yield rollout.target, rollout.domain, rollout.steps[0].fingerprint or ""


def _unknown(plan: Plan, observed: Observation) -> Iterator[Doubt]:
    known = {(upload.target, upload.remote_id) for upload in observed.remembered.uploads}
    removed = (step for step in plan.ready if isinstance(step, Retire) and not step.unmanaged)
    for step in removed:
        if (step.target, step.remote_id) not in known:
            yield step.target, "", step.remote_id
