"""Take over what another client made: from then on it is a lineage's current certificate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

from certferry.core.certificate import CertificateBundle
from certferry.core.report import HistoryEntry
from certferry.ports.state import Lease, StateStore


def adopt(
    lineage: str,
    bundle: CertificateBundle,
    *,
    state: StateStore,
    lease: Callable[[str], AbstractContextManager[Lease]],
    now: datetime,
    who: str,
) -> bool:
    """Keep a certificate as the lineage's current one, and tell whether that was needed.

    A lineage that has the same certificate or a later one is left as it is. Raises `LeaseHeld`
    and `StateError`.
    """
    certificate = bundle.certificate
    with lease(lineage) as held:
        versions = state.versions(lineage)
        if any(v.certificate.not_before >= certificate.not_before for v in versions):
            return False
        state.save_version(held, bundle, now)
        facts = {"fingerprint": certificate.fingerprint, "issuer": certificate.issuer}
        state.append_history(HistoryEntry(now, lineage, "adopted", who, facts))
    return True
