"""How often a domain is set right after another tool changed it, and when two tools fight over
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.drift import in_one_line
from certferry.core.observed import Observation
from certferry.core.plan import Refusal
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.rollout_record import RolloutRecord
from certferry.core.steps import Deploy
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
