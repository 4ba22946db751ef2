"""How a challenge record is written and removed, at any service that names records by id."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from certferry.core.certificates.names import suffixes
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import no_zone_for
from certferry.core.redaction import Secret
from certferry.errors import DnsError, DnsRejected, DnsUnavailable
from certferry.ports.progress import Pause
from certferry.text import Text

log = logging.getLogger(__name__)

PAUSES_OF_A_LOOK = (1.0, 2.0, 4.0)  # seconds between looks for a record that may have been written
PAUSES_AFTER_LOSS = (1.0, 3.0)  # seconds before each repetition of a removal
CREATE_ATTEMPTS = 2
ZONE_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){1,126}", re.ASCII)

ALL_ZONES = Text("the zones of the account")


def revealed(written: Secret | str) -> str:
    """Return a setting that may be a reference to a secret, without the blanks around it."""
    return (written.reveal() if isinstance(written, Secret) else written).strip()


def hosts_of(value: object) -> frozenset[str]:
    """Read the host names of a list that a service sent."""
    hosts = value if isinstance(value, list) else []
    names = (host.rstrip(".").lower() for host in hosts if isinstance(host, str))
    return frozenset(filter(is_zone_name, names))


def is_zone_name(name: str) -> bool:
    """Return whether a service's word can be a zone's name."""
    return ZONE_NAME.fullmatch(name) is not None


def zones_holding(name: str, zones: Iterable[Zone]) -> list[Zone]:
    """Return the zones that hold a name, by whole labels, the longest first."""
    by_name = {zone.name: zone for zone in zones}
    return [by_name[suffix] for suffix in suffixes(name) if suffix in by_name]


class OutcomeUnknown(Exception):
    """A write was sent, and no answer says whether it was carried out."""

    def __init__(self, problem: Text) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of the account. `name` is in A-labels; `problem` says why nothing can be written."""

    id: str
    name: str
    problem: DnsRejected | None = None
    name_servers: frozenset[str] = frozenset()

    def host_of(self, name: str) -> str:
        """Return what stands left of the zone in a name, `@` for nothing."""
        return name.removesuffix(self.name).rstrip(".") or "@"

    def name_of(self, host: str) -> str:
        """Return the name that a host has in the zone."""
        return self.name if host == "@" else f"{host}.{self.name}"


@dataclass(frozen=True, slots=True)
class TxtRecord:
    """A TXT record. `name` is absolute, in A-labels and lower case; `value` has no quotes."""

    id: str
    name: str
    value: str
    is_enabled: bool = True


class TxtService(Protocol):
    """One account's zones and TXT records, safe to share between threads. Raises `DnsError`."""

    def zones(self) -> list[Zone]:
        """List every zone; asked for once."""
        ...

    def zones_above(self, name: str) -> Iterable[Zone]:
        """Find the zones that hold a name, the longest first."""
        ...

    def records(self, zone: Zone, name: str) -> list[TxtRecord]:
        """List the TXT records at exactly this name."""
        ...

    def record(self, zone: Zone, record_id: str, about: str) -> TxtRecord | None:
        """Read one record by its id; `None` when it is gone, or no TXT record of the zone."""
        ...

    def create(self, zone: Zone, name: str, value: str) -> str | None:
        """Write a record; return its id, `None` for a duplicate. Raises also `OutcomeUnknown`."""
        ...

    def remove(self, zone: Zone, record_id: str, about: str) -> bool:
        """Remove a record by its id; return whether it was there. Raises also `OutcomeUnknown`."""
        ...

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        ...


