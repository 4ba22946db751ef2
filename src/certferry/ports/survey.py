"""The ports through which accounts are surveyed; `isinstance` shows what an account can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from certferry.core.discovery.inventory import FoundZone, Survey

Looked = Callable[[int, int], None]
"""Called after each domain with how many have been looked at, and of how many."""


@runtime_checkable
class Surveyed(Protocol):
    """A target whose domains can be listed, for `init` and `discover`."""

    def survey(self, looked: Looked) -> Survey:
        """Find every domain, what it is bound to, and every certificate. What cannot be read beside
        the domains is reported with what was found. Changes nothing. Raises `DeployError`.
        """


@runtime_checkable
class ZoneKeeper(Protocol):
    """A DNS account whose zones can be listed; else every name is taken to be in its own."""

    def zones(self) -> tuple[FoundZone, ...]:
        """Find every zone. Changes nothing. Raises `DnsError`."""


@runtime_checkable
class ZoneFinder(Protocol):
    """A DNS account whose zones cannot be listed, and that finds the one that holds a name."""

    def zone_of(self, name: str) -> FoundZone:
        """Find the zone of a name. Changes nothing. Raises `ZoneNotFound` and `DnsError`."""
