"""How a challenge record is put into an account and taken away again, at any DNS service that names
its records by id.

A record in doubt is looked for before it is written again, and a new one is read back.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol

from certferry.core.certificates.names import suffixes
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import no_zone_for
from certferry.errors import DnsError, DnsRejected, DnsUnavailable
from certferry.ports.progress import Pause
from certferry.text import Text

log = logging.getLogger(__name__)

PAUSES_OF_A_LOOK = (1.0, 2.0, 4.0)  # seconds between looks for a record that may have been written
PAUSES_AFTER_LOSS = (1.0, 3.0)  # seconds before each repetition of a removal
CREATE_ATTEMPTS = 2
ZONE_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){1,126}", re.ASCII)

ALL_ZONES = Text("the zones of the account")


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
    """A zone of the account. `name` is in A-labels; `problem` says why nothing can be written;
    `name_servers` are those that it is to be delegated to, none where the service does not say.
    """

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
    """One account's zones and TXT records. Safe to share between threads.

    Its methods raise `DnsAccessDenied`, `DnsRejected` and `DnsUnavailable`.
    """

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
        """Write a record and return its id, or `None` when the identical one is there already.
        Raises `OutcomeUnknown` as well.
        """
        ...

    def remove(self, zone: Zone, record_id: str, about: str) -> bool:
        """Remove a record by its id; return whether it was there. Raises also `OutcomeUnknown`."""
        ...

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        ...


class TxtRecords:
    """Writes challenge records into the zones of one account. Safe to use from threads.

    A handle is `zone id|record id`. `named` is how the service is called in sentences; `looks` are
    the seconds between looks for a record that may have been written. With `reads_back`, a new
    record is read once by its id.
    """

    def __init__(
        self,
        named: str,
        service: TxtService,
        pause: Pause,
        *,
        looks: tuple[float, ...] = PAUSES_OF_A_LOOK,
        reads_back: bool = True,
    ) -> None:
        self._named = named
        self._service = service
        self._pause = pause
        self._looks = looks
        self._reads_back = reads_back
        self._written: dict[tuple[str, str, str | None], Zone] = {}

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
        return self._service.clock_ahead()

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        name = name.rstrip(".").lower()
        zone = self._zone(name)
        handle = f"{zone.id}|{self._write(zone, name, value)}"
        self._written[name, value, handle] = zone
        return handle

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`."""
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
        zones = sorted(self._service.zones(), key=lambda zone: zone.problem is None)
        return {zone.name: zone for zone in zones}

    def _zone(self, name: str) -> Zone:
        blocked = []
        for zone in self._service.zones_above(name):
            if zone.problem is None:
                return zone
            log.warning(Text("{problem}; it is not used", problem=zone.problem.message))
            blocked.append(zone.problem)
        raise blocked[0] if blocked else no_zone_for(name, sorted(self._by_name()))

    def _write(self, zone: Zone, name: str, value: str) -> str:
        """Write a record and return its id."""
        for _ in range(CREATE_ATTEMPTS):
            try:
                record_id = self._service.create(zone, name, value)
            except OutcomeUnknown as exc:
                problem = exc.problem
            else:
                if record_id and self._is_there(zone, record_id, name, value):
                    return record_id
                problem = Text(
                    "{service} says that the record exists, but does not show it",
                    service=self._named,
                )
            record = self._find_written(zone, name, value)
            if record is not None:
                return self._must_be_enabled(record)
        raise in_doubt(name, problem)

    def _is_there(self, zone: Zone, record_id: str, name: str, value: str) -> bool:
        """Read a record back that was just written. Where it cannot be read, the service's word
        counts: the name servers are asked for it afterwards, and its id must not be lost.
        """
        if not self._reads_back:
            return True
        try:
            record = self._service.record(zone, record_id, name)
        except DnsError as exc:
            log.debug("the new record could not be read back: %s", exc.message)
            return True
        return record is not None and (record.name, record.value) == (name, value)

    def _find_written(self, zone: Zone, name: str, value: str) -> TxtRecord | None:
        """Find a record that may have been written, several times."""
        try:
            record = self._find(zone, name, value)
            for pause in self._looks:
                if record is not None:
                    break
                self._pause(pause)
                record = self._find(zone, name, value)
        except DnsError as exc:
            # Of the look, not of the record: that may be there, and must not be forgotten.
            raise in_doubt(name, exc.message) from exc
        return record

    def _look_up(self, zone: Zone, record_id: str, name: str, value: str) -> TxtRecord | None:
        """Return the record of a handle, if it is the one with this name and value: a handle that
        was kept elsewhere may have been changed there, and is another record's then.
        """
        try:
            record = self._service.record(zone, record_id, name)
        except DnsRejected:
            return None  # the list shows it as well
        wanted = (name, value)
        return record if record is not None and (record.name, record.value) == wanted else None

    def _find(self, zone: Zone, name: str, value: str) -> TxtRecord | None:
        """Find the record with exactly this value."""
        records = self._service.records(zone, name)
        return next((record for record in records if record.value == value), None)

    def _remove(self, zone: Zone, record_id: str, name: str) -> bool:
        remove = partial(self._service.remove, zone, record_id, name)
        return removed_by_id(remove, name, self._pause)

    def _must_be_enabled(self, record: TxtRecord) -> str:
        """Return the record's id: one that is switched off would never be seen."""
        if record.is_enabled:
            return record.id
        raise DnsRejected(
            Text("{name}: the record is there, but switched off", name=record.name),
            hint=Text("remove it at {service}", service=self._named),
        )


def removed_by_id(remove: Callable[[], bool], name: str, pause: Pause) -> bool:
    """Remove a record by its id; return whether it was there. This is repeated without looking
    first: a list could lag behind. Raises what `remove` raises, but for `OutcomeUnknown`.
    """
    for attempt, rest in enumerate((0.0, *PAUSES_AFTER_LOSS)):
        if rest:
            pause(rest)
        try:
            return remove() or attempt > 0
        except OutcomeUnknown as exc:
            problem = exc.problem
    raise in_doubt(name, problem)


def in_doubt(name: str, problem: Text) -> DnsUnavailable:
    """Return the error for a change at a name that may or may not have been carried out."""
    return DnsUnavailable(
        Text(
            "{name}: the change may or may not have taken effect: {problem}",
            name=name,
            problem=problem,
        ),
        hint=Text("try again in some minutes; certferry looks for the record first"),
    )


STOP_CHECK = 0.5
"""Seconds between two looks at whether the run was stopped."""


class Turns:
    """The turns at one account. Safe to use from threads."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._lock = threading.Lock()

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Wait for our turn, and keep it for a `with` block. Raises what `pause` raises where the
        run is stopped.
        """
        while not self._lock.acquire(timeout=STOP_CHECK):
            self._pause(0)  # notices that the run was stopped
        try:
            yield
        finally:
            self._lock.release()
