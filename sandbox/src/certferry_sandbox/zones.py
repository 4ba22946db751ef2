"""The sandbox's DNS data: zones, and the records of each zone at any moment.

The stand-ins of DNS providers write the records, and the name servers read them. A server that
lags reads an earlier moment, so records appear and disappear there late, in the same order.
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
    """A zone and the host names of its authoritative servers, with the primary server first.

    `negative_ttl` is the SOA minimum in seconds (RFC 2308 §4).
    """

    name: str
    nameservers: tuple[str, ...]
    negative_ttl: int = 600


@dataclass(frozen=True)
class Record:
    """A record, in force from `since` until `until` (clock seconds).

    `created` is the moment of the record's creation. `name` is the full name in lower-case
    A-labels, without the final dot. `value` is raw text for TXT. For other types, `value` is
    written as in a zone file, with absolute names.
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
        """Whether a server shows the record, if the server reads the moment `at`."""
        return self.enabled and self.since <= at < self.until


@dataclass
class _Contents:
    """A zone, the versions of its records by name, and the moments of changes (ascending)."""

    zone: Zone
    versions: dict[str, list[Record]] = field(default_factory=dict)
    changes: list[float] = field(default_factory=list)


class Zones:
    """Every zone of the sandbox. Safe to use from any thread.

    A record keeps its id for life, and no later record gets the same id.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.RLock()
        self._zones: dict[str, _Contents] = {}
        self._current: dict[int, Record] = {}
        self._ids = itertools.count(189_596_266)  # a real id's size (docs/facts/dnspod.md §1.5)

    def add_zone(self, name: str, nameservers: Iterable[str], *, negative_ttl: int = 600) -> Zone:
        """Add a zone and its NS records. Raises ValueError for a known zone or without servers."""
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
        """Return the zone with exactly this name. Raises KeyError."""
        with self._lock:
            return self._zones[_tidy(name)].zone

    def zones_above(self, name: str) -> list[Zone]:
        """Return the zones that contain the name, with the innermost zone first."""
        labels = _tidy(name).split(".")
        parents = [".".join(labels[start:]) for start in range(len(labels))]
        with self._lock:
            return [self._zones[parent].zone for parent in parents if parent in self._zones]

    def seed(
        self, name: str, rtype: str, value: str, *, ttl: int = 600, zone: str | None = None
    ) -> Record:
        """Add a record without a start time, so every server shows the record at once."""
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
        """Write a record now, in the innermost zone of the name or in `zone`.

        Raises KeyError if no zone contains the name.
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
        """Remove a record now; servers that lag show the removal later. Raises KeyError."""
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
        """Return the records in force, oldest first. Disabled records are included."""
        with self._lock:
            return [
                record
                for record in sorted(self._current.values(), key=lambda record: record.id)
                if (zone is None or record.zone == _tidy(zone))
                and (name is None or record.name == _tidy(name))
                and (rtype is None or record.rtype == rtype)
            ]

    def served(self, zone: str, name: str, at: float) -> list[Record]:
        """Return the records with exactly this name that a server shows at the moment `at`."""
        with self._lock:
            versions = self._zones[zone].versions.get(name, ())
            return [record for record in versions if record.is_served(at)]

    def exists(self, zone: str, name: str, at: float) -> bool:
        """Whether the name, or a name below, has a record (RFC 8020) or is a zone's name."""
        with self._lock:
            return self.leads_to_a_zone(name) or any(
                record.is_served(at)
                for owner, versions in self._zones[zone].versions.items()
                if _is_at_or_below(owner, name)
                for record in versions
            )

    def leads_to_a_zone(self, name: str) -> bool:
        """Whether the name is a zone's name, or an ancestor of a zone; "" is the root."""
        with self._lock:
            return any(_is_at_or_below(zone, name) for zone in self._zones)

    def serial(self, zone: str, at: float) -> int:
        """Return the SOA serial: 1 plus the number of changes up to the moment `at`."""
        with self._lock:
            return 1 + bisect_right(self._zones[zone].changes, at)


def _tidy(name: str) -> str:
    return name.rstrip(".").lower()


def _is_at_or_below(name: str, other: str) -> bool:
    return not other or name == other or name.endswith(f".{other}")
