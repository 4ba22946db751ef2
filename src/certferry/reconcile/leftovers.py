"""What earlier runs left in DNS, and whose it is to remove."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from certferry.core.desired import DesiredCertificate
from certferry.core.report import Activity
from certferry.errors import CertferryError, Interrupted, LeaseHeld, StateError
from certferry.ports.dns import DnsProvider
from certferry.reconcile.doors import Doors
from certferry.text import Text

_SWEEPING = Text("removing challenge records that an earlier run left")

_log = logging.getLogger(__name__)


def sweep(lineage: str, dns: DnsProvider, doors: Doors) -> None:
    """Remove the challenge records of a lineage, and say so: one that may still turn up is looked
    for until it would have, which takes a minute. Raises `DnsError`.
    """
    now = doors.now()
    doors.progress(Activity(lineage, _SWEEPING, now))
    doors.issuer.sweep(lineage, dns, now)


def sweep_ownerless(wishes: Sequence[DesiredCertificate], doors: Doors) -> None:
    """Remove what runs left that were killed over lineages which are not issued here any more: they
    are declared under another name, as ferried, or not at all, and no run of theirs comes again.

    What goes wrong is only logged: nothing that is declared depends on it. Raises `Interrupted`.
    """
    ferried = {wish.lineage for wish in wishes if wish.files is not None}
    owned = {wish.lineage for wish in wishes} | doors.claims.lineages
    try:
        for lineage in doors.state.lineages_in_challenge_records():
            if lineage not in owned - ferried:
                _sweep_anywhere(lineage, doors)
    except StateError as error:
        _log.warning(
            Text(
                "challenge records of earlier runs are not looked for: {problem}",
                problem=error.message,
            )
        )


def _sweep_anywhere(lineage: str, doors: Doors) -> None:
    """Try every account that the run has: which one wrote the records is not known any more."""
    problem: Text | None = None
    with suppress(LeaseHeld), doors.lease(lineage):  # who holds it is at work on it after all
        for dns in doors.dns.values():
            try:
                sweep(lineage, dns, doors)
            except Interrupted:
                raise
            except CertferryError as error:
                problem = error.message
            else:
                return
    if problem is not None:
        _log.warning(
            Text(
                "{lineage}: a challenge record of an earlier run is left in DNS: {problem}",
                lineage=lineage,
                problem=problem,
            )
        )
