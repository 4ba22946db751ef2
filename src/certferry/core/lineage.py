"""The succession of certificates under one name, and the mark by which we know our own uploads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from certferry.core.certificate import Certificate
from certferry.core.renewal import RenewalWindow

MARK = "certferry"
_SLUG = 24
"""Characters of the lineage's name in a mark. Targets limit the length of a label without saying
where (Qiniu fact sheet §4.1), so it is kept short."""
_PREFIX = 20
"""Hex digits of the fingerprint in a mark: 80 bits, more than an account can hold by chance."""


@dataclass(frozen=True, slots=True)
class Version:
    """One certificate of a lineage as the store knows it; numbers grow by one."""

    number: int
    certificate: Certificate
    saved_at: datetime
    key_matches: bool = True
    chain_complete: bool = True
    window: RenewalWindow | None = None


def mark(lineage: str, fingerprint: str) -> str:
    """Give the label of an upload: who made it, for which lineage, which certificate."""
    slug = re.sub(r"[^a-z0-9.]+", "-", lineage.lower()).strip("-.")[:_SLUG]
    return f"{MARK}-{slug}-{fingerprint[:_PREFIX]}"
