"""Revoke a lineage's certificate at its CA. That is written down first, so that the next run
replaces it whatever happens meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime

from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import (
    Revocation,
    RevocationReason,
    Version,
    is_in_progress,
)
from certferry.core.events import Happened
from certferry.errors import CaUnavailable, CertificateError, IssuanceError, PlanRefused
from certferry.ports.issuer import AccountAt
from certferry.ports.progress import Progress
from certferry.ports.state import Lease, StateStore
from certferry.text import Text


def carry_over(old: str, new: str, certificate: Certificate, state: StateStore) -> None:
    """Copy to `new` the uploads of a certificate of `old`, and how far each domain is with it, so
    that nothing is uploaded or bound once more. A later certificate of `new` keeps its own.
    """
    if any(v.certificate.not_before > certificate.not_before for v in state.versions(new)):
        return
    remembered, fingerprint = state.remembered(old), certificate.fingerprint
    for upload in remembered.uploads:
        if upload.fingerprint == fingerprint:
            state.save_upload(replace(upload, lineage=new))
    for record in remembered.rollouts:
        if record.fingerprint == fingerprint:
            state.replace_rollout(None, replace(record, lineage=new))


@dataclass(frozen=True, slots=True)
class RevocationPorts:
    """What a revocation reaches the world through; see `reconcile.run.Ports`."""

    state: StateStore
    account_at: AccountAt
    lease: Callable[[str], AbstractContextManager[Lease]]
    now: Callable[[], datetime]
    progress: Progress


def to_revoke(
    lineage: str, reason: RevocationReason, state: StateStore, now: datetime
) -> list[Version]:
    """List what is to be revoked, newest first: the newest certificate, and where its key is
    compromised every other one that is valid with the same key. Nothing where the newest was
    revoked before. What was begun and did not end comes first, also where it has a successor.

    Raises `PlanRefused` where there is none, or it has expired.
    """
    versions = state.versions(lineage)
    begun = [
        one for one in versions if is_in_progress(one.revocation, one.certificate.not_after, now)
    ]
    newest = next(iter(begun or versions), None)
    if newest is None or newest.certificate.not_after <= now:
        raise PlanRefused(
            Text("{lineage} has no certificate that is valid", lineage=lineage),
            hint=Text("nothing was changed; `certferry status` shows what there is"),
        )
    if not begun and newest.revocation is not None:
        return []
    found = begun or [newest]
    if reason is RevocationReason.KEY_COMPROMISE:
        others = [one for one in versions if one not in found]
        found = [*found, *_with_the_key_of(newest, others, lineage, state, now)]
    return found


def _with_the_key_of(
    newest: Version, others: Sequence[Version], lineage: str, state: StateStore, now: datetime
) -> Iterator[Version]:
    key = state.bundle(lineage, newest.number).privkey_pem
    for version in others:
        is_valid = version.certificate.not_after > now and version.revocation is None
        if is_valid and state.bundle(lineage, version.number).privkey_pem == key:
            yield version


def revoke(lineage: str, reason: RevocationReason, ports: RevocationPorts) -> list[Version]:
    """Revoke, and return what was revoked; nothing where that was done before. What the CA refuses
    for good is as it was; where it may have been done, it stays written down, and a later call asks
    the CA again.

    Raises what `to_revoke` does, `LeaseHeld`, `IssuanceError` and `StateError`.
    """
    with ports.lease(lineage) as lease:
        versions = to_revoke(lineage, reason, ports.state, ports.now())
        bundles = [ports.state.bundle(lineage, version.number) for version in versions]
        if versions and reason is RevocationReason.KEY_COMPROMISE:
            ports.state.drop_order(lease)  # it may be for this key
        begun = Revocation(ports.now(), reason, is_answered=False)
        for version in versions:
            ports.state.save_revocation(lease, version.number, begun)
        for done, (version, bundle) in enumerate(zip(versions, bundles, strict=True)):
            ports.state.extend(lease)
            try:
                ports.account_at(version.directory).revoke(bundle, reason)
            except (IssuanceError, CertificateError, PlanRefused) as refusal:
                if not isinstance(refusal, CaUnavailable):
                    _take_back(versions[done:], lease, ports.state)
                raise
            ports.state.save_revocation(lease, version.number, Revocation(ports.now(), reason))
            facts = {
                "fingerprint": version.certificate.fingerprint,
                "serial": version.certificate.serial,
                "reason": reason.value,
            }
            ports.progress(Happened(lineage, "revoked", facts))
    return versions


def _take_back(versions: Sequence[Version], lease: Lease, state: StateStore) -> None:
    """Write down what was known of versions before the call: an earlier call may have been heard
    by the CA, and stays.
    """
    for version in versions:
        state.save_revocation(lease, version.number, version.revocation)
