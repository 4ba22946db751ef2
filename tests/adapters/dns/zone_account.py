"""An account at the stand-in of a DNS service: zones, and a clock that only pauses advance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from certferry_sandbox.zones import Zones
from tests.adapters.recorded_pauses import RecordedPauses

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class ZoneAccount:
    def __init__(self) -> None:
        self.waits = RecordedPauses()
        self.zones = Zones(self.waits.clock)

    def now(self) -> datetime:
        """Return the time: the start plus the sum of all pauses."""
        return NOW + timedelta(seconds=self.waits.clock())

    def values(self, name: str) -> list[str]:
        """Return every TXT value at the name, one value for each record."""
        return [record.value for record in self.zones.records(name=name, rtype="TXT")]
