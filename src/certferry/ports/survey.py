"""The ports through which accounts are surveyed, whatever is declared. Each is an ability that an
adapter may lack: `isinstance` shows which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from certferry.core.discovery.inventory import FoundZone, Survey

Looked = Callable[[int, int], None]
"""Called after each domain with how many have been looked at, and of how many."""


@runtime_checkable
class Surveyed(Protocol):
    """A target whose domains can be listed. One that lacks this proposes nothing to `init`, and has
    nothing to `discover`.
    """

    def survey(self, looked: Looked) -> Survey:
        """Find every domain, what it is bound to, and every certificate. What cannot be read beside
        the domains is reported with what was found. Changes nothing. Raises `DeployError`.
        """


@runtime_checkable
class ZoneKeeper(Protocol):
    """A DNS account whose zones can be listed. Of one that lacks this, every name is taken to be in
    a zone of its own.
    """

    def zones(self) -> tuple[FoundZone, ...]:
        """Find every zone. Changes nothing. Raises `DnsError`."""


@runtime_checkable
class ZoneFinder(Protocol):
    """A DNS account whose zones cannot be listed, and that finds the one that holds a name."""

    def zone_of(self, name: str) -> FoundZone:
        """Find the zone that a name is written into. Changes nothing. Raises `ZoneNotFound` where
        the account has none, and `DnsError`.
        """
