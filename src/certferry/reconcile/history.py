"""Write down what happened, for `certferry history`."""

from __future__ import annotations

from certferry.core.redaction import redacted
from certferry.core.report import HistoryEntry
from certferry.reconcile.doors import Doors


def record(doors: Doors, lineage: str, event: str, /, **facts: str) -> None:
    """Add an entry of this moment, in the name of whoever runs certferry. It is kept for ever, and
    what must not be seen is not: a service may have quoted it.
    """
    kept = {name: redacted(fact) for name, fact in facts.items()}
    doors.state.append_history(HistoryEntry(doors.now(), lineage, event, doors.who, kept))
