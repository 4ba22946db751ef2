"""A DNS provider in memory, with the contract of `ports.dns`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from certferry.core.discovery.inventory import FoundZone
from certferry.errors import DnsError, ZoneNotFound
from certferry.text import Text


@dataclass(frozen=True)
class _Record:
    name: str
    value: str


class MemoryDns:
    """A `DnsProvider` whose account holds these zones. Safe to use from any thread.

    `calls` counts all calls, also the refused calls.
    """

    def __init__(self, zones: Iterable[str]) -> None:
        self._zones = frozenset(zones)
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._records: dict[str, _Record] = {}
        self._failure: DnsError | None = None
        self.calls = 0

    def fail_with(self, failure: DnsError | None) -> None:
        """Make every call raise the error; `None` ends the failures."""
        self._failure = failure

    def values(self, name: str) -> list[str]:
        """Return the values at a name, oldest first."""
        with self._lock:
            return [r.value for r in self._records.values() if r.name == name]

    def zones(self) -> tuple[FoundZone, ...]:
        """See `ports.survey.ZoneKeeper.zones`."""
        self._count()
        return tuple(map(FoundZone, sorted(self._zones)))

    def add_txt(self, name: str, value: str) -> str:
        wanted = self._asked_for(name, value)
        with self._lock:
            for handle, record in self._records.items():
                if record == wanted:
                    return handle
            handle = f"record-{next(self._ids)}"
            self._records[handle] = wanted
            return handle

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        wanted = self._asked_for(name, value)
        with self._lock:
            gone = [key for key, record in self._records.items() if record == wanted]
            for key in gone:
                del self._records[key]
            return bool(gone)

    def _asked_for(self, name: str, value: str) -> _Record:
        self._count()
        if not any(name == zone or name.endswith(f".{zone}") for zone in self._zones):
            raise ZoneNotFound(
                Text("no zone holds {name}", name=name), hint=Text("add the zone to the account")
            )
        return _Record(name, value)

    def _count(self) -> None:
        with self._lock:
            self.calls += 1
        if self._failure is not None:
            raise self._failure
