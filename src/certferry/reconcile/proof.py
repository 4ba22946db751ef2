"""Whether what a plan would order can be proven: asked before an order is made, and only then."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.desired import DesiredCertificate
from certferry.core.plan import Action, Obstacle, Plan
from certferry.errors import DnsError
from certferry.reconcile.doors import Doors


def with_proof(plan: Plan, desired: DesiredCertificate, doors: Doors) -> Plan:
    """Return a plan that says what would stop its order, such as a refused token. A plan without an
    order asks nothing.
    """
    step = plan.issue
    if step is None or step.action is not Action.ISSUE or step not in plan.ready:
        return plan
    try:
        doors.issuer.must_be_provable(desired.names, doors.dns[desired.dns])
    except DnsError as error:
        obstacle = Obstacle(desired.dns, None, error)
        return replace(plan, obstacles=(*plan.obstacles, obstacle))
    return plan
