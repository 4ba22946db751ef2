"""Orders as the CA counts them: what is asked for, and what is not asked for now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from certferry.core.desired import DesiredCertificate
from certferry.core.observed import Observation
from certferry.core.plan import Action, Blocked, Issue
from certferry.core.rules import is_awaited
from certferry.ports.issuer import IssueRequest
from certferry.reconcile.doors import Doors


def held_back(
    step: Issue | None,
    desired: DesiredCertificate,
    observed: Observation,
    now: datetime,
    doors: Doors,
) -> Issue | None:
    """Return an order that the CA would refuse now, with why and until when; `None` where there is
    no such order.
    """
    if step is None or step.action is not Action.ISSUE:
        return None
    request = request_of(step, desired, observed)
    going_on = is_awaited(desired, observed.ordered, now)
    error = doors.issuer.held_back(request, going_on=going_on)
    return None if error is None else replace(step, due=Blocked(error, until=error.retry.after))


def request_of(step: Issue, desired: DesiredCertificate, observed: Observation) -> IssueRequest:
    """Return what the issuer is asked for."""
    renews = any(set(v.certificate.names) == set(step.names) for v in observed.versions)
    return IssueRequest(desired.lineage, step.names, step.key_type, renews=renews)
