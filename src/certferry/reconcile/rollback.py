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
from certferry.reconcile.apply import withdraw
from certferry.reconcile.observe import as_known, observe
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import Ports, StepContext
from certferry.reconcile.work_queue import WaitLimit
from certferry.text import Text

BY_HAND = Reason(ReasonCode.ROLLED_BACK, Text("asked for"))


def withdraw_by_hand(ports: Ports, desired: DesiredCertificate) -> DesiredCertificate:
    """Withdraw the certificate in force from every domain that has a previous one to go back to,
    and return the certificate for `go_back`. Raises `PlanRefused` where there is none to go back
    to, or where it could not be bound, and `StateError` for a lost key; then nothing was changed.
    """
    ports.state.must_unseal()
    desired = as_known(desired, ports.source, ports.state, read=False)
    with ports.lease(desired.lineage) as lease:
        context = StepContext(desired, observe(desired, ports), ports, lease)
        steps = _steps_back(context)
        _must_be_possible(steps, context)
        for step in steps:
            context.renew_lease()
            withdraw(step, context, by_hand=True)
    return desired


def go_back(ports: Ports, desired: DesiredCertificate, wait_limit: WaitLimit) -> SyncReport:
    """Bind the previous certificate wherever the one in force was withdrawn."""
    report = Reconciler(ports).run([desired], wait_limit, Issuing.NEVER)
    for lineage in report.lineages:
        give_up_where_refused(lineage, ports)
    return report


def give_up_where_refused(report: LineageReport, ports: Ports) -> None:
    """Forget the withdrawals of a rollback by hand that a target refused: the command changes
    nothing there, and a later run is not to go back by itself.
    """
    refused = {
        (step.target, step.domain)
        for step in report.outcomes
        if step.action is Action.DEPLOY and _is_refusal(step.error)
    }
    for withdrawal in ports.state.remembered(report.lineage).withdrawals:
        if (withdrawal.target, withdrawal.domain) not in refused:
            continue
        if withdrawal.by_hand and withdrawal.fingerprint == report.fingerprint:
            ports.state.drop_withdrawal(withdrawal)
            facts = {"target": withdrawal.target, "domain": withdrawal.domain}
            ports.progress(Happened(report.lineage, "rollback refused", facts))


def _is_refusal(error: Reported | None) -> bool:
    """Return whether the target does not take the certificate back. That the copy of it is gone
    says nothing of that: it can be uploaded again.
    """
    return isinstance(error, TargetAccessDenied | TargetRejected) and not isinstance(
        error, CopyGone
    )


def _steps_back(context: StepContext) -> list[Rollback]:
    """List what is to be withdrawn. Raises `PlanRefused` where there is nothing to go back to."""
    observed, now = context.observed, context.now
    current = observed.current
    if current is None:
        raise _nothing_to_go_back_to(context.lineage)
    fingerprint = current.certificate.fingerprint
    steps, kept = [], 0
    for deployment, target in zip(context.desired.deployments, observed.targets, strict=True):
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
        raise _nothing_to_go_back_to(context.lineage)
    return steps


def _nothing_to_go_back_to(lineage: str) -> PlanRefused:
    return PlanRefused(
        Text("{lineage} has no previous certificate that is still valid", lineage=lineage),
        hint=Text(
            "nothing was changed; `certferry sync --renew {lineage}` issues a new one",
            lineage=lineage,
        ),
    )


def _must_be_possible(steps: Sequence[Rollback], context: StepContext) -> None:
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
        for target in context.observed.targets
    )
    observed = replace(context.observed, targets=targets)
    times = Times.at(context.now)
    plan = without_refused(
        make_plan(context.desired, observed, times, Issuing.NEVER),
        context.desired,
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
