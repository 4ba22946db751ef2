"""The port to the looks at the hosts of `[[watch]]`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Protocol

from certferry.core.network import Host
from certferry.core.observed.watched_hosts import WatchedHost


class WatchStore(Protocol):
    """The last look of each certferry host at each watched host. All methods may raise
    `StateError`.
    """

    def watched_hosts(self) -> tuple[WatchedHost, ...]:
        """Return the last looks of every certferry host, sorted by name, port and `by`."""

    def save_looks(
        self, looks: Iterable[WatchedHost], declared: Collection[Host], now: datetime
    ) -> None:
        """Store the looks of this certferry host, each joined with the look stored before
        (`continued`).

        Also delete this host's looks at hosts that are not `declared`, and every look begun
        `FORGOTTEN_AFTER` before `now`, except this host's looks at declared hosts.
        """
