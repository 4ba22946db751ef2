"""The digest of a plan: what an operator confirms when they say "carry out what I was shown".

It covers what a run would change outside, and why: each order, deployment, rollback and removal,
with its place, its certificate and the code of its reason. Moments are left out, and so is a
`Verify`, which only stores what was observed: an edge that serves the certificate by now makes no
other plan. A step that is not for this run, since it failed before or waits for a CA, is left out
until it is for one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator

from certferry.core.planning import plan as plans
from certferry.errors import PlanChanged
from certferry.text import Text

LENGTH = 32
"""Characters of a digest: half of SHA-256, which no two plans share by chance."""


def is_digest(word: str) -> bool:
    """Return whether a word may be the digest of a plan."""
    return re.fullmatch(f"[0-9a-f]{{{LENGTH}}}", word) is not None


def digest_of_plans(planned: Iterable[plans.Plan]) -> str:
    """Return the digest of several plans, whatever their order; one that changes nothing does not
    count, so that the digest does not depend on what else is declared.
    """
    written = sorted([plan.lineage, done] for plan in planned if (done := list(_steps(plan))))
    encoded = json.dumps(written, separators=(",", ":"))
    return hashlib.sha256(encoded.encode()).hexdigest()[:LENGTH]


def must_be_confirmed(planned: Iterable[plans.Plan], digest: str) -> None:
    """Raise `PlanChanged` where these plans are not those of this digest.

    A run asks it of all plans before it begins, and under each lineage's lease of the first that it
    makes there. What it plans after that follows from the first and from the world as it is then:
    the certificate that was issued, what a service answered, what another tool changed meanwhile.
    """
    if digest_of_plans(planned) != digest:
        raise PlanChanged(
            Text("the plan is not the one that was shown: something has changed since"),
            hint=Text("look at the plan as it is now: certferry plan"),
        )


def _steps(plan: plans.Plan) -> Iterator[list[object]]:
    for step in plan.steps:
        if isinstance(step, plans.Verify):
            continue
        due = None if isinstance(step, plans.Clean) else step.due
        if isinstance(due, plans.TimedOut | plans.TriedInThisRun | plans.HeldUntil):
            continue
        yield [step.action.value, step.reason.code.value, *_subject(step)]


def _subject(
    step: plans.Issue | plans.Deploy | plans.Rollback | plans.Retire | plans.Clean,
) -> Iterator[object]:
    """Return what a step is about: names, place, certificate, settings."""
    match step:
        case plans.Issue():
            yield from (step.names, step.key_type.value)
            yield from (authority.directory for authority in step.authorities)
        case plans.Deploy():
            yield from (step.target, step.domain, step.kind.value, step.fingerprint, step.repair)
            changes = ([one.what, one.before, one.after, one.remote_id] for one in step.changes)
            yield from changes
        case plans.Rollback():
            yield from (step.target, step.domain, step.kind.value, step.fingerprint)
        case plans.Retire():
            yield from (step.target, step.remote_id, step.unmanaged)
