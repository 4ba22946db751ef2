"""What an operator lets certferry do at a target: what it removes, sets right, and takes back."""

from __future__ import annotations

from enum import StrEnum


class Retirement(StrEnum):
    """Which remote certificates are removed once their successor has been seen."""

    SUPERSEDED = "superseded"
    ALL_UNUSED = "all-unused"
    NEVER = "never"


class DriftPolicy(StrEnum):
    """What is done where a domain was changed outside certferry since it was seen as declared."""

    REPAIR = "repair"
    WARN = "warn"
    IGNORE = "ignore"


class OnFailure(StrEnum):
    """What is done where edges that worked refuse the new certificate."""

    KEEP = "keep"
    ROLLBACK = "rollback"
