"""The doors through which accounts are looked at before anything is declared."""

from __future__ import annotations

from typing import Protocol

from certferry.core.survey import FoundZone, Survey


class Surveyed(Protocol):
    """A target whose domains can be listed."""

    def survey(self) -> Survey:
        """Find every domain and its certificate. Changes nothing. Raises `DeployError`."""
        ...


class ZoneKeeper(Protocol):
    """A DNS account whose zones can be listed."""

    def zones(self) -> tuple[FoundZone, ...]:
        """Find every zone. Changes nothing. Raises `DnsError`."""
        ...
