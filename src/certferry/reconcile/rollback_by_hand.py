"""A rollback that an operator asks for: at every domain, if it is possible at all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from certferry.core.certificates.lineage import version_for
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import Happened
from certferry.core.planning.due import Times
from certferry.core.planning.plan import Weight
from certferry.core.planning.planner import Issuing, make_plan
from certferry.core.planning.report import LineageReport, SyncReport
from certferry.core.planning.safety import without_refused
from certferry.core.planning.steps import Action, Rollback
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import (
    CopyGone,
    PlanRefused,
    Reported,
    TargetAccessDenied,
    TargetRejected,
)
from certferry.reconcile.doors import Doors
from certferry.reconcile.observe import as_known, observe
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.rollback import withdraw
from certferry.reconcile.visit import Visit
from certferry.reconcile.visits import Patience
from certferry.text import Text

BY_HAND = Reason(ReasonCode.ROLLED_BACK, Text("asked for"))


_REFUSALS = (TargetAccessDenied, TargetRejected)


def withdraw_by_hand(engine: Reconciler, desired: DesiredCertificate) -> DesiredCertificate:
    """Withdraw the certificate in force wherever it is to be served, and return the wish for
    `go_back`. Raises `PlanRefused` where there is none to go back to, and `StateError` for a lost
    key; then nothing was changed.
    """
    doors = engine.doors
    doors.state.must_unseal()
    desired = as_known(desired, doors.source, doors.state, read=False)
    roll_back_by_hand(desired, doors)
    return desired


def go_back(engine: Reconciler, desired: DesiredCertificate, patience: Patience) -> SyncReport:
    """Bind the previous certificate wherever the one in force was withdrawn."""
    report = engine.run([desired], patience, Issuing.NEVER)
    for lineage in report.lineages:
        give_up_where_refused(lineage, engine.doors)
    return report


def roll_back_by_hand(desired: DesiredCertificate, doors: Doors) -> int:
    """Withdraw the certificate in force from every domain that has a previous one to go back to,
    and return how many these are. The next run binds that one. Raises `PlanRefused` where there is
    none, or where it could not be bound; then nothing was changed.
    """
    with doors.lease(desired.lineage) as lease:
        observed = observe(desired, doors)
        visit = Visit(desired, observed, doors, lease)
        steps = _steps_back(visit)
        _must_be_possible(steps, visit)
        for step in steps:
            visit.renew_lease()
            withdraw(step, visit, by_hand=True)
        return len(steps)


def give_up_where_refused(report: LineageReport, doors: Doors) -> None:
    """Forget the withdrawals of a rollback by hand that a target refused: the command changes
    nothing there, and a later run is not to go back by itself.
    """
    refused = {
        (step.target, step.domain)
        for step in report.outcomes
        if step.action is Action.DEPLOY and _is_refusal(step.error)
    }
    withdrawals = doors.state.remembered(report.lineage).withdrawals
    for withdrawal in withdrawals:
        if (withdrawal.target, withdrawal.domain) not in refused:
            continue
        if withdrawal.by_hand and withdrawal.fingerprint == report.fingerprint:
            doors.state.drop_withdrawal(withdrawal)
            facts = {"target": withdrawal.target, "domain": withdrawal.domain}
            doors.progress(Happened(report.lineage, "rollback refused", facts))


def _is_refusal(error: Reported | None) -> bool:
    """Tell whether the target does not take the certificate back. That the copy of it is gone says
    nothing of that: it can be uploaded again.
    """
    return isinstance(error, _REFUSALS) and not isinstance(error, CopyGone)


def _steps_back(visit: Visit) -> list[Rollback]:
    """List what is to be withdrawn. Raises `PlanRefused` where there is nothing to go back to."""
    observed, now = visit.observed, visit.now
    current = observed.current
    if current is None:
        raise _nothing_to_go_back_to(visit.lineage)
    fingerprint = current.certificate.fingerprint
    steps, kept = [], 0
    for deployment, target in zip(visit.desired.deployments, observed.targets, strict=True):
        if target.failure is not None:
            raise PlanRefused(target.failure.message, hint=target.failure.hint)
        for domain in target.domains:
            if fingerprint in domain.withdrawn:
                kept += 1
                continue
            previous = version_for(domain.withdrawn | {fingerprint}, observed.versions, now)
            if previous is not None:
                end = previous.certificate.not_after
                steps.append(
                    Rollback(
                        target=deployment.target,
                        domain=domain.domain,
                        reason=BY_HAND,
                        fingerprint=fingerprint,
                        previous_until=end,
                        kind=domain.kind,
                    )
                )
    if not steps and not kept:
        raise _nothing_to_go_back_to(visit.lineage)
    return steps


def _nothing_to_go_back_to(lineage: str) -> PlanRefused:
    return PlanRefused(
        Text("{lineage} has no previous certificate that is still valid", lineage=lineage),
        hint=Text(
            "nothing was changed; `certferry sync --renew {lineage}` issues a new one",
            lineage=lineage,
        ),
    )


def _must_be_possible(steps: Sequence[Rollback], visit: Visit) -> None:
    """Plan as if the steps were done. Raises `PlanRefused` for what would then be refused."""
    withdrawn = {(step.target, step.domain): step.fingerprint for step in steps}
    targets = tuple(
        replace(
            target,
            domains=tuple(
                replace(d, withdrawn=d.withdrawn | {withdrawn[target.label, d.domain]})
                if (target.label, d.domain) in withdrawn
                else d
                for d in target.domains
            ),
        )
        for target in visit.observed.targets
    )
    observed = replace(visit.observed, targets=targets)
    times = Times.at(visit.now)
    plan = without_refused(
        make_plan(visit.desired, observed, times, Issuing.NEVER),
        visit.desired,
        observed,
        times.now,
    )
    for refusal in plan.having(Weight.REFUSED):
        problem = refusal.problem
        raise PlanRefused(
            Text(
                "{domain} cannot go back: {why}",
                domain=refusal.domain,
                why=problem.message,
            ),
            hint=problem.hint,
        )
