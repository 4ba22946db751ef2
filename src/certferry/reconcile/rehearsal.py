"""A rehearsal: a run's orders, made at a staging directory. Nothing is deployed, or stored but
challenge records, which a later run removes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import StepEnded
from certferry.core.planning.plan import Plan
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.core.planning.steps import Action, Issue
from certferry.errors import CertferryError, LeaseHeld, LeaseLost
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.ports.state import AcmeOrder, Lease, StateStore
from certferry.reconcile.challenges import provider_of
from certferry.reconcile.run import Ports
from certferry.reconcile.status import plans_of
from certferry.reconcile.work_queue import side_by_side
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What came of it, for each lineage that would order, and the plans of the run itself."""

    report: SyncReport
    plans: tuple[Plan, ...]


def rehearse(
    ports: Ports, certificates: Sequence[DesiredCertificate], issuer: Issuer, *, renew: bool
) -> Rehearsed:
    """Have this issuer issue, for tests, what `sync` would order; `renew` as there."""
    plans = plans_of(ports, certificates, renew=renew)
    orders = zip(certificates, map(_order_of, plans), strict=True)
    due = [(desired, step) for desired, step in orders if step is not None]
    at_staging = replace(ports, issuer=issuer)
    reports = side_by_side(lambda one: _rehearsed(*one, at_staging), due, ports.run)
    return Rehearsed(SyncReport(tuple(reports)), tuple(plans))


def _order_of(plan: Plan) -> Issue | None:
    """Return what a run would order for this plan, now or later."""
    step = plan.issue_now or plan.issue_later
    return step if step is not None and step.action is Action.ISSUE else None


def _rehearsed(desired: DesiredCertificate, step: Issue, ports: Ports) -> LineageReport:
    """Have a test certificate issued by the ports' issuer, and drop it. Raises `Interrupted`."""
    request = IssueRequest(
        lineage=desired.lineage,
        names=step.names,
        key_type=step.key_type,
        profiles=desired.issuance.profiles,
        dns=",".join(desired.dns_accounts),
    )
    outcome = _tried(request, desired, ports)
    ports.progress(StepEnded(desired.lineage, outcome))
    return LineageReport(desired.lineage, None, (outcome,))


def _tried(request: IssueRequest, desired: DesiredCertificate, ports: Ports) -> StepOutcome:
    result = StepOutcome(Action.ISSUE, Outcome.DONE, Text("rehearsed"))
    try:
        held = ports.issuer.rate_limit_hold(request)
        if held is not None:
            raise held
        with ports.lease(desired.lineage) as lease:
            dns = provider_of(desired, ports.dns)
            bundle = ports.issuer.issue(request, dns, lease, ports.progress)
    except (CertferryError, LeaseLost) as error:
        waits = error.is_early or isinstance(error, LeaseHeld)
        outcome = Outcome.WAITING if waits else Outcome.FAILED
        return result.with_error(error.about(desired.lineage), outcome)
    ca = bundle.certificate.issuer
    return replace(result, detail=Text("rehearsed: a test certificate came from {ca}", ca=ca))


class WithoutOrders:
    """A state that stores no order and shows none, so that a rehearsal neither goes on with a real
    one nor takes its place.
    """

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def order(self, _lineage: str) -> AcmeOrder | None:
        """See `StateStore.order`."""
        return None

    def save_order(self, lease: Lease, _order: object) -> None:
        """See `StateStore.save_order`."""
        self._state.extend(lease)

    def drop_order(self, lease: Lease, **_: object) -> None:
        """See `StateStore.drop_order`."""
        self._state.extend(lease)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)
