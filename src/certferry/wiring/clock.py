"""The machine's clock, and the clock of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certferry.ports.progress import Clock
    from certferry.ports.state import StateStore
    from certferry.reconcile.run import Run


def now() -> datetime:
    """Return the machine's time, in UTC."""
    return datetime.now(UTC)


def clock_of(run: Run, state: StateStore) -> Clock:
    """Return the clock of a run: the state's clock if hosts share the state, or else `Run.now`. If
    the machine's time is set during the run, neither clock jumps.
    """
    return state.now if state.is_shared else run.now
