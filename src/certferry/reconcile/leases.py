"""Hold leases for as long as the work under them takes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from certferry.errors import StateError
from certferry.ports.state import Lease, StateStore
from certferry.text import Text

TTL = timedelta(seconds=60)
"""How long a lease outlives a holder that can no longer extend it, on another host."""

_log = logging.getLogger(__name__)


class LeaseKeeper:
    """Takes leases and extends those that are held, from one thread, every third of their time."""

    def __init__(
        self, state: StateStore, now: Callable[[], datetime], ttl: timedelta = TTL
    ) -> None:
        self._state = state
        self._now = now
        self._ttl = ttl
        self._held: set[Lease] = set()
        self._changed = threading.Condition()
        self._keeper: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def lease(self, lineage: str) -> Iterator[Lease]:
        """Hold the lease of a lineage for a `with` block. Raises `LeaseHeld`."""
        lease = self._state.acquire(lineage, self._ttl, self._now())
        with self._changed:
            self._held.add(lease)
            self._start()
        try:
            yield lease
        finally:
            with self._changed:
                self._held.discard(lease)
            self._state.release(lease)

    def close(self) -> None:
        """Stop extending."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._keeper is not None:
            self._keeper.join()

    def _start(self) -> None:
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="leases", daemon=True)
            self._keeper.start()

    def _keep(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                self._changed.wait((self._ttl / 3).total_seconds())
                held = tuple(self._held)
            for lease in held:
                self._extend(lease)

    def _extend(self, lease: Lease) -> None:
        """Extend one lease. Losing it is found out by the next write under it."""
        try:
            self._state.extend(lease, self._ttl, self._now())
        except StateError as error:
            _log.warning(
                Text(
                    "{lineage}: the lease could not be extended: {problem}",
                    lineage=lease.lineage,
                    problem=error.message,
                )
            )