@dataclass(eq=False)
class TxtRecords:
    """A `DnsProvider` that writes into the zones of one account. Safe to use from threads.

    A handle is `zone id|record id`. `named` is the service's name in sentences; `looks` are the
    seconds between looks for a record in doubt. `reads_back`: a new record is read by its id.
    """

    named: str
    service: TxtService
    pause: Pause
    looks: tuple[float, ...] = PAUSES_OF_A_LOOK
    reads_back: bool = True
    _written: dict[tuple[str, str, str | None], Zone] = field(default_factory=dict, init=False)

    def zones(self) -> tuple[FoundZone, ...]:
        """See `ports.survey.ZoneKeeper.zones`."""
        return tuple(
            FoundZone(zone.name, zone.problem.message if zone.problem else None)
            for zone in self._by_name().values()
        )

    def name_servers(self, zone: str) -> frozenset[str]:
        """See `ports.examination.Delegated.name_servers`."""
        found = self._by_name().get(zone)
        return found.name_servers if found else frozenset()

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return self.service.clock_ahead()

    def add_txt(self, name: str, value: str) -> str:
        name = name.rstrip(".").lower()
        zone = self._zone(name)
        handle = f"{zone.id}|{self._write(zone, name, value)}"
        self._written[name, value, handle] = zone
        return handle

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        name = name.rstrip(".").lower()
        zone_id, _, record_id = (handle or "").partition("|")
        known = self._written.get((name, value, handle))
        if known is not None and self._remove(known, record_id, name):
            return True
        zone = self._zone(name)
        record = None
        if record_id and zone_id == zone.id:
            record = self._look_up(zone, record_id, name, value)
        # A handle may be older than the record: the value itself must be gone.
        record = record or self._find(zone, name, value)
        return record is not None and self._remove(zone, record.id, name)

    def _by_name(self) -> dict[str, Zone]:
        """Return every zone; of two with one name, the one that can be written into."""
        zones = sorted(self.service.zones(), key=lambda zone: zone.problem is None)
        return {zone.name: zone for zone in zones}

    def _zone(self, name: str) -> Zone:
        blocked = []
        for zone in self.service.zones_above(name):
            if zone.problem is None:
                return zone
            log.warning(Text("{problem}; it is not used", problem=zone.problem.message))
            blocked.append(zone.problem)
        raise blocked[0] if blocked else no_zone_for(name, sorted(self._by_name()))

    def _write(self, zone: Zone, name: str, value: str) -> str:
        """Write a record and return its id."""
        for _ in range(CREATE_ATTEMPTS):
            try:
                record_id = self.service.create(zone, name, value)
            except OutcomeUnknown as exc:
                problem = exc.problem
            else:
                if record_id and self._is_there(zone, record_id, name, value):
                    return record_id
                problem = Text(
                    "{service} says that the record exists, but does not show it",
                    service=self.named,
                )
            record = self._find_written(zone, name, value)
            if record is not None:
                return self._must_be_enabled(record)
        raise in_doubt(name, problem)

    def _is_there(self, zone: Zone, record_id: str, name: str, value: str) -> bool:
        """Read a new record back. If that fails, it counts as there: its id must not be lost."""
        if not self.reads_back:
            return True
        try:
            record = self.service.record(zone, record_id, name)
        except DnsError as exc:
            log.debug("the new record could not be read back: %s", exc.message)
            return True
        return record is not None and (record.name, record.value) == (name, value)

    def _find_written(self, zone: Zone, name: str, value: str) -> TxtRecord | None:
        """Find a record that may have been written, several times."""
        try:
            record = self._find(zone, name, value)
            for pause in self.looks:
                if record is not None:
                    break
                self.pause(pause)
                record = self._find(zone, name, value)
        except DnsError as exc:
            # Of the look, not of the record: that may be there, and must not be forgotten.
            raise in_doubt(name, exc.message) from exc
        return record

    def _look_up(self, zone: Zone, record_id: str, name: str, value: str) -> TxtRecord | None:
        """Return a handle's record, if it has this name and value: another may have its id."""
        try:
            record = self.service.record(zone, record_id, name)
        except DnsRejected:
            return None  # the list shows it as well
        wanted = (name, value)
        return record if record is not None and (record.name, record.value) == wanted else None

    def _find(self, zone: Zone, name: str, value: str) -> TxtRecord | None:
        """Find the record with exactly this value."""
        records = self.service.records(zone, name)
        return next((record for record in records if record.value == value), None)

    def _remove(self, zone: Zone, record_id: str, name: str) -> bool:
        """Remove a record; return whether it was there. No list is read before a repetition, since
        it could lag behind.
        """
        for attempt, rest in enumerate((0.0, *PAUSES_AFTER_LOSS)):
            if rest:
                self.pause(rest)
            try:
                return self.service.remove(zone, record_id, name) or attempt > 0
            except OutcomeUnknown as exc:
                problem = exc.problem
        raise in_doubt(name, problem)

    def _must_be_enabled(self, record: TxtRecord) -> str:
        """Return the record's id: one that is switched off would never be seen."""
        if record.is_enabled:
            return record.id
        raise DnsRejected(
            Text("{name}: the record is there, but switched off", name=record.name),
            hint=Text("remove it at {service}", service=self.named),
        )


def in_doubt(name: str, problem: Text) -> DnsUnavailable:
    """Return the error for a change at a name that may or may not have been carried out."""
    said = Text("{name}: the change may or may not have taken effect: {problem}")
    hint = Text("try again in some minutes; certferry looks for the record first")
    return DnsUnavailable(said.filled(name=name, problem=problem), hint=hint)


STOP_CHECK = 0.5  # seconds between two looks at whether the run was stopped


class AccountTurns:
    """The turns at one account. Safe to use from threads."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._lock = threading.Lock()

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Wait for our turn, and keep it for a `with` block. Raises what `pause` raises."""
        while not self._lock.acquire(timeout=STOP_CHECK):
            self._pause(0)  # notices that the run was stopped
        try:
            yield
        finally:
            self._lock.release()
