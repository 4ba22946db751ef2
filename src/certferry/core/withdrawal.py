"""What is bound nowhere again: a certificate that was withdrawn from a domain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A certificate that is not to be bound to a domain again, since when, and whether an operator
    asked for it.
    """

    lineage: str
    target: str
    domain: str
    fingerprint: str
    at: datetime
    by_hand: bool = False
