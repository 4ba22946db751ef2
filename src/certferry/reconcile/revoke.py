"""Revoke a lineage's certificate at its CA, and write that down: the next run replaces it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from certferry.core.events import Happened
from certferry.core.lineage import Version
from certferry.core.revocation import Revocation, RevocationReason
from certferry.errors import PlanRefused
from certferry.ports.ca_account import AccountAt
from certferry.ports.progress import Progress
from certferry.ports.state import Lease, StateStore
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class RevocationDoors:
    """What a revocation reaches the world through; see `reconcile.doors.Doors`."""

    state: StateStore
    account_at: AccountAt
    lease: Callable[[str], AbstractContextManager[Lease]]
    now: Callable[[], datetime]
    progress: Progress


def to_revoke(
    lineage: str, reason: RevocationReason, state: StateStore, now: datetime
) -> list[Version]:
    """List what is to be revoked: the newest certificate, and where its key is compromised every
    other one that is valid with the same key. Nothing where the newest was revoked before.

    Raises `PlanRefused` where there is none, or it has expired.
    """
    versions = state.versions(lineage)
    newest = versions[0] if versions else None
    if newest is None or newest.certificate.not_after <= now:
        raise PlanRefused(
            Text("{lineage} has no certificate that is valid", lineage=lineage),
            hint=Text("nothing was changed; `certferry status` shows what there is"),
        )
    if newest.revocation is not None:
        return []
    found = [newest]
    if reason is RevocationReason.KEY_COMPROMISE:
        found += _with_the_key_of(newest, versions[1:], lineage, state, now)
    return found


def _with_the_key_of(
    newest: Version, others: Sequence[Version], lineage: str, state: StateStore, now: datetime
) -> Iterator[Version]:
    key = state.bundle(lineage, newest.number).privkey_pem
    for version in others:
        is_valid = version.certificate.not_after > now and version.revocation is None
        if is_valid and state.bundle(lineage, version.number).privkey_pem == key:
            yield version


def revoke(lineage: str, reason: RevocationReason, doors: RevocationDoors) -> list[Version]:
    """Revoke, and return what was revoked; nothing where that was done before. It is written down
    once the CA has answered: killed in between, it is asked again, and says so.

    Raises what `to_revoke` does, `LeaseHeld`, `IssuanceError` and `StateError`.
    """
    with doors.lease(lineage) as lease:
        versions = to_revoke(lineage, reason, doors.state, doors.now())
        if versions and reason is RevocationReason.KEY_COMPROMISE:
            doors.state.drop_order(lease)  # it may be for this key
        # The newest last: as long as it is not revoked, a run that was killed is repeated whole.
        for version in reversed(versions):
            bundle = doors.state.bundle(lineage, version.number)
            doors.state.extend(lease)
            doors.account_at(version.directory).revoke(bundle, reason)
            doors.state.save_revocation(lease, version.number, Revocation(doors.now(), reason))
            facts = {
                "fingerprint": version.certificate.fingerprint,
                "serial": version.certificate.serial,
                "reason": reason.value,
            }
            doors.progress(Happened(lineage, "revoked", facts))
    return versions
