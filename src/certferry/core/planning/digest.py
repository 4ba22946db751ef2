"""The digest of a plan, by which an operator binds a run to the plan that `certferry plan` printed.

The digest covers each step with the place, the certificate and (except for verifications) the code
of the reason. Moments are left out. Steps that timed out, were already tried in this run, or wait
until a moment (`HeldUntil`) are left out as well.

A run with a digest fails unless the run's plans have the digest (`must_be_confirmed`). The run then
makes only the changes of these plans (`only_confirmed`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator

from certferry.core.planning import plan as plans
from certferry.core.reasons import ReasonCode
from certferry.errors import PlanChanged, Problem
from certferry.text import Text
from certferry.values import replace

LENGTH = 32
"""The number of characters of a digest. Half of SHA-256 is enough to rule out equal digests by
chance.
"""


def is_digest(word: str) -> bool:
    """Return whether a word has the form of a digest."""
    return re.fullmatch(f"[0-9a-f]{{{LENGTH}}}", word) is not None


def digest_of_plans(planned: Iterable[plans.Plan]) -> str:
    """Return the digest of several plans in any order. Plans without a step are left out, so other
    certificates in the file do not change the digest.
    """
    rows = sorted([plan.lineage, steps] for plan in planned if (steps := list(_steps(plan))))
    encoded = json.dumps(rows, separators=(",", ":"))
    return hashlib.sha256(encoded.encode()).hexdigest()[:LENGTH]


_LOOK_AGAIN = Text("to see the present plan: certferry plan")


def must_be_confirmed(planned: Iterable[plans.Plan], digest: str) -> None:
    """Raise `PlanChanged` if these plans have another digest.

    A run compares all plans at the beginning, and the first plan of each lineage once more under
    the lineage's lease.
    """
    if digest_of_plans(planned) != digest:
        raise PlanChanged(
            Text("the plan differs from the confirmed plan: something has changed since"),
            hint=_LOOK_AGAIN,
        )


def only_confirmed(plan: plans.Plan, confirmed: plans.Plan) -> plans.Plan:
    """Return a later plan of the run, reduced to the deployments, rollbacks and removals of the
    `confirmed` plan. The caller leaves out an order that the confirmed plan lacks.

    The run observes again after each step, and the world may have changed meanwhile. A deployment
    missing in the confirmed plan is refused and reported; a removal is left to a later run. A
    certificate refused by edges is withdrawn only at domains of a confirmed deployment.
    """
    shown = {_place(step): step for step in confirmed.steps if isinstance(step, plans.Deploy)}
    refused = [rollout for rollout in plan.rollouts if _is_news(rollout.steps[0], shown)]
    obstructed = {rollout.target for rollout in refused}
    removals = {
        (step.target, step.remote_id)
        for step in confirmed.retirements
        if step.target not in obstructed
    }
    kept = tuple(step for step in plan.retirements if (step.target, step.remote_id) in removals)
    cleans = confirmed.clean is not None or confirmed.issue_now is not None
    return replace(
        plan,
        rollouts=tuple(rollout for rollout in plan.rollouts if rollout not in refused),
        findings=(*plan.findings, *map(_not_confirmed, refused)),
        retirements=kept,
        clean=plan.clean if cleans else None,
    )


def _place(step: plans.Deploy | plans.Rollback) -> tuple[str, str, str]:
    return step.target, step.domain, step.kind.value


def _is_news(
    step: plans.Deploy | plans.Verify | plans.Rollback,
    shown: dict[tuple[str, str, str], plans.Deploy],
) -> bool:
    """Return whether the step makes a change that the confirmed deployments (`shown`) lack. A
    confirmed deployment also confirms the domain's rollback, and the return to the previous
    certificate.
    """
    if isinstance(step, plans.Verify):
        return False
    deploy = shown.get(_place(step))
    if deploy is None:
        return True
    if isinstance(step, plans.Rollback) or step.reason.code is ReasonCode.ROLLED_BACK:
        return False
    is_another = deploy.fingerprint not in {None, step.fingerprint}
    return is_another or (step.repair and not deploy.repair)


def _not_confirmed(rollout: plans.Rollout) -> plans.PlanFinding:
    message = Text("not in the confirmed plan: {reason}", reason=rollout.steps[0].reason.message)
    problem = Problem(PlanChanged.code, message, _LOOK_AGAIN)
    place = rollout.target, rollout.domain
    return plans.PlanFinding(plans.Weight.REFUSED, problem, *place, step=rollout.deploy)


def _steps(plan: plans.Plan) -> Iterator[list[object]]:
    for step in plan.steps:
        if isinstance(step, plans.Verify):
            yield [step.action.value, step.target, step.domain, step.kind.value, step.fingerprint]
            continue
        when = None if isinstance(step, plans.Clean) else step.when
        if isinstance(when, plans.TimedOut | plans.TriedInThisRun | plans.HeldUntil):
            continue
        yield [step.action.value, step.reason.code.value, *_subject(step)]


def _subject(
    step: plans.Issue | plans.Deploy | plans.Rollback | plans.Retire | plans.Clean,
) -> Iterator[object]:
    """Yield the parts of a step that the digest covers. Order: the names, the key type and the CAs.
    Deployment: the place, the certificate, whether the step is a repair, and the changes. Rollback:
    the place and the certificate. Removal: the target, the remote id, and whether the certificate
    is unmanaged. `Clean`: nothing.
    """
    match step:
        case plans.Issue():
            yield from (step.names, step.key_type.value)
            yield from (authority.directory for authority in step.authorities)
        case plans.Deploy():
            yield from (step.target, step.domain, step.kind.value, step.fingerprint, step.repair)
            yield from ([c.setting, c.before, c.after, c.remote_id] for c in step.changes)
        case plans.Rollback():
            yield from (step.target, step.domain, step.kind.value, step.fingerprint)
        case plans.Retire():
            yield from (step.target, step.remote_id, step.unmanaged)
