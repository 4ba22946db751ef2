"""Short forms: of a fingerprint or a remote id, so that a person can compare two; of many names."""

from __future__ import annotations

from collections.abc import Sequence

from certferry.text import Text

SHORT = 12
"""Characters that a person compares: 48 bits of a fingerprint. The whole is in `--json`."""


def short(identity: str) -> str:
    """Return the short form of a fingerprint, or of a target's id of a certificate."""
    return identity[:SHORT]


def first_of(names: Sequence[str], most: int) -> list[str | Text]:
    """Return the first of many names, and how many more there are."""
    more = len(names) - most
    return [*names[:most], *([Text("and {count} more", count=more)] if more > 0 else [])]
