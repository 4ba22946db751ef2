"""Remove what earlier runs left: challenge records in DNS, orders for names no longer declared."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import Activity
from certferry.core.observed.observation import Observation
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.planning.steps import Clean
from certferry.errors import CertferryError, LeaseHeld
from certferry.ports.dns import DnsProvider
from certferry.reconcile.dns_by_zone import provider_of
from certferry.reconcile.doors import Doors
from certferry.reconcile.visit import Visit
from certferry.text import Text

_SWEEPING = Text("removing challenge records that an earlier run left")

_log = logging.getLogger(__name__)


def clean(step: Clean, visit: Visit) -> StepOutcome:
    """Remove challenge records that an earlier run left."""
    told = StepOutcome(step.action, Outcome.DONE, Text("challenge records are removed"))
    visit.renew_lease()
    try:
        sweep(visit.lineage, [provider_of(visit.desired, visit.doors.dns)], visit.doors)
    except CertferryError as error:
        return told.with_error(error)
    return told


def sweep(lineage: str, accounts: Sequence[DnsProvider], doors: Doors) -> None:
    """Remove the challenge records of a lineage, and say so: one that may still turn up is looked
    for until it would have, which takes a minute. Raises `DnsError`.
    """
    now = doors.now()
    doors.progress(Activity(lineage, _SWEEPING, now))
    doors.issuer.sweep(lineage, accounts, now)


def without_order(observed: Observation, lineage: str, doors: Doors) -> Observation:
    """Forget an order for names no longer declared, as after a slip that was put right."""
    with doors.lease(lineage) as lease:
        doors.state.drop_order(lease)
    return replace(observed, remembered=replace(observed.remembered, ordered=None))


def sweep_ownerless(
    left: Sequence[str], certificates: Sequence[DesiredCertificate], doors: Doors
) -> None:
    """Remove what killed runs left of lineages that are not issued here any more: they are declared
    under another name, as ferried, or not at all, and no run of theirs comes again.

    `left` are the lineages with records. What goes wrong is only logged: nothing that is declared
    depends on it. Raises `Interrupted`.
    """
    imported = {desired.lineage for desired in certificates if desired.files is not None}
    owned = {desired.lineage for desired in certificates} | doors.claims.lineages
    for lineage in left:
        if lineage not in owned - imported:
            _sweep_anywhere(lineage, doors)


def _sweep_anywhere(lineage: str, doors: Doors) -> None:
    """Try every account that the run has: which of them wrote the records is not known any more."""
    if not doors.dns:
        return
    try:
        with suppress(LeaseHeld), doors.lease(lineage):  # another run is at work on it after all
            sweep(lineage, tuple(doors.dns.values()), doors)
    except CertferryError as error:
        _log.warning(
            Text(
                "{lineage}: a challenge record of an earlier run is left in DNS: {problem}",
                lineage=lineage,
                problem=error.message,
            )
        )
