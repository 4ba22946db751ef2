"""What is remembered of one account, in the state or for this process alone."""

from __future__ import annotations

import threading
from collections.abc import Callable

from certferry.ports.account_memory import Edit
from certferry.ports.state import StateStore


class AccountNotes:
    """The notes of one account. The state is opened when one is asked for.

    Unless it `is_kept`, what changes is remembered by this process alone.
    """

    def __init__(self, state: Callable[[], StateStore], account: str, *, is_kept: bool) -> None:
        self._state = state
        self._account = account
        self._is_kept = is_kept
        self._changed: dict[str, str | None] = {}
        self._lock = threading.Lock()

    def note(self, name: str) -> str | None:
        """See `AccountMemory.note`."""
        if name in self._changed:
            return self._changed[name]
        return self._state().account_note(self._account, name)

    def update(self, name: str, change: Edit) -> str | None:
        """See `AccountMemory.update`."""
        if self._is_kept:
            return self._state().update_account_note(self._account, name, change)
        with self._lock:
            self._changed[name] = change(self.note(name))
            return self._changed[name]
