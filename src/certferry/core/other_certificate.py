"""Certificates at a target that are not a lineage's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class OtherCertificate:
    """A certificate at a target that is not this lineage's, as the target lists it: another
    lineage's, another tool's, or one uploaded by hand. `label` may be empty, and no identity.

    `in_use_until` is as for our own.
    """

    remote_id: str
    label: str
    not_after: datetime | None = None
    in_use_until: datetime | None = None
    not_before: datetime | None = None
