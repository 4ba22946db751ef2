"""Write down what happened, for `certferry history`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from certferry.core.events import Event, Happened
from certferry.core.history import HistoryEntry
from certferry.core.redaction import redacted
from certferry.ports.progress import Progress
from certferry.ports.state import StateStore


def history_keeper(state: StateStore, now: Callable[[], datetime], who: str) -> Progress:
    """Return a listener that adds an entry for each thing that happens, in the name of `who`. It is
    kept for ever, and what must not be seen is not: a service may have quoted it.
    """

    def keep(event: Event) -> None:
        if isinstance(event, Happened):
            facts = {name: redacted(fact) for name, fact in event.facts.items()}
            state.append_history(HistoryEntry(now(), event.lineage, event.event, who, facts))

    return keep
