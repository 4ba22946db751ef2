"""The door to a listener that is shown what a run sees, and when it has ended."""

from __future__ import annotations

from typing import Protocol

from certferry.core.observed import Observation
from certferry.core.report import SyncReport


class Looks(Protocol):
    """Is shown every look of a run. Safe to use from several threads."""

    def note(self, lineage: str, observed: Observation) -> None:
        """Be shown what a look at a lineage saw. Nothing is asked and nothing is written."""
        ...

    def keep(self, report: SyncReport) -> None:
        """Keep what the run has seen, now that it has ended. Raises `StateError`."""
        ...


class _Unseen:
    def note(self, lineage: str, observed: Observation) -> None:
        """See `Looks.note`."""

    def keep(self, report: SyncReport) -> None:
        """See `Looks.keep`."""


UNSEEN: Looks = _Unseen()
"""Keeps nothing."""
