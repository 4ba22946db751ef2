"""A rehearsal: a run's orders, made at a staging directory. Nothing is deployed, or kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import StepEnded
from certferry.core.planning.plan import Plan
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.core.planning.steps import Action, Issue
from certferry.errors import CertferryError, LeaseHeld, LeaseLost
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.reconcile.dns_by_zone import provider_of
from certferry.reconcile.doors import Doors
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.status import SideBySide, plans_of
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What came of it, for each lineage that would order, and the plans of the run itself."""

    report: SyncReport
    plans: tuple[Plan, ...]


def rehearse(
    engine: Reconciler, certificates: Sequence[DesiredCertificate], issuer: Issuer, *, renew: bool
) -> Rehearsed:
    """Have this issuer issue, for tests, what `sync` would order; `renew` as there."""
    plans = plans_of(engine, certificates, renew=renew)
    orders = zip(certificates, map(_order_of, plans), strict=True)
    due = [(desired, step) for desired, step in orders if step is not None]
    doors = replace(engine.doors, issuer=issuer)
    reports = SideBySide(doors.progress, engine.stop).all(lambda one: _rehearsed(*one, doors), due)
    return Rehearsed(SyncReport(tuple(reports)), tuple(plans))


def _order_of(plan: Plan) -> Issue | None:
    """Return what a run would order for this plan, now or later."""
    step = plan.issue_now or plan.issue_later
    return step if step is not None and step.action is Action.ISSUE else None


def _rehearsed(desired: DesiredCertificate, step: Issue, doors: Doors) -> LineageReport:
    """Have a test certificate issued by the doors' issuer, and let it go. Raises `Interrupted`."""
    request = IssueRequest(
        lineage=desired.lineage,
        names=step.names,
        key_type=step.key_type,
        profiles=desired.issuance.profiles,
        dns=",".join(desired.dns_accounts),
    )
    outcome = _tried(request, desired, doors)
    doors.progress(StepEnded(desired.lineage, outcome))
    return LineageReport(desired.lineage, None, (outcome,))


def _tried(request: IssueRequest, desired: DesiredCertificate, doors: Doors) -> StepOutcome:
    told = StepOutcome(Action.ISSUE, Outcome.DONE, Text("rehearsed"))
    try:
        held = doors.issuer.rate_limit_hold(request)
        if held is not None:
            raise held
        with doors.lease(desired.lineage) as lease:
            dns = provider_of(desired, doors.dns)
            bundle = doors.issuer.issue(request, dns, lease, doors.progress)
    except (CertferryError, LeaseLost) as error:
        waits = error.is_early or isinstance(error, LeaseHeld)
        outcome = Outcome.WAITING if waits else Outcome.FAILED
        return told.with_error(error.about(desired.lineage), outcome)
    ca = bundle.certificate.issuer
    return replace(told, detail=Text("rehearsed: a test certificate came from {ca}", ca=ca))
