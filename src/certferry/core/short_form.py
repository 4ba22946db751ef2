"""The one short form of what identifies a certificate, so that the same is seen to be the same."""

from __future__ import annotations

SHORT = 12
"""Characters that a person compares: 48 bits of a fingerprint. The whole is in `--json`."""


def short(identity: str) -> str:
    """Return the short form of a fingerprint, or of a target's id of a certificate."""
    return identity[:SHORT]
