"""The sandbox's DNS data: zones, records, and what of them had been written at a given moment.

The provider's stand-in writes here and the name servers read here. A server that lags behind
simply looks at an earlier moment: records appear and disappear on it late, in the same order.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from certferry.values import replace

Clock = Callable[[], float]
"""Monotonic seconds."""


@dataclass(frozen=True)
class Zone:
    """A zone and the host names of the servers that are authoritative for it, first one primary.

    `negative_ttl` is the SOA minimum in seconds (RFC 2308 §4).
    """

    name: str
    nameservers: tuple[str, ...]
    negative_ttl: int = 600


@dataclass(frozen=True)
class Record:
    """One version of a record, in force from `since` until `until` (clock seconds).

    `created` is when its first version was written.

    `name` is the full name in lower-case A-labels without final dot. `value` is the raw text of
    a TXT record, and for every other type what a zone file would say, with absolute names.
    """

    id: int
    zone: str
    name: str
    rtype: str
    value: str
    ttl: int
    enabled: bool = True
    created: float = -math.inf
    since: float = -math.inf
    until: float = math.inf

    def is_served(self, at: float) -> bool:
        """Return whether a server that looks at this moment shows the record."""
        return self.enabled and self.since <= at < self.until


@dataclass
class _Contents:
    """A zone, the versions of its records by name, and when it was changed (ascending)."""

    zone: Zone
    versions: dict[str, list[Record]] = field(default_factory=dict)
    changes: list[float] = field(default_factory=list)


class Zones:
    """Every zone of the sandbox. Safe to use from any thread.

    A record's id stays the same through its changes and is never given again.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.RLock()
        self._zones: dict[str, _Contents] = {}
        self._current: dict[int, Record] = {}
        self._ids = itertools.count(189_596_266)  # a real one's size (docs/facts/dnspod.md §1.5)

    def add_zone(self, name: str, nameservers: Iterable[str], *, negative_ttl: int = 600) -> Zone:
        """Add a zone with its NS records. Raises ValueError if it exists or has no server."""
        hosts = tuple(map(_tidy, nameservers))
        zone = Zone(_tidy(name), hosts, negative_ttl)
        with self._lock:
            if zone.name in self._zones or not hosts:
                raise ValueError(f"zone {name} exists already, or no server serves it")
            self._zones[zone.name] = _Contents(zone)
            for host in hosts:
                self.seed(zone.name, "NS", f"{host}.", ttl=86400, zone=zone.name)
        return zone

    def zone(self, name: str) -> Zone:
        """Return a zone by its exact name. Raises KeyError."""
        with self._lock:
            return self._zones[_tidy(name)].zone

    def zones_above(self, name: str) -> list[Zone]:
        """Return the zones that the name lies in, innermost first."""
        labels = _tidy(name).split(".")
        parents = [".".join(labels[start:]) for start in range(len(labels))]
        with self._lock:
            return [self._zones[parent].zone for parent in parents if parent in self._zones]

    def seed(
        self, name: str, rtype: str, value: str, *, ttl: int = 600, zone: str | None = None
    ) -> Record:
        """Add a record that has always been there: every server shows it at once."""
        with self._lock:
            return self._put(self._new(name, rtype, value, ttl, zone))

    def create(
        self,
        name: str,
        rtype: str,
        value: str,
        *,
        ttl: int = 600,
        zone: str | None = None,
        enabled: bool = True,
    ) -> Record:
        """Write a record now. It belongs to the innermost zone unless `zone` names another.

        Raises KeyError when no zone holds the name.
        """
        with self._lock:
            record = self._new(name, rtype, value, ttl, zone)
            now = self.clock()
            return self._put(replace(record, enabled=enabled, created=now, since=now))

    def _new(self, name: str, rtype: str, value: str, ttl: int, zone: str | None) -> Record:
        name = _tidy(name)
        home = self._home(name) if zone is None else _tidy(zone)
        return Record(next(self._ids), home, name, rtype, value, ttl)

    def _home(self, name: str) -> str:
        zones = self.zones_above(name)
        if not zones:
            raise KeyError(name)
        return zones[0].name

    def remove(self, record_id: int) -> Record:
        """Remove a record; servers that lag go on showing it for their lag. Raises KeyError."""
        with self._lock:
            record = self._current.pop(record_id)
            ended = replace(record, until=self.clock())
            contents = self._zones[record.zone]
            versions = contents.versions[record.name]
            versions[versions.index(record)] = ended
            contents.changes.append(ended.until)
            return ended

    def _put(self, record: Record) -> Record:
        contents = self._zones[record.zone]
        contents.versions.setdefault(record.name, []).append(record)
        if record.since > -math.inf:
            contents.changes.append(record.since)
        self._current[record.id] = record
        return record

    def records(
        self, zone: str | None = None, *, name: str | None = None, rtype: str | None = None
    ) -> list[Record]:
        """Return the records in force, disabled ones too, oldest first: the provider's own view."""
        with self._lock:
            return [
                record
                for record in sorted(self._current.values(), key=lambda record: record.id)
                if (zone is None or record.zone == _tidy(zone))
                and (name is None or record.name == _tidy(name))
                and (rtype is None or record.rtype == rtype)
            ]

    def served(self, zone: str, name: str, at: float) -> list[Record]:
        """Return what a server that looks at this moment shows at exactly this name."""
        with self._lock:
            versions = self._zones[zone].versions.get(name, ())
            return [record for record in versions if record.is_served(at)]

    def exists(self, zone: str, name: str, at: float) -> bool:
        """Return whether the name or one below it has a record (RFC 8020), or a zone lies there."""
        with self._lock:
            return self.leads_to_a_zone(name) or any(
                record.is_served(at)
                for owner, versions in self._zones[zone].versions.items()
                if _is_at_or_below(owner, name)
                for record in versions
            )

    def leads_to_a_zone(self, name: str) -> bool:
        """Return whether the name is a zone's or lies above one; "" is the root."""
        with self._lock:
            return any(_is_at_or_below(zone, name) for zone in self._zones)

    def serial(self, zone: str, at: float) -> int:
        """Return the SOA serial: 1, and one more for each change up to this moment."""
        with self._lock:
            return 1 + bisect_right(self._zones[zone].changes, at)


def _tidy(name: str) -> str:
    return name.rstrip(".").lower()


def _is_at_or_below(name: str, other: str) -> bool:
    return not other or name == other or name.endswith(f".{other}")
