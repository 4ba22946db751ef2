"""What was begun at a target that cannot be read now, and was not seen since."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from certferry.core.observed import Observation, ObservedTarget
from certferry.core.rollout_record import RolloutRecord
from certferry.errors import CertferryError


def unreadable(
    label: str, error: CertferryError, records: Iterable[RolloutRecord], current: str | None
) -> ObservedTarget:
    """Return a target that cannot be read, with what is under way there of the certificate in
    force; `current` is its fingerprint.
    """
    under_way = tuple(
        record for record in records if _is_open(record) and record.fingerprint == current
    )
    return ObservedTarget(label, failure=error, under_way=under_way)


def _is_open(record: RolloutRecord) -> bool:
    return record.verified_at is None and record.failed_at is None


def without_found(observed: Observation) -> Observation:
    """Leave under way only what no other deployment of the account has found."""
    targets = (
        replace(
            target,
            under_way=tuple(
                record
                for record in target.under_way
                if observed.find(target.label, record.domain) is None
            ),
        )
        for target in observed.targets
    )
    return replace(observed, targets=tuple(targets))
