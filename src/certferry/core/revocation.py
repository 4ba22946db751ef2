"""Certificates that were revoked at their CA: why, when, and which go along with one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from certferry.core.reasons import Reason, ReasonCode
from certferry.text import Text


class RevocationReason(StrEnum):
    """Why a certificate is revoked, as CAs take it from a subscriber (RFC 5280 §5.3.1)."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"

    @property
    def code(self) -> int:
        """The number that stands for it (RFC 5280 §5.3.1)."""
        return _CODES[self]


_CODES = {
    RevocationReason.UNSPECIFIED: 0,
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
}


@dataclass(frozen=True, slots=True)
class Revocation:
    """That a certificate was revoked, or is about to be: it is written down before the CA is asked,
    and `is_answered` once the CA has taken it.
    """

    at: datetime
    reason: RevocationReason
    is_answered: bool = True

    @property
    def why(self) -> Reason:
        """Why another certificate is issued, and this one deployed nowhere."""
        sentence = Text("the certificate was revoked at {moment}", moment=self.at)
        if not self.is_answered:
            sentence = Text(
                "its revocation was begun at {moment}, and the CA may have carried it out",
                moment=self.at,
            )
        return Reason(ReasonCode.REVOKED, sentence)

    @property
    def spoils_key(self) -> bool:
        """Whether the certificate's key is not to be used again."""
        return self.reason is RevocationReason.KEY_COMPROMISE


def is_under_way(revocation: Revocation | None, not_after: datetime, now: datetime) -> bool:
    """Tell whether a certificate's revocation was begun, its CA's answer is not known, and the
    certificate is valid until `not_after`.
    """
    return revocation is not None and not revocation.is_answered and not_after > now
