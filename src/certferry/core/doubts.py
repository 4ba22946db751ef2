"""What a plan holds against a target, and what another run's work may explain: the look came too
early or too late. A run believes it only after a second look, under the lease.
"""

from __future__ import annotations

from collections.abc import Iterator

from certferry.core.drift import in_one_line
from certferry.core.observed import Observation
from certferry.core.plan import Plan
from certferry.core.steps import Blocked, Retire

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
