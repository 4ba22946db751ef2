"""Another client's certificate, kept in the state of a session."""

from __future__ import annotations

from functools import partial

from certferry.core.certificates.certificate import CertificateBundle
from certferry.migration.takeover import adopt
from certferry.reconcile.visit import held_lease
from certferry.wiring.clock import now
from certferry.wiring.session import Session, who_runs


def adopt_into(session: Session, lineage: str, bundle: CertificateBundle) -> bool:
    """See `migration.takeover.adopt`."""
    state = session.state
    lease = partial(held_lease, state, now)
    return adopt(lineage, bundle, state=state, lease=lease, now=now(), who=who_runs())
