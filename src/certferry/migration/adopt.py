"""Take over what another client made: from then on it is a lineage's current certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

from certferry.core.certificate import CertificateBundle
from certferry.core.history import HistoryEntry
from certferry.migration.home import OldCertificate
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


def as_remembered(found: Sequence[OldCertificate], state: StateStore) -> tuple[OldCertificate, ...]:
    """Give each lineage the name under which its certificate is remembered, if it is: under a new
    one, what is at the targets would be another lineage's, and be uploaded and bound once more.
    """
    remembered = {lineage: state.versions(lineage) for lineage in state.lineages()}
    named: list[OldCertificate] = []
    for one in found:
        fingerprint = one.bundle.certificate.fingerprint
        known = [
            lineage
            for lineage, versions in remembered.items()
            if any(version.certificate.fingerprint == fingerprint for version in versions)
        ]
        taken = {other.lineage for other in (*found, *named)}
        free = [lineage for lineage in known if lineage not in taken]
        is_known = one.lineage in known or not free
        named.append(one if is_known else replace(one, lineage=free[0]))
    return tuple(named)
