"""Copies with a lineage's mark that the state does not know: they show that the state is an older
one.
"""

from __future__ import annotations

from dataclasses import replace

from certferry.core.lineage import marks, owners
from certferry.core.observed import ObservedTarget
from certferry.reconcile.doors import Doors


def without_remembered(found: ObservedTarget, lineage: str, doors: Doors) -> ObservedTarget:
    """Leave what no lineage with the same marks knows.

    The store is asked after the target: what another run has uploaded by then has its version
    there.
    """
    same = [one for one in {lineage, *doors.state.lineages()} if owners(one) & owners(lineage)]
    known = {
        label
        for one in same
        for version in doors.state.versions(one)
        for label in marks(one, version.certificate.fingerprint)
    }
    left = tuple(other for other in found.unremembered if other.label not in known)
    return replace(found, unremembered=left)
