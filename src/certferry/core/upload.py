"""The state's record of one copy of a certificate at a target."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

NO_LINEAGE = ""
"""The lineage of an `Upload` that is not ours: the state holds of it only that it is used."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A copy of a certificate that we put at a target. `in_use_until` is until when it is left
    alone, since the target said that something uses it.
    """

    lineage: str
    target: str
    remote_id: str
    label: str
    fingerprint: str
    uploaded_at: datetime
    in_use_until: datetime | None = None
