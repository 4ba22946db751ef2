"""The one clock that everything is joined with, and that of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certferry.ports.progress import Clock
    from certferry.ports.state import StateStore
    from certferry.reconcile.run import Run


def now() -> datetime:
    """Return this moment."""
    return datetime.now(UTC)


def clock_of(run: Run, state: StateStore) -> Clock:
    """Return what tells a run the time: its own clock, or the database's where hosts share it.
    Neither is moved by a later setting of the machine's time.
    """
    return state.now if state.is_shared else run.now
