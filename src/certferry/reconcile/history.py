"""Write down what happened, for `certferry history`."""

from __future__ import annotations

from certferry.core.report import HistoryEntry
from certferry.reconcile.doors import Doors


def record(doors: Doors, lineage: str, event: str, /, **facts: str) -> None:
    """Add an entry of this moment, in the name of whoever runs certferry."""
    doors.state.append_history(HistoryEntry(doors.now(), lineage, event, doors.who, facts))
