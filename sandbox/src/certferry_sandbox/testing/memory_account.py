"""What is remembered of one account, in memory: for tests, and where there is no state."""

from __future__ import annotations

import threading

from certferry.ports.state import Edit


class MemoryAccount:
    """An `AccountMemory` that ends with its process."""

    def __init__(self) -> None:
        self._notes: dict[str, str] = {}
        self._lock = threading.Lock()

    def note(self, name: str) -> str | None:
        """See `AccountMemory.note`."""
        return self._notes.get(name)

    def update(self, name: str, change: Edit) -> str | None:
        """See `AccountMemory.update`."""
        with self._lock:
            after = change(self._notes.pop(name, None))
            if after is not None:
                self._notes[name] = after
            return after
