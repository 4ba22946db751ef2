"""Write and remove challenge records at any DNS service that gives each record an id."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from msgspec import Struct

from certferry.core.certificates.names import suffixes
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import no_zone_for
from certferry.core.redaction import Secret
from certferry.errors import DnsError, DnsRejected, DnsUnavailable
from certferry.ports.progress import Pause
from certferry.text import Text

log = logging.getLogger(__name__)

PAUSES_OF_A_LOOK = (1.0, 2.0, 4.0)  # seconds between searches for a record in doubt
PAUSES_AFTER_LOSS = (1.0, 3.0)  # seconds before each repetition of a removal
CREATE_ATTEMPTS = 2
ZONE_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){1,126}", re.ASCII)

ALL_ZONES = Text("the zones of the account")


def revealed(setting: Secret | str) -> str:
    """Return the text of a setting, stripped; a `Secret` is revealed."""
    return (setting.reveal() if isinstance(setting, Secret) else setting).strip()


def hosts_of(value: object) -> frozenset[str]:
    """Read a list of host names from a service; malformed names are dropped."""
    hosts = value if isinstance(value, list) else []
    names = (host.rstrip(".").lower() for host in hosts if isinstance(host, str))
    return frozenset(filter(is_zone_name, names))


def is_zone_name(name: str) -> bool:
    """Return whether a text from a service is a well-formed name of a zone."""
    return ZONE_NAME.fullmatch(name) is not None


def zones_holding(name: str, zones: Iterable[Zone]) -> list[Zone]:
    """Return the zones that hold a name, compared by whole labels, longest first."""
    by_name = {zone.name: zone for zone in zones}
    return [by_name[suffix] for suffix in suffixes(name) if suffix in by_name]


class OutcomeUnknown(Exception):
    """Raised after a write if the service may or may not have carried out the write."""

    def __init__(self, problem: Text) -> None:
        super().__init__(str(problem))
        #: Why the outcome is unknown.
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of the account."""

    #: The service's id of the zone.
    id: str
    #: The zone's name, in A-labels and lower case.
    name: str
    #: Why the zone takes no records; `None` if the zone takes records.
    problem: DnsRejected | None = None
    #: Hosts that the service expects in the zone's delegation.
    name_servers: frozenset[str] = frozenset()

    def host_of(self, name: str) -> str:
        """Return the part of a name left of the zone; `@` for the zone's own name."""
        return name.removesuffix(self.name).rstrip(".") or "@"

    def name_of(self, host: str) -> str:
        """Return the absolute name of a host in the zone; the reverse of `host_of`."""
        return self.name if host == "@" else f"{host}.{self.name}"


class TxtRecord(Struct, frozen=True):
    """A TXT record."""

    #: The service's id of the record.
    id: str
    #: The absolute name, in A-labels and lower case.
    name: str
    #: The text, without quotes around it.
    value: str
    #: `False`: switched off at the service, and so absent from DNS.
    is_enabled: bool = True


class TxtService(Protocol):
    """The zones and TXT records of an account. Thread-safe. Every method raises `DnsError`."""

    def zones(self) -> list[Zone]:
        """List every zone. The service is asked only once."""
        ...

    def zones_above(self, name: str) -> Iterable[Zone]:
        """Find the zones that hold a name, longest first."""
        ...

    def records(self, zone: Zone, name: str) -> list[TxtRecord]:
        """List the TXT records at exactly `name`."""
        ...

    def record(self, zone: Zone, record_id: str, about: str) -> TxtRecord | None:
        """Read a record by its id; `None` if gone, of another type or in another zone."""
        ...

    def create(self, zone: Zone, name: str, value: str) -> str | None:
        """Write a record; return its id, or `None` for a duplicate. Raises `OutcomeUnknown`."""
        ...

    def remove(self, zone: Zone, record_id: str, about: str) -> bool:
        """Remove a record by id; return whether the record existed. Raises `OutcomeUnknown`."""
        ...

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        ...


