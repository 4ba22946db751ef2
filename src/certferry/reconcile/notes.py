"""Write down what a look has found and a later one needs: since when a domain is waited for, since
when its edges refuse the certificate, what another tool changed.
"""

from __future__ import annotations

from dataclasses import replace

from certferry.core.drift import in_one_line
from certferry.core.observed import ObservedDomain
from certferry.core.plan import Drifted, Plan, Verify
from certferry.core.refusals import with_refusal
from certferry.core.waiting import Waiting
from certferry.reconcile.visit import Visit


def write_down(plan: Plan, visit: Visit) -> None:
    """Write down what the plan waits for, and what it leaves as it was found."""
    for rollout in plan.rollouts:
        first = rollout.steps[0]
        if isinstance(rollout.due, Waiting) and isinstance(first, Verify) and not rollout.unread:
            _note_refusal(first, visit)
        elif isinstance(rollout.due, Waiting) and rollout.deploy is not None:
            visit.begin(rollout.deploy)
    for drifted in plan.drifts:
        _note_drift(drifted, visit)
    for target, domain in plan.unchanged:
        _note_end_of_drift(visit.observed.locate(target, domain)[1], visit)


def _note_refusal(step: Verify, visit: Visit) -> None:
    target, domain = visit.observed.locate(step.target, step.domain)
    if domain.seen_at(step.fingerprint) is not None:
        return  # stays known as seen: what another tool binds next is drift
    record = visit.begin(step)
    if not record.worked_before:  # then there is nothing that a rollback would mend
        return
    after = with_refusal(record, domain, target.served.get(step.domain, ()), visit.now)
    if after != record:
        visit.doors.state.replace_rollout(record, after)


def _note_drift(drifted: Drifted, visit: Visit) -> None:
    """Tell the history once of each drift that is left as it is."""
    _, domain = visit.observed.locate(drifted.target, drifted.domain)
    found, last = in_one_line(drifted.changes), domain.last
    if last is None or last.drift == found:
        return
    if visit.doors.state.replace_rollout(last, replace(last, drift=found)):
        visit.tell("drift found", target=drifted.target, domain=drifted.domain, found=found)


def _note_end_of_drift(domain: ObservedDomain, visit: Visit) -> None:
    last = domain.last
    if last is None or last.drift is None:
        return
    if visit.doors.state.replace_rollout(last, replace(last, drift=None)):
        visit.tell("drift over", target=last.target, domain=last.domain)
