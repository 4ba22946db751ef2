"""Whether the names that a plan orders can be proven: asked before an order, and only then."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import cast

from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.network import must_be_right
from certferry.core.planning.plan import Plan, PlanFinding, Weight
from certferry.core.planning.steps import Action
from certferry.core.waiting import Asking
from certferry.errors import (
    CertferryError,
    ClockWrong,
    DnsError,
    IssuanceError,
    TargetRejected,
    ZoneNotFound,
)
from certferry.ports.examination import Timed
from certferry.reconcile.dns_by_zone import provider_of
from certferry.reconcile.doors import Doors
from certferry.text import Text


class Proofs:
    """What would stop the orders of one run's plans: a wrong clock, refused keys, a missing zone.

    A plan without an order asks nothing, unless no target has a domain for the certificate: a name
    that is mistyped has no zone either. Each account's clock is looked at once.
    """

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._clocks: dict[str, CertferryError | None] = {}
        self._looking = threading.Lock()

    def added_to(self, plan: Plan, desired: DesiredCertificate) -> Plan:
        """Return the plan with what would stop its order, or which names need no account. Raises
        `Interrupted`.
        """
        step = plan.issue_now
        if step is None and _is_for_nothing(plan):
            return self._with_missing_zone(plan, desired)
        if step is None or step.action is not Action.ISSUE or step not in plan.ready:
            return plan
        accounts = ", ".join(desired.dns_accounts)
        if accounts:
            what = Text("asking {accounts} for the zones of its names", accounts=accounts)
            self._doors.progress(Asking(desired.lineage, what))
        clocks = map(self._clock, desired.dns_accounts)
        found = next(filter(None, clocks), None) or self._proof(desired)
        if not isinstance(found, CertferryError):
            return replace(plan, issue=replace(step, standing=tuple(sorted(found))))
        return _with(plan, found, accounts or None)

    def _with_missing_zone(self, plan: Plan, desired: DesiredCertificate) -> Plan:
        accounts = ", ".join(desired.dns_accounts)
        found = self._proof(desired) if accounts else None
        if not isinstance(found, ZoneNotFound):
            return plan
        return _with(plan, found, accounts)

    def _proof(self, desired: DesiredCertificate) -> frozenset[str] | CertferryError:
        dns = provider_of(desired, self._doors.dns)
        try:
            return self._doors.issuer.must_be_provable(desired.names, dns)
        except (DnsError, IssuanceError) as problem:
            return problem

    def _clock(self, label: str) -> CertferryError | None:
        """Look at the clock by the account's service: keys are not blamed for it."""
        with self._looking:
            if label not in self._clocks:
                self._clocks[label] = self._looked(label)
            return self._clocks[label]

    def _looked(self, label: str) -> CertferryError | None:
        dns = self._doors.dns[label]
        if not hasattr(dns, "clock_ahead"):
            return None
        try:
            ahead = cast("Timed", dns).clock_ahead()
            if ahead is not None:
                must_be_right(label, ahead)
        except (ClockWrong, DnsError) as problem:
            return problem
        return None


def _is_for_nothing(plan: Plan) -> bool:
    """Tell whether no target has a domain that the certificate could be for."""
    if plan.rollouts or plan.unchanged:
        return False
    return any(
        one.domain is None and isinstance(one.error, TargetRejected)
        for one in plan.having(Weight.BLOCKED)
    )


def _with(plan: Plan, error: CertferryError, accounts: str | None) -> Plan:
    return replace(plan, findings=(*plan.findings, PlanFinding.of(Weight.BLOCKED, error, accounts)))
