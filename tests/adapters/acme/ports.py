"""The issuer's ports in these tests: a clock, a DNS provider, and propagation without a delay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from certferry.adapters.acme.propagation import SilentServers
from certferry.core.discovery.inventory import FoundZone
from certferry.errors import DnsError, DnsUnavailable, Interrupted, PropagationTimeout
from certferry.text import Text
from certferry_sandbox.zones import Zones

LONGEST_SLEEP = 0.02  # seconds


class Clock:
    """Real time, except that pauses are short: Pebble needs only a moment."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        self.pauses: list[float] = []
        self.stopped: Interrupted | None = None

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def pause(self, seconds: float) -> None:
        """Let the seconds pass."""
        if self.stopped is not None:
            raise self.stopped
        self.pauses.append(seconds)
        slept = min(seconds, LONGEST_SLEEP)
        time.sleep(slept)
        self._ahead += timedelta(seconds=seconds - slept)

    def advance(self, time: timedelta) -> None:
        """Advance the time without a pause."""
        self._ahead += time


class ZoneDns:
    """A DNS provider that writes directly into the sandbox's zones.

    The errors in `before_adding`, `after_adding` and `while_removing` are raised at those moments.
    Values in `fails_for` cannot be removed. The next `finds_nothing` searches by name and value
    find no record.
    """

    def __init__(self, zones: Zones) -> None:
        self._zones = zones
        self.added: list[tuple[str, str]] = []
        self.removals: list[str | None] = []
        self.before_adding: DnsError | None = None
        self.after_adding: DnsError | None = None
        self.while_removing: DnsError | Interrupted | None = None
        self.fails_for: set[str] = set()
        self.finds_nothing = 0

    def zones(self) -> tuple[FoundZone, ...]:
        """Return every zone. Each zone has a record of its name servers."""
        return tuple(map(FoundZone, sorted({record.zone for record in self._zones.records()})))

    def add_txt(self, name: str, value: str) -> str:
        if self.before_adding is not None:
            raise self.before_adding
        self.added.append((name, value))
        handle = str(self._zones.create(name, "TXT", value, ttl=600).id)
        if self.after_adding is not None:
            raise self.after_adding
        return handle

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        self.removals.append(handle)
        if self.while_removing is not None:
            raise self.while_removing
        if value in self.fails_for:
            raise unavailable()
        if handle is None and self.finds_nothing:
            self.finds_nothing -= 1
            return False
        for record in self._zones.records(name=name, rtype="TXT"):
            if record.value == value and handle in {None, str(record.id)}:
                self._zones.remove(record.id)
                return True
        return False


class AtOnce:
    """Propagation in zones without lag: a value is present at once, or stays absent."""

    def __init__(self, zones: Zones, clock: Clock) -> None:
        self._zones = zones
        self._clock = clock
        self.error: BaseException | None = None
        self.looks = True
        self.sees_cnames = True

    def follow(self, name: str) -> str:
        for record in self._zones.records(name=name, rtype="CNAME"):
            return record.value.removesuffix(".")
        return name

    def wildcard_alias(self, name: str) -> str | None:
        _, _, parent = name.partition(".")
        for record in self._zones.records(name=f"*.{parent}", rtype="CNAME"):
            return record.value.removesuffix(".")
        return None

    def wait(
        self,
        wanted: Mapping[str, frozenset[str]],
        report: Callable[[Text, datetime, datetime], None],
    ) -> None:
        """Report once, and raise an error if a value is missing."""
        now = self._clock.now()
        report(Text("waiting for the challenge to appear"), now, now + timedelta(minutes=1))
        if self.error is not None:
            raise self.error
        for name, values in wanted.items():
            shown = {record.value for record in self._zones.records(name=name, rtype="TXT")}
            if self.looks and not values <= shown:
                raise PropagationTimeout(Text("{name} does not show it", name=name))

    def silent_servers(self, names: Sequence[str]) -> Iterator[SilentServers]:
        """Yield nothing, because every name server of the zones answers."""
        del names
        return iter(())


def unavailable() -> DnsUnavailable:
    """Return the error of a provider that gives no answer."""
    return DnsUnavailable(Text("the provider did not answer"))
