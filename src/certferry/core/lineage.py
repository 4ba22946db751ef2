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


_MARK = re.compile(rf"{MARK}-(?P<slug>[a-z0-9.-]*)-[0-9a-f]{{{_PREFIX}}}")


def mark(lineage: str, fingerprint: str) -> str:
    """Give the label of an upload: who made it, for which lineage, which certificate."""
    return f"{MARK}-{slug(lineage)}-{fingerprint[:_PREFIX]}"


def slug(lineage: str) -> str:
    """Give what stands for a lineage in its marks. Several may have the same."""
    return re.sub(r"[^a-z0-9.]+", "-", lineage.lower()).strip("-.")[:_SLUG]


def slug_of(label: str) -> str | None:
    """Find a lineage's slug in a label, `None` when the label is no mark of ours."""
    found = _MARK.fullmatch(label)
    return None if found is None else found["slug"]