@dataclass(eq=False)
class TxtRecords:
    """The `DnsProvider` of one account at a `TxtService`. Thread-safe.

    A handle is `zone id|record id`.
    """

    #: The service's name in sentences.
    named: str
    #: The account at the service.
    service: TxtService
    #: Waits, and ends when the run is stopped.
    pause: Pause
    #: Seconds between searches for a record that may have been written.
    looks: tuple[float, ...] = PAUSES_OF_A_LOOK
    #: Whether a new record is read back by its id.
    reads_back: bool = True
    #: Name, value and handle → zone, of records written by this process.
    _written: dict[tuple[str, str, str | None], Zone] = field(default_factory=dict, init=False)

    def zones(self) -> tuple[FoundZone, ...]:
        """See `ports.survey.ZoneKeeper.zones`."""
        return tuple(
            FoundZone(zone.name, zone.problem.message if zone.problem else None)
            for zone in self._by_name().values()
        )

    def name_servers(self, zone: str) -> frozenset[str]:
        """See `ports.examination.Delegated.name_servers`."""
        held = self._by_name().get(zone)
        return held.name_servers if held else frozenset()

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
        own_zone = self._written.get((name, value, handle))
        if own_zone is not None and self._remove(own_zone, record_id, name):
            return True
        zone = self._zone(name)
        record = None
        if record_id and zone_id == zone.id:
            record = self._look_up(zone, record_id, name, value)
        # The record in the handle may be gone or another record by now. The value must go in any
        # case, so search for the value as well.
        record = record or self._find(zone, name, value)
        return record is not None and self._remove(zone, record.id, name)

    def _by_name(self) -> dict[str, Zone]:
        """Return the zones by name. If two zones have the same name, return a writable zone."""
        zones = sorted(self.service.zones(), key=lambda zone: zone.problem is None)
        return {zone.name: zone for zone in zones}

    def _zone(self, name: str) -> Zone:
        blocked = []
        for zone in self.service.zones_above(name):
            if zone.problem is None:
                return zone
            log.warning(Text("{problem}; certferry skips the zone", problem=zone.problem.message))
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
                    "{service} says that the record exists, but does not list it",
                    service=self.named,
                )
            record = self._find_written(zone, name, value)
            if record is not None:
                return self._must_be_enabled(record)
        raise in_doubt(name, problem)

    def _is_there(self, zone: Zone, record_id: str, name: str, value: str) -> bool:
        """Read a new record back by its id, and return whether the record is there. If the read
        fails, or the service is not to be asked (`reads_back`), return `True`.
        """
        if not self.reads_back:
            return True
        try:
            record = self.service.record(zone, record_id, name)
        except DnsError as exc:
            log.debug("the new record could not be read back: %s", exc.message)
            return True
        return record is not None and (record.name, record.value) == (name, value)

    def _find_written(self, zone: Zone, name: str, value: str) -> TxtRecord | None:
        """Search repeatedly for a record that the service may have written; return `None` if no
        search finds the record.
        """
        try:
            record = self._find(zone, name, value)
            for pause in self.looks:
                if record is not None:
                    break
                self.pause(pause)
                record = self._find(zone, name, value)
        except DnsError as exc:
            # The search failed, so the record may exist.
            raise in_doubt(name, exc.message) from exc
        return record

    def _look_up(self, zone: Zone, record_id: str, name: str, value: str) -> TxtRecord | None:
        """Return the record with an id if its name and value match. Otherwise return `None`: the
        service may have given the id to another record.
        """
        try:
            record = self.service.record(zone, record_id, name)
        except DnsRejected:
            return None  # the caller searches the list
        wanted = (name, value)
        return record if record is not None and (record.name, record.value) == wanted else None

    def _find(self, zone: Zone, name: str, value: str) -> TxtRecord | None:
        """Return the record with exactly this value, or `None`."""
        records = self.service.records(zone, name)
        return next((record for record in records if record.value == value), None)

    def _remove(self, zone: Zone, record_id: str, name: str) -> bool:
        """Remove a record, and return whether the record existed. If the outcome is unknown, repeat
        the removal with the same id, without a search, because lists may lag behind.
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
        """Return the record's id, or raise `DnsRejected` for a record switched off."""
        if record.is_enabled:
            return record.id
        raise DnsRejected(
            Text("{name}: the record exists, but is switched off", name=record.name),
            hint=Text("remove the record at {service}", service=self.named),
        )


def in_doubt(name: str, problem: Text) -> DnsUnavailable:
    """Return the error for a change with unknown outcome."""
    sentence = Text("{name}: unknown whether the change took effect: {problem}")
    hint = Text("try again in a few minutes; certferry looks for the record first")
    return DnsUnavailable(sentence.filled(name=name, problem=problem), hint=hint)


STOP_CHECK = 0.5  # seconds between two checks whether the run was stopped


class AccountTurns:
    """Lets one thread at a time use an account. Thread-safe."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._lock = threading.Lock()

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Wait for a turn and hold the turn for a `with` block. Raises the errors of `pause`."""
        while not self._lock.acquire(timeout=STOP_CHECK):
            self._pause(0)  # raises if the run was stopped
        try:
            yield
        finally:
            self._lock.release()
