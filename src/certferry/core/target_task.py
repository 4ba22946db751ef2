"""A change as the target tells of it, in its own words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TargetTask:
    """A change as its target tells of it: its `state` and `operation` in the target's own words,
    when it began, and the target's number for it.
    """

    state: str
    operation: str | None = None
    since: datetime | None = None
    number: str | None = None
