"""How a lineage's certificate stands by itself, wherever it is served, in one word for programs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from certferry.core.lineage import Version
from certferry.core.reasons import Reason


class CertificateState(StrEnum):
    """Stable words for programs; they appear in JSON."""

    MISSING = "missing"
    VALID = "valid"
    DUE = "due"
    """A run would replace it now, or another client should have by now."""
    EXPIRED = "expired"
    REVOKED = "revoked"


def state_of(current: Version | None, reason: Reason | None, now: datetime) -> CertificateState:
    """Judge the version in force; `reason` is why it would be replaced now, if it would."""
    if current is None:
        return CertificateState.MISSING
    if current.revocation is not None:
        return CertificateState.REVOKED
    if current.certificate.not_after <= now:
        return CertificateState.EXPIRED
    return CertificateState.VALID if reason is None else CertificateState.DUE
